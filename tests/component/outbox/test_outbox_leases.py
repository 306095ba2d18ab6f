"""Several dispatchers on one outbox: who sends what, and what follows a process that is gone."""

from datetime import datetime, timedelta

from ml_repository.database import Database
from ml_repository.outbox import LEASES, Outbox, shard_of
from tests.support import Listener, ManualClock, eventually
from tests.support_outbox import Hang, MakeDispatcher, empty, messages, move, numbers


async def test_two_dispatchers_share_the_work_in_order(
    outbox: Outbox, dispatch: MakeDispatcher, clock: ManualClock
) -> None:
    """Whoever delivers, each stream's messages arrive once and in order."""
    async with Listener() as target:
        for number in range(12):
            await outbox.enqueue(messages(target.url(f"/{number}"), 10, f"s{number}"))
        dispatchers = [await dispatch(), await dispatch()]
        for number in range(12):

            async def over(stream: str = f"s{number}") -> bool:
                for dispatcher in dispatchers:
                    dispatcher.wake()
                return await outbox.head(stream) is None

            await eventually(over)
        for number in range(12):
            came = [request.body["n"] for request in target.received if request.path == f"/{number}"]
            assert came == list(range(10))


async def test_a_shard_has_one_holder(outbox: Outbox, clock: ManualClock) -> None:
    """A claimed shard cannot be claimed until its lease is given back or has run out; then the first is out."""

    def later(seconds: float = 30) -> datetime:
        return clock.now() + timedelta(seconds=seconds)

    assert await outbox.claim(7, "one", later())
    assert await outbox.claim(8, "one", later())
    assert not await outbox.claim(7, "two", later())
    assert (await outbox.held_by_others("one"), await outbox.held_by_others("two")) == (set(), {7, 8})
    clock.advance(20)
    assert await outbox.extend({7, 8}, "one", later()) == {7, 8}
    clock.advance(20)
    assert not await outbox.claim(7, "two", later())
    clock.advance(10)
    assert await outbox.claim(7, "two", later())
    assert await outbox.extend({7, 8}, "one", later()) == {8}
    await outbox.release({7, 8}, "one")
    assert not await outbox.claim(7, "one", later())
    assert await outbox.claim(8, "two", later())
    await outbox.release({7}, "two")
    assert await outbox.claim(7, "one", later())


async def test_a_killed_process_is_replaced(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """A shard whose holder does nothing any more is served by another one when the lease has run out."""
    await outbox.enqueue(messages(listener.url(), 2))
    await outbox.enqueue(messages(listener.url("/other"), 1, "other"))
    assert shard_of("sub") != shard_of("other")
    assert await outbox.claim(shard_of("sub"), "killed", clock.now() + timedelta(seconds=30))
    dispatcher = await dispatch()
    await empty(outbox, "other")
    assert [request.path for request in listener.received] == ["/other"]
    move(clock, dispatcher, 31)
    await empty(outbox)
    assert numbers(listener) == [0, 0, 1]


async def test_two_processes_have_shards_of_their_own(
    outbox: Outbox, dispatch: MakeDispatcher, database: Database
) -> None:
    """While one process has its hands full, another serves other shards; they are free when all is done."""
    hang = Hang()
    async with Listener(default=hang) as first, Listener(default=hang) as second:
        for number in range(64):
            target = (first, second)[number % 2]
            await outbox.enqueue(messages(target.url(f"/{number}"), 1, f"s{number}"))
        both = [await dispatch()]
        await eventually(lambda: len(first.received) + len(second.received) == 16)
        both.append(await dispatch())
        await eventually(lambda: len(first.received) + len(second.received) == 32)
        leases = await database[LEASES].find({}).to_list(None)
        assert len({lease["owner"] for lease in leases}) == 2
        hang.let_go.set()

        async def over() -> bool:
            for dispatcher in both:
                dispatcher.wake()
            return await outbox.heads() == [] and await database[LEASES].count_documents({}) == 0

        await eventually(over)
        paths = [request.path for request in (*first.received, *second.received)]
        assert sorted(paths) == sorted(f"/{number}" for number in range(64))


async def test_a_lease_that_is_lost(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """Who loses a shard during an attempt makes no other; the stream goes on when the new holder is gone."""
    hang = Hang()
    listener.answers = [hang]
    await outbox.enqueue(messages(listener.url(), 3))
    dispatcher = await dispatch()
    await eventually(lambda: listener.received)
    await outbox.enqueue(messages(listener.url("/other"), 1, "other"))
    dispatcher.wake()
    await empty(outbox, "other")
    assert numbers(listener) == [0, 0]
    clock.advance(31)
    assert await outbox.claim(shard_of("sub"), "successor", clock.now() + timedelta(seconds=30))
    hang.let_go.set()

    async def one_is_gone() -> bool:
        head = await outbox.head("sub")
        return head is not None and head.message.sequence == 1

    await eventually(one_is_gone)
    await outbox.enqueue(messages(listener.url("/other"), 2, "other"))
    dispatcher.wake()
    await empty(outbox, "other")
    assert [request.path for request in listener.received].count("/") == 1
    move(clock, dispatcher, 31)
    await empty(outbox)
    assert [request.body["n"] for request in listener.received if request.path == "/"] == [0, 1, 2]


async def test_a_lease_lasts_as_long_as_it_is_used(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """A stream that takes longer than a lease stays with its process, and nobody else gets its shard."""
    hangs = [Hang() for _ in range(4)]
    listener.answers = list(hangs)
    await outbox.enqueue(messages(listener.url(), 5))
    await dispatch()
    for number, hang in enumerate(hangs, 1):
        await eventually(lambda n=number: len(listener.received) == n)
        clock.advance(20)
        assert not await outbox.claim(shard_of("sub"), "other", clock.now() + timedelta(seconds=30))
        hang.let_go.set()
    await empty(outbox)
    assert numbers(listener) == [0, 1, 2, 3, 4]
