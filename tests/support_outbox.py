"""Messages in an outbox, dispatchers that send them, and waiting for what becomes of them."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from aimle_server.notifications.dispatcher import Dispatcher
from aimle_server.notifications.retry import RetryPolicy
from ml_repository.outbox import Message, Outbox
from tests.support import Listener, ManualClock, eventually

POLICY = RetryPolicy(first=10, longest=100, jitter=0, give_up_after=3600)


MakeDispatcher = Callable[..., Awaitable[Dispatcher]]


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
