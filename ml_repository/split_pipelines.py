"""Split operation pipelines (TS 23.482 8.14.2) in the ML repository, one document for each.

    _id          the pipeline's id, which is the requestId of its URI too
    owner        subject that had it made
    requestor, notif_uri, stages, stage_owners, usage, target, multi_client   what was asked for (`Pipeline`)
    execution, deployment, fault   what the server runs of it, if it does, or why not
    revision     counts the changes of what was asked for
    parties      whom it concerns: its owner, those of its nodes, who has joined it, and ANY if anybody may
    models       of its stages
    executed     whether there is an execution
    version      counts its changes
    created, changed   when
    ended        when it was deleted, else NEVER

What has been deleted stays for `KEPT`, for those who follow what happens. What is written to a pipeline, what its
nodes are told of it and that its requestor watches it are one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Self

from pymongo import ASCENDING, IndexModel

from ml_repository.database import Database, Document, Session
from ml_repository.model_access import ANY
from ml_repository.outbox import Message, Outbox
from ml_repository.split_nodes import model_topic
from ml_repository.subscriptions import Happened, Subscription, Subscriptions
from sbi.clock import NEVER

Wire = Mapping[str, Any]

COLLECTION = "split_pipelines"

KEPT = timedelta(hours=1)

INDEXES = {
    COLLECTION: [
        IndexModel([("parties", ASCENDING)]),
        IndexModel([("models", ASCENDING)]),
        IndexModel([("changed", ASCENDING)]),
        IndexModel([("ended", ASCENDING)]),
        IndexModel([("executed", ASCENDING), ("ended", ASCENDING)]),
    ]
}


@dataclass(frozen=True)
class Pipeline:
    """A pipeline.

    Attributes:
        id, owner, version, created, changed, ended: see above.
        requestor: who asked, as the owner names it.
        notif_uri: is told when it changes.
        stages: list of StageInfo, in their order.
        usage: UsageInformation: how it is to be used.
        target: EndPoint to which its tail sends results; empty: they are asked for.
        multi_client: whether clients of others may find it.
        stage_owners: for each stage the subjects that registered its nodes.
        revision: from 1, of what was asked for; `version` counts its deployments too.
        execution: how this server runs it (`objective`, `batch`, `origin`); None: its nodes do that themselves.
        clients: subjects that have joined it.
        deployment: what runs now: `head`, `tail`, `stages`, `parts` and what was measured; None: nothing.
        fault: why nothing runs; empty: it does, or nobody has tried yet.
    """

    id: str
    owner: str
    requestor: str
    notif_uri: str
    stages: Sequence[Wire]
    usage: Wire
    target: Wire
    multi_client: bool
    stage_owners: Sequence[Sequence[str]]
    version: int
    created: datetime
    changed: datetime
    ended: datetime = NEVER
    revision: int = 1
    execution: Wire | None = None
    deployment: Wire | None = None
    fault: str = ""
    clients: Sequence[str] = ()

    @property
    def parties(self) -> list[str]:
        """Whom it concerns."""
        return sorted(
            {self.owner, *chain(*self.stage_owners), *self.clients, *([ANY] if self.multi_client else [])}
        )

    @property
    def models(self) -> list[str]:
        """Of its stages, each once."""
        return sorted({stage["mlModelId"] for stage in self.stages})

    @classmethod
    def of(cls, document: Document) -> Self:
        """As it is stored."""
        names = cls.__dataclass_fields__.keys() - {"id"}
        return cls(id=document["_id"], **{name: document[name] for name in names & document.keys()})

    def document(self) -> Document:
        """What is stored."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "id"}
        derived = {"parties": self.parties, "models": self.models, "executed": self.execution is not None}
        return {"_id": self.id, **fields, **derived}


