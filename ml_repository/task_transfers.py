"""AI/ML task transfers (TS 23.482 8.6) in the ML repository, one document for each: who gives what to whom.

    _id          transfer id
    _owner       subject that may read it, the source's; empty: the server decided on the transfer
    source       client id of who had the task
    training_id  the training that the task is a part of; None: none of this server's
    mode         DIRECT or SERVER_CONTROLLED
    targets      client ids of those that agreed to take the task over
    taken_by     client id of who has the task now, once it has changed hands
    start, stop  the window in which it may change hands
    state        where it stands; `version` counts the writes
    history      every state that it had: since when, and why
    _expires     from when it is cleaned up

Who owns the task is said by the training, in one write; a transfer is the permission for that and the record of it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from pymongo import ASCENDING, IndexModel

from ml_repository.database import Database, Document

COLLECTION = "task_transfers"

INDEXES = {COLLECTION: [IndexModel([("_expires", ASCENDING)])]}

KEPT = timedelta(days=30)
"""How long a transfer can be read after it was asked for."""


class TransferState(StrEnum):
    """Where a transfer stands."""

    REQUESTED = "REQUESTED"
    AGREED = "AGREED"
    HANDED_OVER = "HANDED_OVER"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"


TRANSITIONS: Mapping[TransferState, frozenset[TransferState]] = {
    TransferState.REQUESTED: frozenset({TransferState.AGREED, TransferState.FAILED}),
    TransferState.AGREED: frozenset({TransferState.HANDED_OVER, TransferState.FAILED, TransferState.EXPIRED}),
    TransferState.HANDED_OVER: frozenset(),
    TransferState.FAILED: frozenset(),
    TransferState.EXPIRED: frozenset(),
}
"""Where a transfer may go from each state; the conditional write is the second guard."""


@dataclass(frozen=True)
class TaskTransfer:
    """A transfer as it was read; the attributes are those above."""

    id: str
    owner: str
    source: str
    training_id: str | None
    created: datetime
    mode: str | None = None
    targets: tuple[str, ...] = ()
    taken_by: str | None = None
    start: datetime | None = None
    stop: datetime | None = None
    state: TransferState = TransferState.REQUESTED
    version: int = 0
    history: tuple[Mapping[str, Any], ...] = ()

    def to_document(self) -> Document:
        """As it is stored."""
        document = asdict(self)
        owner, created = document.pop("owner"), document.pop("created")
        return document | {"_id": document.pop("id"), "_owner": owner, "_created": created}

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """What `to_document` wrote."""
        known = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        changed = {
            "id": document["_id"],
            "owner": document["_owner"],
            "created": document["_created"],
            "state": TransferState(known["state"]),
            "targets": tuple(known["targets"]),
            "history": tuple(known["history"]),
        }
        return cls(**known | changed)


class TaskTransfers:
    """The store of transfers."""

    def __init__(self, database: Database) -> None:
        self._documents = database[COLLECTION]

    async def add(self, transfer: TaskTransfer, reason: str) -> TaskTransfer:
        """Store a new one."""
        first = {"state": transfer.state.value, "at": transfer.created, "reason": reason}
        stored = replace(transfer, history=(first,))
        await self._documents.insert_one(stored.to_document() | {"_expires": transfer.created + KEPT})
        return stored

    async def find(self, transfer_id: str) -> TaskTransfer | None:
        """The transfer with this id."""
        found = await self._documents.find_one({"_id": transfer_id})
        return TaskTransfer.from_document(found) if found else None

    async def advance(
        self, transfer: TaskTransfer, state: TransferState, at: datetime, reason: str = "", **fields: Any
    ) -> TaskTransfer | None:
        """The transfer in its next state and with these attributes; None: somebody else has moved it on meanwhile.

        Raises:
            ValueError: a programming error: the step is not in `TRANSITIONS`.
        """
        if state not in TRANSITIONS[transfer.state]:
            raise ValueError(f"{transfer.state} -> {state}")
        entry = {"state": state.value, "at": at, "reason": reason}
        history = (*transfer.history, entry)
        after = replace(transfer, state=state, version=transfer.version + 1, history=history, **fields)
        changed = await self._documents.update_one(
            {"_id": transfer.id, "version": transfer.version}, {"$set": _changes(after)}
        )
        return after if changed.matched_count else None

    async def remove_expired(self, now: datetime) -> None:
        """Clean up."""
        await self._documents.delete_many({"_expires": {"$lte": now}})


def _changes(transfer: TaskTransfer) -> Document:
    document = transfer.to_document()
    return {name: value for name, value in document.items() if not name.startswith("_")}
