"""One database operation for what many tasks want at about the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Calls `work` with all items that came since its last call began: the first at once, then in groups.

    Args:
        work: does it for one item or more.
        pause: seconds from the end of one call to the begin of the next, in which further items gather.
        most: items of one call.
    """

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[R]], *, pause: float, most: int) -> None:
        self._work = work
        self._pause = pause
        self._most = most
        self._items: list[tuple[T, asyncio.Future[R]]] = []
        self._working: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """What `work` returned for the group with this item; what it raised otherwise."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._items.append((item, future))
        if self._working is None:
            self._working = asyncio.create_task(self._run())
        return await future

    async def finish(self) -> None:
        """Return when nothing is left to do."""
        if self._working is not None:
            await asyncio.wait([self._working])

    async def _run(self) -> None:
        while self._items:
            group, self._items = self._items[: self._most], self._items[self._most :]
            await self._do(group)
            await asyncio.sleep(self._pause)
        self._working = None

    async def _do(self, group: Sequence[tuple[T, "asyncio.Future[R]"]]) -> None:
        try:
            result = await self._work([item for item, _ in group])
        except Exception as error:  # whoever waits for it says what it means
            for _, future in group:
                if not future.done():  # nobody waits any more
                    future.set_exception(error)
        else:
            for _, future in group:
                if not future.done():
                    future.set_result(result)
