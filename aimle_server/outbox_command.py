"""`aimle-server outbox`: which notifications wait or were given up, and another try for the latter.

Like `token` it works beside a running server. Targets and bodies are not shown: an address may be a capability.
"""

import argparse
from collections.abc import Sequence

from aimle_server.settings import Settings
from aimle_server.token_command import open_database
from ml_repository.outbox import Outbox, Pending
from sbi.clock import to_wire
from sbi.errors import NotFound

_COLUMNS = ("ID", "STREAM", "STATE", "CREATED", "ATTEMPTS", "LAST STATUS")
_SHOWN = 1000
"""Of each kind, so that a listing stays one."""


async def run(settings: Settings, args: argparse.Namespace) -> None:
    """Do what `args.action` says and print the result.

    Raises:
        AimleError: an id is no dead letter's.
    """
    async with open_database(settings) as database:
        outbox = Outbox(database)
        if args.action == "list":
            await _list(outbox, pending=not args.dead, dead=not args.pending)
        elif args.all:
            print(f"{await outbox.retry_all()} due again")
        else:
            await _retry(outbox, args.ids)


async def _list(outbox: Outbox, *, pending: bool, dead: bool) -> None:
    heads = await outbox.heads(_SHOWN) if pending else []
    letters = await outbox.dead_letters(_SHOWN) if dead else []
    if not heads and not letters:
        names = [name for name, asked in (("pending", pending), ("dead", dead)) if asked]
        print(f"nothing is {' or '.join(names)}")
        return
    _print_table([_COLUMNS, *(_row(found) for found in (*heads, *letters))])
    for name, found in (("pending", heads), ("dead", letters)):
        if len(found) == _SHOWN:
            print(f"({name}: no more than {_SHOWN} are shown)")


def _row(found: Pending) -> tuple[str, ...]:
    message = found.message
    state = "pending" if found.died is None else "dead"
    status = "-" if found.attempts == 0 else str(found.status or "no answer")
    return message.id, message.stream, state, to_wire(found.created), str(found.attempts), status


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


async def _retry(outbox: Outbox, ids: Sequence[str]) -> None:
    """One that is no dead letter does not keep the others from being tried."""
    unknown = [message_id for message_id in ids if not await outbox.retry(message_id)]
    if len(unknown) < len(ids):
        print(f"{len(ids) - len(unknown)} due again")
    if unknown:
        raise NotFound(f"no dead letter has the id: {', '.join(unknown)}")
