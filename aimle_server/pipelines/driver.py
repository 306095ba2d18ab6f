"""Which process runs which pipeline: one at a time, by a lease in the database; after a crash another one does."""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from pymongo.errors import PyMongoError

from aimle_server.pipelines.work import Tools, Work
from ml_repository.database import tried_again
from ml_repository.split_pipelines import Pipeline
from ml_repository.subscriptions import Positions

_log = logging.getLogger("aimle.split")

LEASE = timedelta(seconds=15)
"""A process that has not been heard of for so long is taken for dead."""

START_SECONDS = 20.0
"""How long a request waits for its pipeline, less than callers wait; one that takes longer is told of when it runs."""


class PipelineDriver:
    """The pipelines of this process.

    Args:
        positions: keeps the leases.
        holder: names this process.
    """

    def __init__(self, tools: Tools, positions: Positions, holder: str) -> None:
        self._tools = tools
        self._positions = positions
        self._holder = holder
        self._works: dict[str, Work] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to run what nobody runs."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look after nothing any more; what runs goes on, and other processes, or the next start, take it over."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.gather(*(self._leave(*each) for each in self._works.items()))
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def begin(self, pipeline: Pipeline) -> None:
        """Return once the pipeline runs, after `START_SECONDS`, or when another process runs it.

        Raises:
            Conflict: these nodes cannot run it; NotSupported: this server cuts no models.
        """
        work = await self._take(pipeline)
        if work is not None:
            await asyncio.wait([work.ready], timeout=START_SECONDS)
            if work.ready.done() and not work.ready.cancelled():
                work.ready.result()

    async def end(self, pipeline: Pipeline) -> None:
        """Stop it here, and remove what was kept for it; nothing happens if it does not run."""
        await self._drop(pipeline.id)
        if pipeline.execution is not None:
            await self._tools.parts.remove(pipeline)

    async def _run(self) -> None:
        while True:
            with tried_again(_log, "pipelines go on as they are"):
                await self._round()
            await self._tools.clock.sleep(LEASE.total_seconds() / 3)

    async def _round(self) -> None:
        wanted = {pipeline.id: pipeline for pipeline in await self._tools.pipelines.executed()}
        for pipeline_id in self._works.keys() - wanted.keys():
            await self._drop(pipeline_id)
        for pipeline in wanted.values():
            work = await self._take(pipeline)
            if work is not None:
                await work.follow_registrations()

    async def _take(self, pipeline: Pipeline) -> Work | None:
        """Run it here, if no other process does; None: one does."""
        now, name = self._tools.clock.now(), _lease(pipeline.id)
        if await self._positions.claim(name, self._holder, now, now, now + LEASE) is None:
            await self._drop(pipeline.id)
            return None
        before = self._works.get(pipeline.id)
        if before is None or before.to_be_repeated or before.pipeline.revision < pipeline.revision:
            work = self._works[pipeline.id] = Work(self._tools, pipeline)
            if before is not None:
                self._retire(before, work)
        return self._works[pipeline.id]

    def _retire(self, before: Work, after: Work) -> None:
        """What ran before goes on until the other runs, so that its users can move."""

        async def retire() -> None:
            await asyncio.wait([after.ready])
            await before.stop()

        task = asyncio.create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drop(self, pipeline_id: str) -> None:
        work = self._works.pop(pipeline_id, None)
        if work is not None:
            await work.stop()
            await self._release(pipeline_id)

    async def _leave(self, pipeline_id: str, work: Work) -> None:
        await work.leave()
        with suppress(PyMongoError):  # a lease that is not given back runs out
            await self._release(pipeline_id)

    async def _release(self, pipeline_id: str) -> None:
        await self._positions.remove(_lease(pipeline_id), self._holder, self._tools.clock.now())


def _lease(pipeline_id: str) -> str:
    return f"split-pipeline:{pipeline_id}"
