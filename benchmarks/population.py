"""Registered clients in any number, written to a server's database as registering writes them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.server import Server, registration
from ml_repository.registrations import COLLECTION, place, tags

RARE = "rare"
"""A data set that only some clients have, see `populate`."""

_BATCH = 1000


async def populate(server: Server, first: int, end: int, port: int = 9, rare_every: int = 0) -> None:
    """Clients with the numbers from `first` to `end` (not included).

    Args:
        port: of the addresses at which they are reached; each has a loopback address of its own.
        rare_every: each client whose number this divides has the data set `RARE` too; 0: none has it.
    """
    async with server.database() as database:
        for start in range(first, end, _BATCH):
            numbers = range(start, min(start + _BATCH, end))
            documents = [_document(number, port, rare_every) for number in numbers]
            await database[COLLECTION].insert_many(documents, ordered=False)


def address(number: int) -> str:
    """A loopback address for each number below 4 million."""
    return f"127.{1 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}"


def _document(number: int, port: int, rare_every: int) -> dict[str, Any]:
    rare = [RARE] if rare_every and number % rare_every == 0 else []
    name = f"known-{number}"
    info = registration(name, f"http://{address(number)}:{port}", "common", *rare)
    now = datetime.now(UTC)
    return {
        "_id": name,
        "_registration": f"registration-{number}",
        "_owner": name,
        "_expires": now + timedelta(days=1),
        "_stated": now,
        "_tags": tags(info),
        "_place": place(name),
        "_stats": {"asked": 0, "dropped": 0},
        "regData": info,
        "expTime": (now + timedelta(days=1)).isoformat(),
    }
