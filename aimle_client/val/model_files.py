"""Model files to and from the repository's addresses, with this client's token and the SDK's errors."""

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from aimle_client.errors import CorruptTransfer, TransferFailed, refusal_of
from aimle_client.http import Connection, RetryPolicy
from sbi import transfer
from sbi.clock import Clock
from sbi.transfer import Patience, Progress

T = TypeVar("T")
Attempt = Callable[[Mapping[str, str]], Coroutine[Any, Any, T]]
"""A transfer with these headers, which carry the token."""


class ModelFiles:
    """Moves files; `path` is below the apiRoot. An interrupted transfer is taken up again as `retry` allows."""

    def __init__(self, connection: Connection, retry: RetryPolicy | None, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._patience = Patience()
        if retry is not None:
            self._patience = Patience(retry.attempts, retry.first, retry.longest, jitter=retry.jitter)

    async def get(self, path: str, target: Path, progress: Progress | None) -> None:
        """Download to `target`, which appears when it is whole and has the announced digest.

        Raises:
            RequestRefused, TransferFailed, CorruptTransfer.
        """

        def attempt(headers: Mapping[str, str]) -> Coroutine[Any, Any, transfer.Downloaded]:
            return transfer.download(
                self._connection.session,
                self._connection.server + path,
                target,
                headers=headers,
                progress=progress,
                patience=self._patience,
                clock=self._clock,
            )

        await self._authorized(path, attempt)

    async def put(self, path: str, source: Path, progress: Progress | None) -> None:
        """Upload the file `source`, with its digest.

        Raises:
            RequestRefused, TransferFailed.
        """

        async def attempt(headers: Mapping[str, str]) -> None:
            answer = await transfer.upload(
                self._connection.session,
                self._connection.server + path,
                source,
                headers=headers,
                progress=progress,
                patience=self._patience,
                clock=self._clock,
            )
            if answer.status == 401:
                raise transfer.TransferRefused(401, answer.body)
            if not 200 <= answer.status < 300:
                raise refusal_of(answer.status, answer.body)

        await self._authorized(path, attempt)

    async def _authorized(self, path: str, attempt: Attempt[T]) -> T:
        """The transfer's result; a token that is refused, perhaps in the middle, is renewed once."""
        scope = path.split("/")[1]
        try:
            try:
                return await attempt(await self._connection.authorization(scope))
            except transfer.TransferRefused as refused:
                if refused.status != 401:
                    raise
            await self._connection.request("HEAD", path)  # which replaces a token that is not taken any more
            return await attempt(await self._connection.authorization(scope))
        except transfer.TransferRefused as refused:
            raise refusal_of(refused.status, refused.body) from refused
        except transfer.CorruptTransfer as error:
            raise CorruptTransfer(str(error)) from error
        except transfer.TransferError as error:
            raise TransferFailed(str(error)) from error
