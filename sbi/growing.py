"""A file that is read while a thread still writes it, from its beginning to its end."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path

from sbi.hashed_file import opened
from sbi.undisturbed import finished

Reached = Callable[[int], None]
"""(size) -> None: so many bytes, from the first on, are in the file; called in the thread."""


async def chunks_while_written(
    write: Callable[[Reached], None], unfinished: Path, path: Path, size: int
) -> AsyncGenerator[bytes, None]:
    """The chunks of the file that `write` makes in a thread, `size` bytes each, the last one fewer.

    What `write` raises is raised here. Whoever stops early must close this (`aclosing`), which waits for its end.

    Args:
        write: called once.
        unfinished, path: where the file is until `write` returns, and from then on.
        size: of a chunk.
    """
    growth, offset = _Growth(), 0
    writing = asyncio.create_task(asyncio.to_thread(write, growth.reached))
    writing.add_done_callback(growth.end)
    try:
        await growth.beyond(size)
        with await _opened(unfinished, path, writing) as file:
            while True:
                await growth.beyond(offset + size)
                if growth.ended:
                    await writing
                data = await asyncio.to_thread(os.pread, file.fileno(), size, offset)
                if not data:
                    return
                yield data
                offset += len(data)
    finally:
        with suppress(Exception):  # it was raised above, unless something else was before
            await finished(writing)


class _Growth:
    """How far a file has come."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()
        self._size = 0
        self.ended = False

    def reached(self, size: int) -> None:
        """Note it, from any thread."""
        self._size = size
        self._loop.call_soon_threadsafe(self._more.set)

    def end(self, _: "asyncio.Task[None]") -> None:
        """There will be no more."""
        self.ended = True
        self._more.set()

    async def beyond(self, size: int) -> None:
        """Return when there are so many bytes, or all that there will be."""
        while self._size < size and not self.ended:
            await self._more.wait()
            self._more.clear()


async def _opened(unfinished: Path, path: Path, writing: "asyncio.Task[None]") -> FileIO:
    try:
        return opened(unfinished)
    except FileNotFoundError:  # so it has ended, well or not
        await writing
        return opened(path)
