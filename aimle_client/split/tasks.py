"""Tasks that end together."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any


async def either(*works: Coroutine[Any, Any, Any]) -> None:
    """Do these until the first of them is done or raises; the others are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            await end(task)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for it; what it raised before is of no interest any more."""
    task.cancel()
    await asyncio.wait([task])
    with contextlib.suppress(Exception, asyncio.CancelledError):
        task.result()
