"""Tools of the tests: a clock that tests move, waiting for a condition, and a listener for notifications."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from sbi.clock import Clock

START = datetime(2030, 1, 1, tzinfo=UTC)
"""After any real today, so that the database's own cleaning up (TTL) does not touch a test's documents."""


class ManualClock(Clock):
    """Time stands still until `advance` moves it; whoever sleeps wakes when it passes."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, asyncio.Event]] = []

    def now(self) -> datetime:
        """The moment that the test has reached."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since `START`."""
        return (self._now - START).total_seconds()

    async def sleep(self, seconds: float) -> None:
        """Return when the test has moved the clock by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = (self._now + timedelta(seconds=seconds), asyncio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Move on, and wake everybody whose time has come."""
        self._now += timedelta(seconds=seconds)
        for until, awake in self._sleepers:
            if until <= self._now:
                awake.set()


@asynccontextmanager
async def passing(clock: ManualClock, times: float = 20) -> AsyncIterator[None]:
    """Time passes meanwhile, so many times as fast as outside."""

    async def pass_on() -> None:
        while True:
            await asyncio.sleep(0.01)
            clock.advance(0.01 * times)

    task = asyncio.create_task(pass_on())
    try:
        yield
    finally:
        task.cancel()


class JumpingClock(Clock):
    """The system's clock, until the test sets it: then `now` jumps, and nothing else does."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        """The system's time and the jump."""
        return super().now() + self.ahead


async def eventually(predicate: Callable[[], Any], timeout: float = 10) -> Any:
    """The first true value of `predicate()`, awaited if need be; AssertionError after `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            while True:
                value = predicate()
                if isinstance(value, Awaitable):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not true within {timeout} s: {predicate}") from None


Answer = int | web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One request that a listener got; `body` is its JSON, None if there was none."""

    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class Listener:
    """A real HTTP server on loopback that collects what is posted to it.

    `async with Listener() as listener:`. Each request takes the first of `answers` (a status, a response, or
    a handler); when none is left, `default` answers.
    """

    answers: list[Answer] = field(default_factory=list)
    default: Answer = 204
    received: list[Received] = field(default_factory=list)
    port: int = 0

    @property
    def bodies(self) -> list[Any]:
        """The JSON bodies in the order in which they came."""
        return [request.body for request in self.received]

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """An address on this listener."""
        return f"http://{host}:{self.port}{path}"

    async def __aenter__(self) -> "Listener":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        self.received.append(Received(request.path, body, dict(request.headers)))
        answer = self.answers.pop(0) if self.answers else self.default
        if isinstance(answer, int):
            return web.Response(status=answer)
        return answer if isinstance(answer, web.StreamResponse) else await answer(request)
