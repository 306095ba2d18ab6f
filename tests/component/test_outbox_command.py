"""`aimle-server outbox`, as an operator has it: what is listed, what is not shown, and what another try does."""

import os
from pathlib import Path

import pytest

from ml_repository.database import Database
from ml_repository.outbox import Message, Outbox, Taken
from tests.support import START, Listener, ManualClock, eventually
from tests.support_process import aimle, outbox_of, server_process


@pytest.fixture
def where(mongo_url: str, database: Database) -> dict[str, str]:
    """The environment in which the command finds the test's database."""
    return {"AIMLE_DATABASE_URL": mongo_url, "AIMLE_DATABASE_NAME": database.db.name}


@pytest.fixture
async def outbox(database: Database) -> Outbox:
    """One stream that was never tried, one whose head failed, one with a dead letter, and one with both."""
    outbox = Outbox(database, ManualClock())
    target = "http://val.example/capability-key"

    def message(stream: str, sequence: int) -> Message:
        return Message(stream, sequence, target, {"secret": "confidential"})

    await outbox.enqueue([message("a", number) for number in (1, 2, 3)])
    await outbox.enqueue([message(stream, number) for stream in "bcd" for number in (1, 2)])
    await outbox.postponed(message("b", 1), START, 4, 503)
    await outbox.dead(message("c", 1), 9, None, message("c", 2))
    await outbox.delivered([Taken(message("c", 2))])
    await outbox.dead(message("d", 1), 3, 410, message("d", 2))
    return outbox


def rows(output: str) -> list[list[str]]:
    """The cells of a listing, without those of its header; their distance is two blanks or more."""
    lines = output.splitlines()
    assert lines[0].split("  ")[0] == "ID"
    return [[cell.strip() for cell in line.split("  ") if cell] for line in lines[1:]]


A = ["a:000000000001", "a", "pending", "2030-01-01T00:00:00.000Z", "0", "-"]
B = ["b:000000000001", "b", "pending", "2030-01-01T00:00:00.000Z", "4", "503"]
C = ["c:000000000001", "c", "dead", "2030-01-01T00:00:00.000Z", "9", "no answer"]
D = ["d:000000000001", "d", "dead", "2030-01-01T00:00:00.000Z", "3", "410"]
D2 = ["d:000000000002", "d", "pending", "2030-01-01T00:00:00.000Z", "0", "-"]


@pytest.mark.usefixtures("outbox")
async def test_listing(tmp_path: Path, where: dict[str, str]) -> None:
    """Each stream's head and every dead letter is a line; no address and no content is shown."""
    for options, expected in (((), [A, B, D2, C, D]), (("--pending",), [A, B, D2]), (("--dead",), [C, D])):
        listed = await aimle(tmp_path, "outbox", "list", *options, **where)
        assert (listed.status, listed.err) == (0, "")
        assert rows(listed.out) == expected
        assert "capability-key" not in listed.out
        assert "confidential" not in listed.out


@pytest.mark.usefixtures("outbox")
async def test_columns_are_aligned(tmp_path: Path, where: dict[str, str]) -> None:
    """Every column begins below its heading."""
    lines = (await aimle(tmp_path, "outbox", "list", **where)).out.splitlines()
    for heading in ("STREAM", "STATE", "CREATED", "ATTEMPTS", "LAST STATUS"):
        start = lines[0].index(heading)
        assert all(line[start - 1] == " " and line[start] != " " for line in lines), lines


async def test_empty(tmp_path: Path) -> None:
    """With nothing to show it says so, on a database that it starts for the moment."""
    for options, line in (((), "pending or dead"), (("--pending",), "pending"), (("--dead",), "dead")):
        listed = await aimle(tmp_path, "outbox", "list", *options)
        assert (listed.status, listed.out) == (0, f"nothing is {line}\n"), listed.err
    assert (await aimle(tmp_path, "outbox", "retry", "--all")).out == "0 due again\n"


async def test_retry_by_id(tmp_path: Path, where: dict[str, str], outbox: Outbox) -> None:
    """The named dead letter is due again; what is no dead letter is named, and keeps no other back."""
    done = await aimle(tmp_path, "outbox", "retry", "a:000000000001", "c:000000000001", "x", **where)
    assert (done.status, done.out) == (1, "1 due again\n")
    assert done.err == "aimle-server: no dead letter has the id: a:000000000001, x\n"
    assert [letter.message.stream for letter in await outbox.dead_letters()] == ["d"]
    revived = await outbox.head("c")
    assert revived is not None
    assert (revived.attempts, revived.status, revived.died) == (0, None, None)
    assert revived.due == revived.created


async def test_retry_all(tmp_path: Path, where: dict[str, str], outbox: Outbox) -> None:
    """All dead letters are due again, and nothing else changes."""
    done = await aimle(tmp_path, "outbox", "retry", "--all", **where)
    assert (done.status, done.out, done.err) == (0, "2 due again\n", "")
    assert await outbox.dead_letters() == []
    heads = await outbox.heads()
    assert [(head.message.id[-1], head.attempts) for head in heads] == [
        ("1", 0),
        ("1", 4),
        ("1", 0),
        ("1", 0),
    ]


@pytest.mark.parametrize("args", [(), ("--all", "a:000000000001"), ("--dead",)])
async def test_wrong_arguments(tmp_path: Path, args: tuple[str, ...]) -> None:
    """Retrying takes either ids or --all; anything else is refused before a database is touched."""
    refused = await aimle(tmp_path, "outbox", "retry", *args)
    assert refused.status == 2
    assert refused.out == ""
    assert os.listdir(tmp_path) == []


async def test_beside_a_running_server(tmp_path: Path) -> None:
    """What a running server has given up is listed beside it, and sent by it after a retry."""
    async with (
        Listener(default=410) as target,
        server_process(tmp_path, "--outbox-backoff", "0.01"),
        outbox_of(tmp_path) as outbox,
    ):
        await outbox.enqueue([Message("s", number, target.url(), {"n": number}) for number in (1, 2)])
        await eventually(lambda: _letters(outbox, 2), timeout=20)
        listed = await aimle(tmp_path, "outbox", "list")
        assert [(row[0], row[2], row[4:]) for row in rows(listed.out)] == [
            ("s:000000000001", "dead", ["3", "410"]),
            ("s:000000000002", "dead", ["3", "410"]),
        ]
        target.default = 204
        came = len(target.received)
        assert (await aimle(tmp_path, "outbox", "retry", "s:000000000002")).out == "1 due again\n"
        await eventually(lambda: len(target.received) > came)
        assert (await aimle(tmp_path, "outbox", "retry", "--all")).out == "1 due again\n"
        await eventually(lambda: len(target.received) > came + 1)
        assert [body["n"] for body in target.bodies[came:]] == [2, 1]
        await eventually(lambda: _nothing(outbox))
        assert (await aimle(tmp_path, "outbox", "list")).out == "nothing is pending or dead\n"


async def _letters(outbox: Outbox, number: int) -> bool:
    return len(await outbox.dead_letters()) == number


async def _nothing(outbox: Outbox) -> bool:
    return not await outbox.heads() and not await outbox.dead_letters()
