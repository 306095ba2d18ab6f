"""What the registers of FL members (TS 23.482 8.4) and split operation nodes (8.14.2.4) have in common.

A document is the wire's statement with `timeValidity`, and underscored at least `_owner`, `_expires` and `_version`.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from ml_repository.database import Database, Document, Session
from sbi.clock import NEVER, from_wire

Wire = Mapping[str, Any]


class Register:
    """The statements of one collection, as those see them who made them.

    Args:
        owned: (configurationId, owner, now) -> filter for the owner's live statement.
        document: (configurationId, owner, statement, now, version) -> what is stored.
    """

    def __init__(
        self,
        database: Database,
        collection: str,
        owned: Callable[[str, str, datetime], Document],
        document: Callable[[str, str, Wire, datetime, int], Document],
    ) -> None:
        self._database = database
        self._documents = database[collection]
        self._owned = owned
        self._document = document

    async def get(self, configuration_id: str, owner: str, now: datetime) -> dict[str, Any] | None:
        """The owner's live statement."""
        document = await self._documents.find_one(self._owned(configuration_id, owner, now))
        return wire(document) if document else None

    async def change(
        self, configuration_id: str, owner: str, edit: Callable[[Wire], Wire], now: datetime
    ) -> dict[str, Any] | None:
        """Make of the owner's live statement what `edit` returns for it; None: there is none.

        `edit` is called again where another change came between. What it raises passes through.
        """
        live = self._owned(configuration_id, owner, now)
        while document := await self._documents.find_one(live):
            version = document["_version"]
            changed = self._document(configuration_id, owner, edit(wire(document)), now, version + 1)
            result = await self._documents.replace_one(live | {"_version": version}, changed)
            if result.matched_count:
                return wire(changed)
        return None

    async def delete(self, configuration_id: str, owner: str, now: datetime) -> bool:
        """End the owner's live statement now, as if it expired: who watches sees it. False: there is none."""
        live = self._owned(configuration_id, owner, now)
        return (await self._documents.update_one(live, {"$set": {"_expires": now}})).matched_count == 1

    async def remove_expired(self, now: datetime) -> int:
        """Clean up; the number of statements removed."""

        async def remove(session: Session) -> int:
            return (await self._documents.delete_many(expired(now), session=session)).deleted_count

        return await self._database.run_in_transaction(remove)


def validity(statement: Wire, now: datetime) -> tuple[datetime, datetime]:
    """From when to when what is stated now counts (`timeValidity`); without an end, until `NEVER`."""
    window = statement.get("timeValidity")
    return (from_wire(window["startTime"]), from_wire(window["stopTime"])) if window else (now, NEVER)


def faults_of_validity(statement: Wire, now: datetime) -> Iterator[tuple[str, str]]:
    """JSON pointer of what makes no sense in `timeValidity`, and why."""
    begins, expires = validity(statement, now)
    if expires <= begins:
        yield "/timeValidity/stopTime", "is not after startTime"
    elif expires <= now:
        yield "/timeValidity/stopTime", "is not in the future"


def expired(now: datetime) -> Document:
    """Filter: statements that only cleaning up still finds."""
    return {"_expires": {"$lte": now}}


def wire(document: Document) -> dict[str, Any]:
    """The statement of a document."""
    return {name: value for name, value in document.items() if not name.startswith("_")}
