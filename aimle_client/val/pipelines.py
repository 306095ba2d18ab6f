"""Pipelines of nodes that run a model together (Aimles_SplitOpPipeline; TS 23.482 8.14.2), made, used and deleted.

pipeline = await val.create_pipeline("digits", ["http://edge:9007", "http://cloud:9007"], objective="LATENCY")
async with pipeline.open() as stream:
    async for scores in stream.map(images):
        ...
await pipeline.delete()
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import quote

from aimle_client.answers import created_id, read
from aimle_client.errors import AimleClientError, Conflict, NotFound
from aimle_client.events import PipelineEvent
from aimle_client.http import Answer, ClientCredentials, Connection
from aimle_client.listener import Mailbox
from aimle_client.split.pipeline import SplitPipeline
from aimle_client.val.calls import ListeningCalls
from aimle_client.val.values import Wire, given
from schemas.split_pipeline import SplitOpPipelineCreateResp, SplitOpPipelineDiscResp

_REQUESTS = "/aimles-sopl/v1/request"
_DISCOVERY = "/aimles-sopl/v1/discovery"
_EVENTS = "/aimles-splitopevent/v1/subscriptions"
_PIPELINES = "/aimle-split-join/v1/pipelines"
_ANYWHERE = "urn:aimle:any"
"""For addresses that a filter has to contain and that are only preferences."""


class Pipeline:
    """A pipeline that this VAL server uses; `create_pipeline`, `find_pipeline` and `join_pipeline` make it.

    Attributes:
        id: its splitOpPipelineId.
        profile: its SplitOpProfile as it was last told, in wire shape.
    """

    def __init__(
        self,
        profile: Wire,
        connection: Connection,
        mailbox: Mailbox[PipelineEvent],
        close: Callable[[Mailbox[PipelineEvent]], None],
        subscription: str | None = None,
    ) -> None:
        self.id = str(profile["splitOpPipelineId"])
        self.profile = profile
        self._connection = connection
        self._mailbox = mailbox
        self._close = close
        self._subscription = subscription
        self._streams: set[SplitPipeline] = set()
        self._ended: NotFound | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    @property
    def ends(self) -> tuple[str, str]:
        """URIs of head and tail; ValueError where they are not URIs."""
        head, tail = self.profile["headEp"].get("uri"), self.profile["tailEp"].get("uri")
        if head is None or tail is None:
            raise ValueError("head or tail of the pipeline is not a URI")
        return head, tail

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[SplitPipeline]:
        """Send inputs and get results; where the server puts the pipeline elsewhere, they follow, and none is lost.

        When the pipeline is deleted, frames without results and those that come later raise NotFound. `options` are
        those of SplitPipeline.
        """
        async with SplitPipeline(*self.ends, **options) as stream:
            self._streams.add(stream)
            if self._ended is not None:
                stream.end(self._ended)
            following = asyncio.create_task(self._follow(stream))
            try:
                yield stream
            finally:
                self._streams.remove(stream)
                following.cancel()
                await asyncio.wait([following])

    async def until_ready(self) -> None:
        """Return when the pipeline runs; the caller limits the time. Not while it is open, which does not need it.

        A request waits 20 seconds for its pipeline; measuring slow nodes for the first time takes longer.

        Raises:
            NotFound: it has been deleted.
        """
        while self.profile["aimle"]["state"] != "READY":
            await self.changed()

    async def changed(self) -> None:
        """Return when the server has told of a change, with the profile as it is then; not while it is open.

        Raises:
            NotFound: it has been deleted.
        """
        if self._ended is None:
            event = await self._mailbox.get()
            self.profile = event.profile
            if event.sub_event == "DELETED":
                self._end()
        if self._ended is not None:
            raise self._ended

    async def delete(self) -> None:
        """Delete it; NotFound if that was done before, or if it is another one's."""
        await self._connection.request("DELETE", f"{_REQUESTS}/{quote(self.id, safe='')}")
        self._end()
        await self._forget()

    async def leave(self) -> None:
        """Use it no more; it goes on for its owner and for others that have joined it."""
        with suppress(NotFound, Conflict):  # it is gone, or was for its owner alone
            await self._connection.request("DELETE", f"{_PIPELINES}/{quote(self.id, safe='')}/client")
        await self._forget()

    async def _forget(self) -> None:
        """Be told no more."""
        if self._subscription is not None:
            with suppress(NotFound):
                await self._connection.request("DELETE", f"{_EVENTS}/{self._subscription}")
        self._close(self._mailbox)

    async def _follow(self, stream: SplitPipeline) -> None:
        with suppress(NotFound):  # which the stream has been told
            while True:
                before = self.ends
                await self.changed()
                if self.ends != before:
                    stream.move(*self.ends)

    def _end(self) -> None:
        """It is deleted: nobody waits for anything of it any more."""
        self._ended = NotFound(404, detail=f"the pipeline {self.id} was deleted")
        for stream in self._streams:
            stream.end(self._ended)


