"""Work that a cancellation of its caller waits for, so that nobody meets it half done."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def undisturbed(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread; a cancellation waits for its end."""
    return await finished(asyncio.create_task(asyncio.to_thread(function, *args, **kwargs)))


async def finished(work: "asyncio.Task[T]") -> T:
    """What a task returns; a cancellation waits for its end, whatever that is."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # nobody asks for it any more
        raise