class SplitPipelines:
    """The pipelines of one database."""

    def __init__(self, database: Database, outbox: Outbox, subscriptions: Subscriptions) -> None:
        self._database = database
        self._documents = database[COLLECTION]
        self._outbox = outbox
        self._subscriptions = subscriptions

    async def add(self, pipeline: Pipeline, watch: Subscription, messages: Sequence[Message]) -> None:
        """Store a new one, with its requestor's watch and what its nodes are told."""

        async def write(session: Session) -> None:
            await self._documents.insert_one(pipeline.document(), session=session)
            await self._subscriptions.add(watch, pipeline.created, session)
            await self._outbox.enqueue(messages, session)

        await self._database.run_in_transaction(write)

    async def replace(self, changed: Pipeline, watch: Wire, messages: Sequence[Message]) -> bool:
        """Put one with the next version in place of the one before; False: that is not the one which is there.

        Args:
            watch: what its requestor's watch is from now on, the body of a subscription.
        """

        async def write(session: Session) -> bool:
            before = {"_id": changed.id, "version": changed.version - 1, "ended": NEVER}
            result = await self._documents.replace_one(before, changed.document(), session=session)
            if not result.matched_count:
                return False
            await self._subscriptions.restate(changed.id, watch, changed.changed, session)
            await self._outbox.enqueue(messages, session)
            return True

        return await self._database.run_in_transaction(write)

    async def end(self, pipeline: Pipeline, messages: Sequence[Message], now: datetime) -> bool:
        """Delete one as it was read; False: it has changed or gone since."""

        async def write(session: Session) -> bool:
            before = {"_id": pipeline.id, "version": pipeline.version, "ended": NEVER}
            after = replace(pipeline, version=pipeline.version + 1, changed=now, ended=now)
            result = await self._documents.replace_one(before, after.document(), session=session)
            if not result.matched_count:
                return False
            await self._subscriptions.forget(pipeline.id, session)
            await self._outbox.enqueue(messages, session)
            return True

        return await self._database.run_in_transaction(write)

    async def get(self, pipeline_id: str) -> Pipeline | None:
        """One, also one that has been deleted not long ago."""
        document = await self._documents.find_one({"_id": pipeline_id})
        return Pipeline.of(document) if document else None

    async def concerning(self, subject: str) -> list[Pipeline]:
        """Those that concern this subject or everybody, oldest first, also those deleted not long ago."""
        found = {
            document["_id"]: Pipeline.of(document)
            for party in (subject, ANY)
            for document in await self._documents.find({"parties": party}).to_list(None)
        }
        return sorted(found.values(), key=lambda pipeline: (pipeline.created, pipeline.id))

    async def with_model(self, model: str) -> list[Pipeline]:
        """Those with a stage of this model, oldest first."""
        found = await self._documents.find({"models": model}).to_list(None)
        living = [Pipeline.of(document) for document in found if document["ended"] == NEVER]
        return sorted(living, key=lambda pipeline: (pipeline.created, pipeline.id))

    async def executed(self) -> list[Pipeline]:
        """Those that this server and its like run."""
        found = await self._documents.find({"executed": True, "ended": NEVER}).to_list(None)
        return [Pipeline.of(document) for document in found]

    async def events(self, since: datetime, now: datetime) -> list[Happened]:
        """Which pipelines were made, changed or deleted since then."""
        what = {"changed": True, "parties": True, "models": True, "version": True}
        found = await self._documents.find({"changed": {"$gt": since, "$lte": now}}, what).to_list(None)
        return [Happened(f"{one['_id']}:{one['version']}", one["changed"], _topics(one)) for one in found]

    async def remove_ended(self, now: datetime) -> int:
        """Clean up; the number of pipelines removed."""

        async def remove(session: Session) -> int:
            query = {"ended": {"$lte": now - KEPT}}
            return (await self._documents.delete_many(query, session=session)).deleted_count

        return await self._database.run_in_transaction(remove)


def pipeline_topic(pipeline_id: str) -> str:
    """What all events of a pipeline are about."""
    return f"split-pipeline:{pipeline_id}"


def party_topic(party: str) -> str:
    """What events of pipelines that concern somebody, or ANY, are about."""
    return f"split-pipelines-of:{party}"


def _topics(document: Document) -> list[str]:
    parties = [party_topic(party) for party in document["parties"]]
    return [pipeline_topic(document["_id"]), *parties, *(model_topic(model) for model in document["models"])]