class PipelineOperations(ListeningCalls):
    """Operations on pipelines; they need a listener, which is told where a pipeline is."""

    _credentials: ClientCredentials | None = None

    async def create_pipeline(
        self,
        model_id: str,
        nodes: Sequence[str],
        *,
        then: Sequence[tuple[str, Sequence[str]]] = (),
        objective: str | None = None,
        batch: int | None = None,
        origin: str | None = None,
        in_order: bool | None = None,
        most_cuts: int | None = None,
        multi_client: bool | None = None,
        usage: Wire | None = None,
    ) -> Pipeline:
        """Have nodes run a model together (8.14.2.3).

        Args:
            model_id: the mlModelId.
            nodes: URIs of registered nodes; the server decides which of those run what, if they let it.
            then: further stages, each the mlModelId of what takes the results of the one before, and its nodes.
            objective: LATENCY or THROUGHPUT.
            batch: samples of a frame.
            origin: URI of the node where inputs come from and results are wanted; it need not be one of `nodes`.
            in_order: all of the nodes run, in their order; the server chooses only the cuts.
            most_cuts: how many cuts of the model are considered, all if left out: fewer are faster to begin with.
            multi_client: clients of others may find and join it.
            usage: UsageInformation: how it is to be used.

        Raises:
            RuntimeError: nobody listens: give ValServer `listen`.
            RequestRefused: 400, a node or the model is not there or not fit; `invalid_params` says which.
            Conflict: the nodes turned out not to be able to.
        """
        extension = given(
            objective=objective,
            batch=batch,
            origin=origin,
            inOrder=in_order,
            mostCuts=most_cuts,
            multiClient=multi_client,
        )
        stages = [_stage(*stage, number) for number, stage in enumerate([(model_id, nodes), *then], 1)]
        wanted = given(stageInfo=stages, usageInfo=usage, aimle=extension or None)
        body = {"requestorId": self._name, "splitOpRequirements": wanted}
        with self._told() as mailbox:
            answer = await self._post(_REQUESTS, body, mailbox)
            profile = read(SplitOpPipelineCreateResp(), answer.body)["splitOpProfile"]
        return Pipeline(profile, self._connection, mailbox, self._listening.close)

    async def find_pipeline(
        self, model_id: str, *, min_nodes: int = 1, usage: Wire | None = None
    ) -> Pipeline:
        """A pipeline for a model, which is made if there is none (8.14.2.2); joined if it is for several.

        Args:
            model_id: the mlModelId.
            min_nodes: how many nodes it has at least.
            usage: UsageInformation: what it has to take.

        Raises:
            NotFound: there is none, and none can be made of the nodes that there are.
            Conflict: it has no room for one more.
            RuntimeError: as for `create_pipeline`.
        """
        filters = given(stageInfo=[_stage(model_id, [_ANYWHERE])], minNodes=str(min_nodes), usageInfo=usage)
        with self._told() as mailbox:
            answer = await self._post(_DISCOVERY, {"discFilters": filters}, mailbox)
            profiles = read(SplitOpPipelineDiscResp(), answer.body).get("splitOpProfiles", ())
            if not profiles:
                raise NotFound(404, detail="no pipeline can be made of the nodes that there are")
            if not profiles[0]["aimle"].get("multiClient"):
                return await self._followed(profiles[0], mailbox)
        self._listening.close(mailbox)
        return await self.join_pipeline(profiles[0]["splitOpPipelineId"])

    async def join_pipeline(self, pipeline_id: str) -> Pipeline:
        """Use a pipeline of another VAL server, which is for several (8.14.2.8).

        Raises:
            NotFound: there is none, or not for this VAL server.
            Conflict: it is for one only, or has no room for one more.
            RuntimeError: as for `create_pipeline`.
        """
        path = f"{_PIPELINES}/{quote(pipeline_id, safe='')}/client"
        with self._told() as mailbox:
            answer = await self._connection.request("PUT", path, body={"requestorId": self._name})
            profile = read(SplitOpPipelineCreateResp(), answer.body)["splitOpProfile"]
            return await self._followed(profile, mailbox)

    async def _followed(self, profile: Wire, mailbox: Mailbox[PipelineEvent]) -> Pipeline:
        """A pipeline that is subscribed to, from how it stands now."""
        wanted = {
            "splitOpPipelineId": profile["splitOpPipelineId"],
            "splitOpEventId": "SPLIT_OP_PIPELINE_INFO",
            "reportReq": {"immRep": True},
        }
        answer = await self._post(_EVENTS, wanted, mailbox)
        return Pipeline(profile, self._connection, mailbox, self._listening.close, created_id(answer))

    @property
    def _name(self) -> str:
        return self._credentials.client_id if self._credentials else "val-server"

    @contextmanager
    def _told(self) -> Iterator[Mailbox[PipelineEvent]]:
        """A new mailbox, which is closed again if what it is for fails."""
        mailbox = self._listening.open_pipeline()
        try:
            yield mailbox
        except AimleClientError:
            self._listening.close(mailbox)
            raise

    async def _post(self, path: str, body: Wire, mailbox: Mailbox[PipelineEvent]) -> Answer:
        """The answer to a request whose outcome is told to the mailbox."""
        return await self._connection.request("POST", path, body={**body, "notifUri": mailbox.url})


def _stage(model_id: str, nodes: Sequence[str], number: int = 1) -> dict[str, Any]:
    """The StageInfo of a model at these nodes."""
    order = [{"uri": uri} for uri in nodes]
    return {
        "stageId": str(number),
        "headEp": order[0],
        "tailEp": order[-1],
        "nodeOrder": order,
        "mlModelId": model_id,
    }
