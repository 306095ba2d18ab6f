"""Notifications from the commit to the target: a real database, real dispatchers, real listeners."""

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from aimle_server.notifications.dispatcher import Dispatcher
from aimle_server.notifications.retry import RetryPolicy
from ml_repository.database import Database
from ml_repository.outbox import INDEXES, LEASES, MESSAGES, Due, Message, Outbox, Taken, shard_of
from sbi.outbound import Outbound, TargetPolicy
from tests.support import START, Listener, ManualClock, eventually

POLICY = RetryPolicy(first=10, longest=100, jitter=0, give_up_after=3600)
MakeDispatcher = Callable[..., Awaitable[Dispatcher]]


@pytest.fixture
def clock() -> ManualClock:
    """The test's time."""
    return ManualClock()


@pytest.fixture
async def outbox(database: Database, clock: ManualClock) -> Outbox:
    """An empty outbox."""
    await database.ensure_indexes(INDEXES)
    return Outbox(database, clock)


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    """Calls that may go to loopback."""
    client = Outbound(TargetPolicy(allow=(ip_network("127.0.0.0/8"),)))
    yield client
    await client.close()


@pytest.fixture
async def dispatch(outbox: Outbox, outbound: Outbound, clock: ManualClock) -> AsyncIterator[MakeDispatcher]:
    """Makes running dispatchers, and stops them."""
    running: list[Dispatcher] = []

    async def make(calls: Outbound = outbound, timeout: float = 10) -> Dispatcher:
        dispatcher = Dispatcher(
            outbox, calls, POLICY, clock, random.Random(1), concurrency=16, poll_interval=1, timeout=timeout
        )
        running.append(dispatcher)
        await dispatcher.start()
        return dispatcher

    yield make
    await asyncio.gather(*(dispatcher.stop(grace=0) for dispatcher in running))


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A notification target."""
    async with Listener() as target:
        yield target


def messages(target: str, count: int, stream: str = "sub") -> list[Message]:
    """`count` messages of a stream; each body is its number."""
    return [Message(stream, number, target, {"n": number}) for number in range(count)]


def numbers(listener: Listener) -> list[int]:
    """What came, in the order in which it came."""
    return [body["n"] for body in listener.bodies]


async def failed(outbox: Outbox, stream: str = "sub", attempts: int = 1) -> None:
    """Return when the head of the stream has failed so often."""

    async def noted() -> bool:
        head = await outbox.head(stream)
        return head is not None and head.attempts >= attempts

    await eventually(noted)


async def empty(outbox: Outbox, stream: str = "sub") -> None:
    """Return when the stream has nothing left to deliver."""

    async def nothing_left() -> bool:
        return await outbox.head(stream) is None

    await eventually(nothing_left)


def move(clock: ManualClock, dispatcher: Dispatcher, seconds: float) -> None:
    """Move the clock, and have the dispatcher look at once: it may be about to sleep from the new time on."""
    clock.advance(seconds)
    dispatcher.wake()


class Hang:
    """A handler that does not answer before it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Wait."""
        await self.let_go.wait()
        return web.Response(status=204)


async def test_messages_arrive_in_order(outbox: Outbox, dispatch: MakeDispatcher, listener: Listener) -> None:
    """Everything enqueued arrives once and in order, and is gone from the outbox then."""
    await outbox.enqueue(messages(listener.url(), 20))
    await dispatch()
    await empty(outbox)
    assert numbers(listener) == list(range(20))
    assert await outbox.due_streams(10) == []


async def test_waking_makes_delivery_immediate(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """With a clock that stands still, a woken dispatcher delivers what was enqueued since."""
    dispatcher = await dispatch()
    for message in messages(listener.url(), 3):
        await outbox.enqueue([message])
        dispatcher.wake()
        await empty(outbox)
    assert numbers(listener) == [0, 1, 2]


async def test_without_a_wake_the_outbox_is_polled(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """What another process enqueued is found at the next look."""
    await outbox.enqueue(messages(listener.url(), 1, "first"))
    await dispatch()
    await empty(outbox, "first")
    await outbox.enqueue(messages(listener.url(), 1, "second"))

    async def came() -> bool:
        clock.advance(1)
        return await outbox.head("second") is None

    await eventually(came)
    assert numbers(listener) == [0, 0]


async def test_the_order_holds_when_the_head_fails(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """While the head fails nothing overtakes it, not even what is enqueued meanwhile."""
    listener.answers = [500, web.Response(status=503, headers={"Retry-After": "60"})]
    await outbox.enqueue(messages(listener.url(), 2))
    dispatcher = await dispatch()
    await failed(outbox)
    move(clock, dispatcher, POLICY.first)
    await failed(outbox, attempts=2)
    await outbox.enqueue(messages(listener.url(), 3))
    move(clock, dispatcher, 59)

    async def looked_at() -> bool:
        return await outbox.due_streams(10) == []

    await eventually(looked_at)
    await dispatcher.stop()
    assert numbers(listener) == [0, 0]
    clock.advance(1)
    await dispatcher.start()
    await empty(outbox)
    assert numbers(listener) == [0, 0, 0, 1, 2]


async def test_a_hanging_target_delays_no_other(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """While some targets do not answer at all, the others get everything at once."""
    hang = Hang()
    async with Listener(default=hang) as hanging:
        for number in range(5):
            await outbox.enqueue(messages(hanging.url(), 3, f"slow-{number}"))
        await outbox.enqueue(messages(listener.url(), 10))
        await dispatch()
        await empty(outbox)
        assert numbers(listener) == list(range(10))
        assert numbers(hanging) == [0] * 5
        hang.let_go.set()
        for number in range(5):
            await empty(outbox, f"slow-{number}")


async def test_a_target_that_never_answers_is_tried_again(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """An attempt ends at its deadline and counts as failed; the next one may succeed."""
    hang = Hang()
    listener.answers = [hang]
    await outbox.enqueue(messages(listener.url(), 1))
    dispatcher = await dispatch(timeout=0.1)
    await failed(outbox)
    hang.let_go.set()
    move(clock, dispatcher, POLICY.first)
    await empty(outbox)
    assert numbers(listener) == [0, 0]


async def test_a_redirected_notification(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """307 and 308 lead to the target's new place; a circle is a failure and holds nobody up."""

    async def circle(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": request.path})

    listener.answers = [
        web.Response(status=307, headers={"Location": "/there"}),
        web.Response(status=308, headers={"Location": "/beyond"}),
    ]
    async with Listener(default=circle) as circling:
        await outbox.enqueue(messages(circling.url("/round"), 1, "circle"))
        await outbox.enqueue(messages(listener.url("/here"), 1))
        await dispatch()
        await empty(outbox)
        await failed(outbox, "circle")
    assert [request.path for request in listener.received] == ["/here", "/there", "/beyond"]
    assert len(circling.received) == 1


async def test_a_gigabyte_for_an_answer(outbox: Outbox, dispatch: MakeDispatcher, listener: Listener) -> None:
    """A target that answers 200 with a gigabyte has taken the message; its answer is not read."""
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": str(1 << 30)})
        await response.prepare(request)
        while sent < 1 << 30:
            await response.write(bytes(1 << 20))
            sent += 1 << 20
        return response

    listener.default = pour
    await outbox.enqueue(messages(listener.url(), 1))
    await dispatch()
    await empty(outbox)
    assert sent < 64 << 20


async def test_too_old_a_message_becomes_a_dead_letter(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """A message that fails beyond the age limit is kept as a dead letter, and its stream goes on."""
    listener.answers = [500, 500]
    await outbox.enqueue(messages(listener.url(), 2))
    dispatcher = await dispatch()
    await failed(outbox)
    move(clock, dispatcher, POLICY.give_up_after)
    await empty(outbox)
    assert numbers(listener) == [0, 0, 1]
    (letter,) = await outbox.dead_letters()
    assert (letter.message.body, letter.attempts, letter.status) == ({"n": 0}, 2, 500)
    assert letter.died == clock.now()


async def test_a_target_that_is_gone_is_given_up_early(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """After a few 410 the message is a dead letter, long before the age limit."""
    listener.default = 410
    await outbox.enqueue(messages(listener.url(), 1))
    dispatcher = await dispatch()
    for attempts in range(1, POLICY.lasting_attempts):
        await failed(outbox, attempts=attempts)
        move(clock, dispatcher, POLICY.longest)
    await empty(outbox)
    assert [letter.status for letter in await outbox.dead_letters()] == [410]


async def test_a_dead_letter_is_tried_anew(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """A revived dead letter is delivered like a new message; an unknown one is not there."""
    listener.answers = [500, 500, 500]
    await outbox.enqueue(messages(listener.url(), 1))
    dispatcher = await dispatch()
    await failed(outbox)
    move(clock, dispatcher, POLICY.give_up_after)
    (letter,) = await eventually(outbox.dead_letters)
    assert await outbox.retry(letter.message.id)
    assert not await outbox.retry("sub:000000000007")
    dispatcher.wake()
    await failed(outbox)
    assert await outbox.dead_letters() == []
    move(clock, dispatcher, POLICY.first)
    await empty(outbox)
    assert not await outbox.retry(letter.message.id)


async def test_a_dead_letter_in_front_of_a_failing_message(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """A revived dead letter goes first again, and what it overtook follows as soon as it has arrived."""
    listener.default = 410
    await outbox.enqueue(messages(listener.url(), 2))
    dispatcher = await dispatch()
    for attempts in range(1, POLICY.lasting_attempts):
        await failed(outbox, attempts=attempts)
        move(clock, dispatcher, POLICY.longest)
    (letter,) = await eventually(outbox.dead_letters)

    async def second_failed() -> bool:
        head = await outbox.head("sub")
        return head is not None and (head.message.sequence, head.attempts) == (1, 1)

    await eventually(second_failed)
    assert await outbox.retry(letter.message.id)
    dispatcher.wake()
    await failed(outbox)
    listener.default = 204
    move(clock, dispatcher, POLICY.first)
    await empty(outbox)
    assert numbers(listener) == [0, 0, 0, 1, 0, 0, 1]


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


async def test_a_long_stream_hides_no_other(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """However much waits behind a failing head, a younger stream is found and delivered."""
    listener.answers = [500]
    await outbox.enqueue(messages(listener.url(), 200))
    dispatcher = await dispatch()
    await failed(outbox)
    await outbox.enqueue(messages(listener.url("/young"), 1, "young"))
    dispatcher.wake()
    await empty(outbox, "young")
    assert [request.path for request in listener.received] == ["/", "/young"]


async def test_a_long_stream_and_many_short_ones(
    outbox: Outbox, dispatch: MakeDispatcher, clock: ManualClock
) -> None:
    """A stream longer than what is read at once and many that are not arrive each in order and once."""
    lengths = {"long": 100, "short": 5} | {f"s{number}": 1 for number in range(60)}
    async with Listener() as target:
        for stream, length in lengths.items():
            await outbox.enqueue(messages(target.url(f"/{stream}"), length, stream))
        await dispatch()
        for stream in lengths:
            await empty(outbox, stream)
        for stream, length in lengths.items():
            came = [request.body["n"] for request in target.received if request.path == f"/{stream}"]
            assert came == list(range(length))


async def test_what_is_read_of_streams(outbox: Outbox) -> None:
    """Of several streams everything is read, of what is too long for that only so much."""
    target = "http://ue.example"
    lengths = {"a": 1, "b": 100, "c": 2, "d": 40, "e": 3}
    for stream, length in lengths.items():
        await outbox.enqueue(messages(target, length, stream))
    found = await outbox.waiting([*lengths, "nothing"])
    sequences = {
        stream: [each.message.sequence for each in waiting.messages] for stream, waiting in found.items()
    }
    read = {"a": 1, "b": 32, "c": 2, "d": 32, "e": 3}
    assert sequences == {stream: list(range(length)) for stream, length in read.items()}
    assert [stream for stream, waiting in found.items() if waiting.more] == ["b", "d"]
    followed = [(this.message.sequence, behind is None) for this, behind in found["d"].with_following()]
    assert followed == [(number, False) for number in range(31)]


class CountingOutbox(Outbox):
    """Counts the looks at it."""

    looks = 0

    async def due_streams(self, *args: Any, **options: Any) -> list[Due]:
        """As it was, and one more."""
        self.looks += 1
        return await super().due_streams(*args, **options)


async def test_a_few_looks_find_everything(
    database: Database, outbound: Outbound, listener: Listener, clock: ManualClock, outbox: Outbox
) -> None:
    """Many more due streams than can be served at once are found together, not one after the other."""
    counting = CountingOutbox(database, clock)
    for number in range(200):
        await outbox.enqueue(messages(listener.url(), 1, f"s{number}"))
    dispatcher = Dispatcher(counting, outbound, POLICY, clock, random.Random(1), concurrency=8)
    await dispatcher.start()
    await eventually(lambda: len(listener.received) == 200)
    await dispatcher.stop()
    assert counting.looks <= 4
    assert await outbox.heads() == []


async def test_a_successor_is_due_when_its_head_has_gone(outbox: Outbox) -> None:
    """What was parked is due with its turn, however its head goes; so a crash in between leaves it due."""
    await outbox.enqueue(messages("http://ue.example", 4))
    (first, second, third, fourth) = (
        each.message for each in (await outbox.waiting(["sub"]))["sub"].messages
    )
    await outbox.park([(await outbox.waiting(["sub"]))["sub"]])
    await outbox.postponed(first, START + timedelta(seconds=1), 1, 500)
    assert await outbox.due_streams(10) == []
    await outbox.delivered([Taken(first, second)])
    assert [due.stream for due in await outbox.due_streams(10)] == ["sub"]
    await outbox.dead(second, 1, 500, third)
    head = await outbox.head("sub")
    assert head is not None
    assert (head.message, head.due) == (third, START)
    (_, last) = (await outbox.waiting(["sub"]))["sub"].messages
    assert last.due is not None
    assert (last.message, last.due > START) == (fourth, True)


async def test_what_nobody_has_read_is_not_parked(outbox: Outbox) -> None:
    """A message enqueued since its stream was read stays due: whoever parks the others does not know of it."""
    await outbox.enqueue(messages("http://ue.example", 2))
    read = (await outbox.waiting(["sub"]))["sub"]
    await outbox.enqueue(messages("http://ue.example", 3))
    await outbox.park([read])
    dues = [each.due for each in (await outbox.waiting(["sub"]))["sub"].messages]
    assert [due == START for due in dues] == [True, False, True]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({"due": {"$lte": START}}, "look"),
        ({"stream": "sub", "died": None}, "head"),
        ({"stream": {"$in": ["sub", "other"]}}, "head"),
        ({"stream": "sub", "died": None, "sequence": {"$gt": 1}}, "head"),
        ({"stream": "sub"}, "head"),
        ({"died": {"$gt": START}}, "died"),
    ],
)
async def test_queries_use_an_index(
    query: dict[str, object], index: str, outbox: Outbox, database: Database
) -> None:
    """No look at the outbox reads more of it than it is about."""
    await outbox.enqueue(messages("http://ue.example", 3))
    plan = await database[MESSAGES].find(query).explain()
    assert f"'indexName': '{index}'" in str(plan["queryPlanner"]["winningPlan"])


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


async def test_stopping_lets_requests_finish(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """stop() waits for the answer of a request under way and begins no other; a start goes on from there."""
    hang = Hang()
    listener.answers = [hang]
    await outbox.enqueue(messages(listener.url(), 2))
    dispatcher = await dispatch()
    await eventually(lambda: listener.received)
    stopping = asyncio.create_task(dispatcher.stop(grace=30))
    await asyncio.sleep(0)
    hang.let_go.set()
    await stopping
    head = await outbox.head("sub")
    assert head is not None
    assert (head.message.sequence, numbers(listener)) == (1, [0])
    await dispatcher.start()
    await empty(outbox)
    assert numbers(listener) == [0, 1]


async def test_stopping_breaks_off_what_takes_too_long(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """A request still without an answer after the grace is sent again by the next dispatcher, at once."""
    hang = Hang()
    listener.answers = [hang]
    await outbox.enqueue(messages(listener.url(), 1))
    dispatcher = await dispatch()
    await eventually(lambda: listener.received)
    await dispatcher.stop(grace=0.05)
    hang.let_go.set()
    await dispatch()
    await empty(outbox)
    assert numbers(listener) == [0, 0]


class AbortedError(Exception):
    """The test's reason to abort."""


async def test_an_aborted_transaction_sends_nothing(
    outbox: Outbox, database: Database, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """A message enqueued in a transaction is sent if that commits, and never otherwise."""
    dispatcher = await dispatch()

    async def abort() -> None:
        async with database.transaction() as session:
            await outbox.enqueue(messages(listener.url(), 1, "aborted"), session)
            raise AbortedError

    with pytest.raises(AbortedError):
        await abort()
    async with database.transaction() as session:
        await outbox.enqueue(messages(listener.url("/committed"), 1), session)
        dispatcher.wake()
        assert await outbox.head("sub") is None
    dispatcher.wake()
    await eventually(lambda: listener.received)
    await empty(outbox)
    assert [request.path for request in listener.received] == ["/committed"]
    assert await outbox.head("aborted") is None


async def test_transactions_do_not_meet_the_dispatcher(
    outbox: Outbox, database: Database, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """Enqueuing in a transaction to a stream that is being delivered conflicts with nothing."""
    dispatcher = await dispatch()
    for message in messages(listener.url(), 30):
        async with database.transaction() as session:
            await outbox.enqueue([message], session)
        dispatcher.wake()
    await empty(outbox)
    assert numbers(listener) == list(range(30))


async def test_enqueuing_twice_is_harmless(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """A procedure that runs again enqueues its message again, and the target gets one."""
    await outbox.enqueue(messages(listener.url(), 1))
    await outbox.enqueue([Message("sub", 0, listener.url("/again"), {"n": 7})])
    await dispatch()
    await empty(outbox)
    assert numbers(listener) == [0]


async def test_a_dropped_stream_sends_nothing(
    outbox: Outbox, database: Database, dispatch: MakeDispatcher
) -> None:
    """After an unsubscription nothing of the stream is left; its neighbour is untouched."""
    async with Listener() as target:
        await outbox.enqueue(messages(target.url("/dropped"), 3))
        await outbox.enqueue(messages(target.url("/kept"), 1, "sub:1"))
        async with database.transaction() as session:
            await outbox.drop("sub", session)
        await dispatch()
        await empty(outbox, "sub:1")
        assert [request.path for request in target.received] == ["/kept"]


async def test_any_json_is_sent_as_it_was(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener
) -> None:
    """Attribute names that a database treats specially, and any text, arrive unchanged."""
    body = {"$set": {"a.b": 1, "": [None, True, 1.5]}, "n": "ä\u0000\U0001f600"}
    await outbox.enqueue([Message("sub", 0, listener.url(), body)])
    await dispatch()
    await empty(outbox)
    assert listener.bodies == [body]


class MetadataName(AbstractResolver):
    """A DNS in which every name is the cloud's metadata service."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Always the same address."""
        address = "169.254.169.254"
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("target", ["http://innocent.example/", "http://[::1]/", "redirect"])
async def test_forbidden_targets_are_not_called(
    target: str, outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, clock: ManualClock
) -> None:
    """Metadata and loopback are out of reach by name, by address and by redirect; soon it is a dead letter."""
    listener.default = web_redirect("http://innocent.example/latest/meta-data")
    url = listener.url() if target == "redirect" else target
    calls = Outbound(TargetPolicy(allow=(ip_network("127.0.0.1/32"),)), resolver=MetadataName())
    dispatcher = await dispatch(calls)
    await outbox.enqueue(messages(url, 1))
    dispatcher.wake()
    for attempts in range(1, POLICY.lasting_attempts):
        await failed(outbox, attempts=attempts)
        move(clock, dispatcher, POLICY.longest)
    await empty(outbox)
    (letter,) = await outbox.dead_letters()
    assert (letter.attempts, letter.status) == (POLICY.lasting_attempts, None)
    await dispatcher.stop()
    await calls.close()


async def test_logs_name_stream_and_status_only(
    outbox: Outbox, dispatch: MakeDispatcher, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure is logged with its stream and status; address and content are nobody's business."""
    caplog.set_level(logging.DEBUG, "aimle")
    listener.answers = [500]
    await outbox.enqueue([Message("sub", 0, listener.url("/capability-key"), {"n": "confidential"})])
    await dispatch()
    await failed(outbox)
    text = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("aimle"))
    assert "stream sub" in text
    assert "500" in text
    assert "capability-key" not in text
    assert "confidential" not in text


def web_redirect(location: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A handler that redirects there."""

    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": location})

    return redirect
