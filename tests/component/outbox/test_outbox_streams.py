"""Which streams a dispatcher looks at, and what it reads of them."""

import random
from datetime import timedelta
from typing import Any

import pytest

from aimle_server.notifications.dispatcher import Dispatcher
from ml_repository.database import Database
from ml_repository.outbox import MESSAGES, Due, Outbox, Taken
from sbi.outbound import Outbound
from tests.support import START, Listener, ManualClock, eventually
from tests.support_outbox import POLICY, MakeDispatcher, empty, failed, messages


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
