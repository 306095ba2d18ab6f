"""AIMLE client sets (TS 23.482 8.9): the clients that agreed to work for somebody, under one identifier.

_id       the client set identifier
_owner    subject that had it selected
_created  when
clients   AIMLE client IDs, in the order of selection
request   the ClientSelReq that it came from
"""

from typing import Any

from ml_repository.database import Database

Document = dict[str, Any]

COLLECTION = "client_sets"


class ClientSets:
    """The client sets of one database; found by their identifier, so there is no index but `_id`'s."""

    def __init__(self, database: Database) -> None:
        self._documents = database[COLLECTION]

    async def insert(self, document: Document) -> None:
        """Store a new set."""
        await self._documents.insert_one(document)

    async def get(self, set_id: str, owner: str) -> Document | None:
        """The owner's set."""
        return await self._documents.find_one({"_id": set_id, "_owner": owner})
