"""Notifications that are given up, and what becomes of those behind them."""

from ml_repository.outbox import Outbox
from tests.support import Listener, ManualClock, eventually
from tests.support_outbox import POLICY, MakeDispatcher, empty, failed, messages, move, numbers


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
