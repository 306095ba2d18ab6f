"""Notification targets that fail in every way, and servers that are killed: what still arrives, and when."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

from aimle_client.testing import running_server
from ml_repository.database import Database
from ml_repository.outbox import Message, Outbox
from tests.support import Listener, ManualClock, eventually
from tests.support_process import Server, aimle, outbox_of, peak_memory, server_process
from tests.support_targets import (
    Poured,
    continue_forever,
    drip,
    hang,
    pour,
    redirect_ever_on,
    redirect_in_a_circle,
    talk_nonsense,
    target,
)

pytestmark = pytest.mark.faults

MEBIBYTE = 1 << 20
QUICK = ("--outbox-backoff", "0.1", "--outbox-backoff-max", "1", "--outbox-timeout", "1")
HEAD_200 = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"
HEAD_500 = HEAD_200.replace(b"200 OK", b"500 No")
ENDLESS_HEADERS = b"HTTP/1.1 200 OK\r\n"
ENDLESS_CHUNK = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\nRetry-After: 0\r\n\r\n40000000\r\n"


@asynccontextmanager
async def bad_targets(poured: Poured, refusing: int) -> AsyncIterator[dict[str, str]]:
    """Addresses of targets that never take a message, by what they do."""
    behaviours = {
        "hangs": hang,
        "drips": drip,
        "nonsense": talk_nonsense,
        "continues": continue_forever,
        "pours-500": pour(poured, HEAD_500),
        "pours-headers": pour(poured, ENDLESS_HEADERS, b"X-Header: value\r\n" * 65536),
        "pours-chunk": pour(poured, ENDLESS_CHUNK),
    }
    async with AsyncExitStack() as stack:
        found = {name: await stack.enter_async_context(target(each)) for name, each in behaviours.items()}
        for name, answer in (("circle", redirect_in_a_circle), ("ever-on", redirect_ever_on), ("500", 500)):
            listener = await stack.enter_async_context(Listener(default=answer))
            found[name] = listener.url("/a")
        yield found | {"refuses": f"http://127.0.0.1:{refusing}/"}


def messages(stream: str, url: str, numbers: range, padding: str = "") -> list[Message]:
    """Messages of a stream; each body has its number."""
    return [Message(stream, number, url, {"n": number, "padding": padding}) for number in numbers]


def came(listener: Listener, path: str) -> list[int]:
    """The numbers that came there, in the order in which they came."""
    return [request.body["n"] for request in listener.received if request.path == path]


async def attempts_of(outbox: Outbox) -> dict[str, int]:
    """How often each stream's head has failed."""
    return {head.message.stream: head.attempts for head in await outbox.heads()}


async def test_bad_targets_harm_nobody(tmp_path: Path, unused_tcp_port: int) -> None:
    """Whatever bad targets do, others get everything at once, memory stays bounded, and no message is lost."""
    poured = Poured()
    async with (
        bad_targets(poured, unused_tcp_port) as bad,
        target(pour(poured, HEAD_200)) as generous,
        Listener() as healthy,
        server_process(tmp_path, *QUICK) as server,
        outbox_of(tmp_path) as outbox,
    ):
        await outbox.enqueue(messages("warm-up", healthy.url("/warm-up"), range(5)))
        await eventually(lambda: len(healthy.received) == 5)
        before = peak_memory(server)
        for name, url in bad.items():
            for copy in range(3):
                await outbox.enqueue(messages(f"{name}-{copy}", url, range(3), "x" * 100_000))
        await outbox.enqueue(messages("generous", generous, range(10)))
        await eventually(lambda: _each_at_least(outbox, 1, 3 * len(bad)), timeout=20)
        for number in range(20):
            await outbox.enqueue(messages("healthy", healthy.url("/"), range(number, number + 1)))
            await eventually(lambda n=number: len(came(healthy, "/")) > n, timeout=4)
        assert came(healthy, "/") == list(range(20))
        await eventually(lambda: _each_at_least(outbox, 4, 3 * len(bad)), timeout=30)
        assert await outbox.head("generous") is None
        assert {head.message.sequence for head in await outbox.heads()} == {0}
        assert await outbox.dead_letters() == []
        assert peak_memory(server) - before < 64 * MEBIBYTE
        assert MEBIBYTE < poured.total < 32 * MEBIBYTE * poured.requests


