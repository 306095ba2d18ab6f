"""What is enqueued is sent if, and only if, its transaction commits; and never twice."""

import pytest

from ml_repository.database import Database
from ml_repository.outbox import Message, Outbox
from tests.support import Listener, eventually
from tests.support_outbox import MakeDispatcher, empty, messages, numbers


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
