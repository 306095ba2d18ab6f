"""Notifications from the commit to the target: in order, whatever the target does."""

import asyncio

from aiohttp import web

from ml_repository.outbox import Outbox
from tests.support import Listener, ManualClock, eventually
from tests.support_outbox import POLICY, Hang, MakeDispatcher, empty, failed, messages, move, numbers


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
