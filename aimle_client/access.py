"""How the SDK comes to an AIMLE server: where that is, with whose tokens, whom it trusts, with how much patience."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aimle_client.addresses import api_root, trusting, web_address
from aimle_client.http import ClientCredentials, Connection, RetryPolicy, open_session
from aimle_client.tokens import TokenProvider
from sbi.clock import Clock


class Access:
    """A way to a server, which `open` takes.

    Args:
        server: its apiRoot.
        credentials: for tokens; None: requests carry none.
        token_url: where tokens come from; empty: from the server itself.
        ca_file: PEM file of the CAs that are trusted, and nobody else; None: whom Python and the system trust.
        retry: patience with the server.

    Raises:
        ValueError: an address does not begin with http:// or https:// and a host; `ca_file` cannot be read.
    """

    def __init__(
        self,
        server: str,
        credentials: ClientCredentials | None,
        *,
        token_url: str = "",
        ca_file: Path | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock,
    ) -> None:
        self._server = api_root("server", server)
        self._credentials = credentials
        self._token_url = web_address("token_url", token_url or f"{self._server}/oauth2/token")
        self._trusted = trusting(ca_file)
        self._retry = retry
        self._clock = clock

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Connection]:
        """The connection, for the time of the block."""
        async with open_session(self._trusted) as session:
            tokens = None
            if self._credentials is not None:
                tokens = TokenProvider(session, self._token_url, self._credentials, self._clock)
            yield Connection(self._server, session, tokens=tokens, retry=self._retry, clock=self._clock)
