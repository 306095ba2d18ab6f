"""Work that is done together: who gets which result, and when."""

import asyncio
from collections.abc import Sequence

import pytest

from aimle_server.notifications.together import Together


class Recorder:
    """Work that takes until it is let go; fails for a group with a negative number."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.let_go = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> int:
        """The sum."""
        self.groups.append(list(items))
        await self.let_go.wait()
        if min(items) < 0:
            raise ValueError("negative")
        return sum(items)


async def test_what_comes_meanwhile_is_one_group() -> None:
    """The first goes at once; the others wait for it and go together, as many at a time as may."""
    work = Recorder()
    together = Together(work, pause=0, most=3)
    calls = [asyncio.create_task(together(0))]
    await asyncio.sleep(0.01)
    calls += [asyncio.create_task(together(number)) for number in (1, 2, 3, 4)]
    await asyncio.sleep(0.01)
    assert work.groups == [[0]]
    work.let_go.set()
    assert await asyncio.gather(*calls) == [0, 6, 6, 6, 4]
    assert work.groups == [[0], [1, 2, 3], [4]]


async def test_a_failure_is_its_groups() -> None:
    """An error reaches those who wait for it, and the next group is done; nobody waits for a cancelled call."""
    work = Recorder()
    together = Together(work, pause=0, most=2)
    calls = [asyncio.create_task(together(number)) for number in (1, -1, 2, 3)]
    await asyncio.sleep(0.01)
    calls[0].cancel()
    work.let_go.set()
    cancelled, failed, *rest = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert isinstance(failed, ValueError)
    assert rest == [5, 5]


async def test_finishing() -> None:
    """Finishing waits for what was asked for; afterwards, more can be."""
    work = Recorder()
    together = Together(work, pause=0.01, most=2)
    await together.finish()
    call = asyncio.create_task(together(1))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, work.let_go.set)
    await together.finish()
    assert call.done()
    with pytest.raises(ValueError, match="negative"):
        await together(-1)
