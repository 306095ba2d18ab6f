"""Split operation nodes (TS 23.482 8.14.2.4) in the ML repository, one document for each registration.

A document is the wire's SplitOpNodeReg and, underscored, what the server needs beside it:

    _id              the configurationId of the resource's URI
    _owner           subject that registered it
    _address         where it is (`address_of`), as stages of pipelines name it
    _model           the mlModelId that it can run, or ANY (`*`)
    _begins          from when it counts
    _expires         from when it counts no more; every query looks at it, removal only cleans up
    _stated          when it was last registered or changed
    _version         counts its changes

A node that runs several models is registered once for each, its type has room for one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pymongo import ASCENDING, IndexModel

from ml_repository.database import Database, Document, Session
from ml_repository.model_access import ANY
from ml_repository.register import Register, validity
from ml_repository.subscriptions import Happened

Wire = Mapping[str, Any]

COLLECTION = "split_nodes"

INDEXES = {
    COLLECTION: [
        IndexModel([("_address", ASCENDING), ("_expires", ASCENDING)]),
        IndexModel([("_model", ASCENDING), ("_expires", ASCENDING)]),
        IndexModel([("_stated", ASCENDING)]),
        IndexModel([("_begins", ASCENDING)]),
        IndexModel([("_expires", ASCENDING)]),
    ]
}


@dataclass(frozen=True)
class Node:
    """A registered node, for one model.

    Attributes:
        address: as stages name it (`address_of`).
        owner: subject that registered it.
        model: mlModelId that it can run, or ANY.
        usage: UsageInformation: the most that it takes; what it does not state has no limit.
        uri: where it is told of its part; None: it has to subscribe.
        runtime: where it serves AIMLE_SplitNode; None: what it runs is its own affair.
    """

    address: str
    owner: str
    model: str
    usage: Wire
    uri: str | None
    runtime: str | None

    @classmethod
    def of(cls, document: Document) -> Self:
        """As it is stored."""
        return cls(
            address=document["_address"],
            owner=document["_owner"],
            model=document["_model"],
            usage=document["sonRegCapability"].get("usageInfo", {}),
            uri=document["nodeInfo"].get("uri"),
            runtime=document.get("aimle", {}).get("splitNodeUri"),
        )

    def takes(self, model: str, usage: Wire) -> bool:
        """Whether it runs this model, used as much as this (UsageInformation)."""
        fits = all(value <= self.usage.get(name, value) for name, value in usage.items())
        return fits and self.model in (ANY, model)


class SplitNodes(Register):
    """The nodes of one database; what it takes and gives are SplitOpNodeReg in wire shape, unless it says Node."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, COLLECTION, owned, _document)

    async def register(self, configuration_id: str, owner: str, node: Wire, now: datetime) -> None:
        """Store a node, in place of what the same owner has registered of it for the same model."""
        document = _document(configuration_id, owner, node, now, version=1)
        same = {"_model": document["_model"], "_owner": owner}

        async def write(session: Session) -> None:
            former = located([document["_address"]], now) | same
            await self._documents.update_many(former, {"$set": {"_expires": now}}, session=session)
            await self._documents.insert_one(document, session=session)

        await self._database.run_in_transaction(write)

    async def at(self, addresses: Iterable[str], now: datetime) -> list[Node]:
        """The nodes that count now at these addresses, whatever they run."""
        return await self._counting(located(addresses, now), now)

    async def running(self, models: Iterable[str], now: datetime) -> list[Node]:
        """The nodes that count now and that can run one of these models, by address."""
        found = await self._counting(able(models, now), now)
        return sorted(found, key=lambda node: node.address)

    async def _counting(self, query: Document, now: datetime) -> list[Node]:
        found = await self._documents.find(query).to_list(None)
        return [Node.of(document) for document in found if document["_begins"] <= now]

    async def events(self, since: datetime, now: datetime) -> list[Happened]:
        """Which nodes have stated something since then, have begun to count, and have ended."""
        what = {"_address": True, "_model": True}
        return [
            Happened(one["_id"], one[moment], _topics_of(one))
            for moment in ("_stated", "_begins", "_expires")
            for one in await self._documents.find(
                {moment: {"$gt": since, "$lte": now}}, what | {moment: True}
            ).to_list(None)
        ]


def address_of(connection: Wire) -> str:
    """What a ConnInfo is called: its URI without a slash at the end, or its IP address without the port."""
    found: str = connection.get("uri") or connection.get("ipv4Addr") or connection["ipv6Addr"]
    return found.rstrip("/")


def node_topic(address: str) -> str:
    """What all events of a node are about."""
    return f"split-node:{address}"


def model_topic(model: str) -> str:
    """What events of nodes for a model are about."""
    return f"split-model:{model}"


def owned(configuration_id: str, owner: str, now: datetime) -> Document:
    """Filter: the owner's live node."""
    return {"_id": configuration_id, "_owner": owner, "_expires": {"$gt": now}}


def located(addresses: Iterable[str], now: datetime) -> Document:
    """Filter: live nodes at these addresses, also those that begin later."""
    return {"_address": {"$in": sorted(set(addresses))}, "_expires": {"$gt": now}}


def able(models: Iterable[str], now: datetime) -> Document:
    """Filter: live nodes for one of these models, or for any, also those that begin later."""
    return {"_model": {"$in": sorted({*models, ANY})}, "_expires": {"$gt": now}}


def _document(configuration_id: str, owner: str, node: Wire, now: datetime, version: int) -> Document:
    begins, expires = validity(node, now)
    address, model = address_of(node["nodeInfo"]), node["sonRegCapability"]["modelInfo"]["modelId"]
    return {
        **node,
        "_id": configuration_id,
        "_owner": owner,
        "_address": address,
        "_model": model,
        "_begins": begins,
        "_expires": expires,
        "_stated": now,
        "_version": version,
    }


def _topics_of(document: Document) -> list[str]:
    return [node_topic(document["_address"]), model_topic(document["_model"])]