async def _each_at_least(outbox: Outbox, attempts: int, streams: int) -> bool:
    failed = await attempts_of(outbox)
    return len(failed) == streams and min(failed.values()) >= attempts


async def test_many_subscriptions_of_a_hanging_target(tmp_path: Path) -> None:
    """A target that hangs with hundreds of streams holds up no other, and its own are each tried."""
    async with (
        target(hang) as hanging,
        Listener() as healthy,
        server_process(tmp_path, *QUICK, "--outbox-timeout", "10"),
        outbox_of(tmp_path) as outbox,
    ):
        for number in range(300):
            await outbox.enqueue(messages(f"hangs-{number:03}", hanging, range(1)))
        for number in range(10):
            await outbox.enqueue(messages("healthy", healthy.url("/"), range(number, number + 1)))
            await eventually(lambda n=number: len(healthy.received) > n, timeout=4)
        assert came(healthy, "/") == list(range(10))
        assert len(await outbox.heads()) == 300


async def test_an_hour_of_errors(mongo_url: str, database: Database) -> None:
    """After an hour of 500 everything arrives in order and once, and nobody else noticed that hour."""
    clock = ManualClock()
    settings = {"database.url": mongo_url, "database.name": database.db.name}
    backoff = {"outbox.backoff": 1.0, "outbox.backoff_max": 600.0}
    async with (
        Listener(default=500) as failing,
        Listener() as healthy,
        running_server(settings | backoff, clock=clock),
    ):
        outbox = Outbox(database, clock)
        for minute in range(60):
            await outbox.enqueue(messages("failing", failing.url(), range(minute, minute + 1)))
            await outbox.enqueue(messages("healthy", healthy.url(), range(minute, minute + 1)))
            await _until_received(clock, healthy, minute + 1, seconds=60)
        assert came(healthy, "/") == list(range(60))
        assert set(came(failing, "/")) == {0}
        assert 8 <= len(failing.received) <= 20
        failed = len(failing.received)
        failing.default = 204
        await _until_received(clock, failing, failed + 60, seconds=600)
        assert came(failing, "/")[failed:] == list(range(60))
        await eventually(lambda: _nothing_left(outbox))


async def _until_received(clock: ManualClock, listener: Listener, number: int, seconds: int) -> None:
    """Let `seconds` pass on the clock, a second at a time, and see that so many have come by then."""
    for _ in range(seconds):
        clock.advance(1)
        await asyncio.sleep(0)
    await eventually(lambda: _passes(clock, listener, number))


def _passes(clock: ManualClock, listener: Listener, number: int) -> bool:
    clock.advance(0.01)  # whoever lay down late wakes as well
    return len(listener.received) >= number


async def _nothing_left(outbox: Outbox) -> bool:
    return not await outbox.heads() and not await outbox.dead_letters()


async def test_kill_9(tmp_path: Path, unused_tcp_port: int) -> None:
    """What is pending at a kill -9 is delivered by the next server in order; what was under way comes again."""
    let_go = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if (await request.json())["n"] in (5, 12):
            await let_go.wait()
        return web.Response(status=204)

    async with Listener(default=answer) as listener, AsyncExitStack() as later:
        async with server_process(tmp_path, *QUICK) as server:
            async with outbox_of(tmp_path) as outbox:
                await outbox.enqueue(messages("down", f"http://127.0.0.1:{unused_tcp_port}/", range(10)))
                await outbox.enqueue(messages("up", listener.url("/"), range(20)))
                await eventually(lambda: came(listener, "/") == [*range(6)], timeout=20)
                await eventually(lambda: _failed(outbox, "down"))
            server.send_signal(signal.SIGKILL)
            await server.wait()
        down = await later.enter_async_context(Listener(port=unused_tcp_port))
        let_go.set()
        async with server_process(tmp_path, *QUICK), outbox_of(tmp_path) as outbox:
            await eventually(lambda: _nothing_left(outbox), timeout=20)
        assert came(listener, "/") == [*range(6), *range(5, 20)]
        assert came(down, "/") == [*range(10)]


