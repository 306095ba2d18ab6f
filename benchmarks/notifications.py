"""One notification to each of 5,000 subscribers, each at an address of its own.

The notifications are put into the outbox of a running server in one transaction, as a procedure does it, and its
dispatcher delivers them; the other side is an aiohttp client that posts the same bodies to the same addresses, as
many at a time. Both are timed by the targets, from the first notification to the last.
"""

import asyncio
from collections.abc import AsyncIterator

import aiohttp

from benchmarks.measure import Figures, Row, Scale, Target, alternate, column
from benchmarks.population import address
from benchmarks.server import Server, process, running_server
from ml_repository.outbox import Message, Outbox

GROUP = "notifications"
AT_ONCE = 256
"""As many streams as our dispatcher serves at the same time."""

_PATIENCE = 600.0


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Notifications per second."""
    count = scale.size(5000, 100)
    async with running_server() as server, process("benchmarks.bare", "targets") as (_, port):
        targets = [f"http://{address(number)}:{port}/notify" for number in range(count)]
        counter = f"http://127.0.0.1:{port}"
        sent = 0

        async def ours() -> Figures:
            nonlocal sent
            sent += 1
            await _enqueue(server, targets, sent)
            return await _rate(counter, count)

        async def other() -> Figures:
            await _post(targets)
            return await _rate(counter, count)

        mine, theirs = await alternate(ours, other, scale.repetitions)
    yield Row(
        GROUP,
        f"fan-out to {count:,} subscribers",
        "notifications/s",
        column(mine, "rate"),
        "bare aiohttp client",
        column(theirs, "rate"),
        Target(0.5, at_least=True),
    )


def _body(number: int) -> dict[str, object]:
    """A notification as a training sends it."""
    details = {"round": 7, "state": "ROUND_RUNNING", "metrics": {"accuracy": 0.91, "loss": 0.31}}
    return {"trainingID": f"training-{number}", "trngComplPerc": 35, "aimle": details}


async def _enqueue(server: Server, targets: list[str], number: int) -> None:
    messages = [
        Message(f"subscription-{place}", number, target, _body(place)) for place, target in enumerate(targets)
    ]
    async with server.database() as database:
        outbox = Outbox(database)
        await database.run_in_transaction(lambda session: outbox.enqueue(messages, session))


async def _post(targets: list[str]) -> None:
    places = iter(enumerate(targets))
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def post() -> None:
            for place, target in places:
                async with session.post(target, json=_body(place)) as answer:
                    answer.raise_for_status()

        await asyncio.gather(*(post() for _ in range(AT_ONCE)))


async def _rate(counter: str, count: int) -> Figures:
    """What the targets say once all have had their notification; they forget it then."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(_PATIENCE):
        while True:
            async with session.get(f"{counter}/came") as answer:
                came = await answer.json()
            if came["count"] == count:
                break
            await asyncio.sleep(0.2)
        async with session.post(f"{counter}/forget"):
            return {"rate": (count - 1) / came["seconds"]}
