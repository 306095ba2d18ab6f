"""What a node does when it is asked: load parts, connect them, measure parts and links."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import aiohttp

from aimle_client.errors import AimleClientError, RequestRefused
from aimle_client.split.emulation import REAL, Emulation, LinkShape
from aimle_client.split.links import LinkBroken, link_to, measure
from aimle_client.split.part import InvalidPart, Part
from aimle_client.split.pipeline import SplitPipeline
from aimle_client.split.stage import Stage
from sbi.clock import Clock
from sbi.errors import Conflict, InvalidRequest, NotFound, Unavailable

_log = logging.getLogger("aimle.split")

T = TypeVar("T")

Fetch = Callable[[str], Awaitable[bytes]]
"""The bytes at a URL; raises AimleClientError."""

PROBE_SECONDS = 60.0


class NodeRuntime:
    """The stages of one node.

    Args:
        session: for connections to other nodes.
        fetch: gets models.
        threads: how many compute a part.
        emulation: how slow parts and ways are made.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        fetch: Fetch,
        *,
        threads: int = 1,
        emulation: Emulation = REAL,
        clock: Clock | None = None,
    ) -> None:
        self._session = session
        self._fetch = fetch
        self._threads = threads
        self._emulation = emulation
        self._clock = clock or Clock()
        self._stages: dict[str, Stage] = {}
        self._probes: dict[str, float] = {}
        # One thread for all parts: two that compute at the same time would both seem slow.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aimle-split")

    async def load(self, owner: str, uri: str, sha256: str | None, batch: int) -> Stage:
        """Fetch a part and start its stage.

        Raises:
            InvalidRequest: there is no such part, or it does not run here.
            Unavailable: it could not be fetched this time.
        """
        content = await self._fetched(uri)
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256.lower():
            raise InvalidRequest.of("/sha256", "the bytes at modelUri have another digest")
        part = await self._loaded(content, "/modelUri")
        stage = Stage(secrets.token_urlsafe(32), owner, part, self._thread, batch)
        self._stages[stage.id] = stage
        stage.start()
        return stage

    def stages(self, owner: str) -> list[Stage]:
        """Those of one owner."""
        return [stage for stage in self._stages.values() if stage.owner == owner]

    def own(self, owner: str, stage_id: str) -> Stage:
        """A stage of this owner; NotFound if there is none."""
        stage = self._stages.get(stage_id)
        if stage is None or stage.owner != owner:
            raise NotFound(f"there is no stage {stage_id}")
        return stage

    def at_work(self, stage_id: str) -> Stage:
        """The stage that this address is of; NotFound if there is none, or if it is broken."""
        stage = self._stages.get(stage_id)
        if stage is None or stage.closed.is_set():
            raise NotFound("there is no such stage at work")
        return stage

    async def connect(self, stage: Stage, uri: str) -> None:
        """Send what comes out of a stage to another one; Conflict if that cannot be reached."""
        try:
            await stage.connect(self._session, uri, self._emulation)
        except LinkBroken as error:
            raise Conflict("the next stage cannot be reached", cause="NEXT_STAGE_UNREACHABLE") from error

    async def unload(self, stage: Stage) -> None:
        """End a stage."""
        del self._stages[stage.id]
        await stage.close()

    async def profile(self, content: bytes, batch: int) -> tuple[float, int]:
        """Seconds that a part takes for one frame of so many samples, and of how many runs; InvalidRequest."""
        part = await self._loaded(content, "body")
        try:
            return await self._in_thread(lambda: part.measure(batch))
        except InvalidPart as error:
            raise InvalidRequest.of("body", str(error), cause="INVALID_ML_MODEL") from error

    def new_probe(self) -> str:
        """The key of a probe, which is good for a minute."""
        now = self._clock.monotonic()
        self._probes = {key: end for key, end in self._probes.items() if end > now}
        key = secrets.token_urlsafe(32)
        self._probes[key] = now + PROBE_SECONDS
        return key

    def check_probe(self, key: str) -> None:
        """NotFound if there is no such probe, or not any more."""
        if self._probes.get(key, 0.0) <= self._clock.monotonic():
            raise NotFound("there is no such probe")

    async def measure_link(self, uri: str) -> LinkShape:
        """The way to another node's probe; Conflict if that cannot be reached."""
        try:
            async with link_to(self._session, uri, self._emulation) as link:
                return await measure(link)
        except LinkBroken as error:
            raise Conflict(f"the probe does not answer: {error}", cause="NODE_UNREACHABLE") from error

    def pipeline(self, head: str, tail: str) -> SplitPipeline:
        """A pipeline that is used from here."""
        return SplitPipeline(head, tail, emulation=self._emulation, session=self._session)

    async def close(self) -> None:
        """End all stages."""
        for stage in list(self._stages.values()):
            await self.unload(stage)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _fetched(self, uri: str) -> bytes:
        try:
            return await self._fetch(uri)
        except RequestRefused as error:
            _log.warning("a model is not given to this node: %s", error)
            raise InvalidRequest.of("/modelUri", f"the model is not given: {error.status}") from error
        except AimleClientError as error:
            raise Unavailable("the model cannot be fetched now") from error

    async def _loaded(self, content: bytes, param: str) -> Part:
        try:
            return await self._in_thread(
                lambda: Part(content, threads=self._threads, emulation=self._emulation)
            )
        except InvalidPart as error:
            raise InvalidRequest.of(param, str(error), cause="INVALID_ML_MODEL") from error

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