async def _failed(outbox: Outbox, stream: str) -> bool:
    return (await attempts_of(outbox)).get(stream, 0) > 0


async def test_killed_again_and_again(tmp_path: Path) -> None:
    """However often servers are killed, each stream arrives complete and in order, only repeating its head."""

    async def slowly(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return web.Response(status=204)

    async with Listener(default=slowly) as listener:
        for generation in range(4):
            async with server_process(tmp_path, *QUICK) as server, outbox_of(tmp_path) as outbox:
                if generation == 0:
                    for stream in "abcd":
                        await outbox.enqueue(messages(stream, listener.url(f"/{stream}"), range(60)))
                if generation == 3:
                    await eventually(lambda: _nothing_left(outbox), timeout=30)
                    break
                before = len(listener.received)
                await eventually(lambda n=before: len(listener.received) > n + 40, timeout=20)
                server.send_signal(signal.SIGKILL)
                await server.wait()
        for stream in "abcd":
            numbers = came(listener, f"/{stream}")
            assert sorted(set(numbers)) == list(range(60))
            assert all(later - earlier in (0, 1) for earlier, later in pairwise(numbers)), numbers
            assert len(numbers) <= 63


async def test_killed_before_it_forgets(tmp_path: Path, mongo_url: str, database: Database) -> None:
    """What was delivered and not yet forgotten at a kill comes again, before what follows it; nothing is lost."""
    paths = {f"/{number}": 3 for number in range(40)} | {"/long": 60}
    outbox = Outbox(database)
    server = Server.on(tmp_path, mongo_url, database)
    async with Listener() as listener:
        for path, length in paths.items():
            await outbox.enqueue(messages(path, listener.url(path), range(length)))
        for turn in (2, 3):
            await server.start("before", "forgetting", str(turn))
            await server.has_died()
        await server.start()
        await eventually(lambda: _nothing_left(outbox), timeout=20)
        await server.kill()
        repeated = 0
        for path, length in paths.items():
            numbers = came(listener, path)
            assert sorted(set(numbers)) == list(range(length))
            assert all(later - earlier in (0, 1) for earlier, later in pairwise(numbers)), numbers
            repeated += len(numbers) - length
        assert repeated > 2, "many at a time are delivered before they are forgotten"


async def test_dead_letters_are_sent_again(tmp_path: Path, unused_tcp_port: int) -> None:
    """What was given up because its target failed in any way is listed, and arrives once the operator asks."""
    flags = ("--outbox-max-age", "1", "--outbox-backoff", "0.1", "--outbox-timeout", "0.3")
    async with (
        Listener(default=500) as failing,
        Listener(default=redirect_in_a_circle) as circling,
        server_process(tmp_path, *flags),
        outbox_of(tmp_path) as outbox,
        AsyncExitStack() as later,
    ):
        urls = {"500": failing.url("/a"), "circle": circling.url("/a")}
        urls |= {"refuses": f"http://127.0.0.1:{unused_tcp_port}/a", "hangs": failing.url("/hangs")}
        for name, url in urls.items():
            await outbox.enqueue(messages(name, url, range(2)))
        await eventually(lambda: _dead(outbox, 8), timeout=30)
        listed = (await aimle(tmp_path, "outbox", "list", "--dead")).out
        for name, status in (("500", "500"), ("circle", "no answer"), ("refuses", "no answer")):
            lines = [line for line in listed.splitlines() if line.startswith(name)]
            assert [line.endswith(status) for line in lines] == [True, True], listed
        failing.default = circling.default = 204
        refusing = await later.enter_async_context(Listener(port=unused_tcp_port))
        skip = {id(each): len(each.received) for each in (failing, circling, refusing)}
        assert (await aimle(tmp_path, "outbox", "retry", "--all")).out == "8 due again\n"
        await eventually(lambda: _nothing_left(outbox), timeout=20)
        for listener, number in ((failing, 4), (circling, 2), (refusing, 2)):
            fresh = listener.received[skip[id(listener)] :]
            assert len(fresh) == number
            assert sorted(request.body["n"] for request in fresh if request.path == "/a") == [0, 1]


async def _dead(outbox: Outbox, number: int) -> bool:
    return len(await outbox.dead_letters()) == number
