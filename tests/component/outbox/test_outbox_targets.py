"""What leaves for a target, and where none may be."""

import logging
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_network

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from ml_repository.outbox import Message, Outbox
from sbi.outbound import Outbound, TargetPolicy
from tests.support import Listener, ManualClock
from tests.support_outbox import POLICY, MakeDispatcher, empty, failed, messages, move


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
