"""A model at work on several nodes: measured, planned, deployed, looked after (TS 23.482 8.14, ITU-T F.748.20).

The stages of a deployment belong together; another plan is another deployment, beside the one that works until it
takes its place. Whoever uses the pipeline keeps what has no result yet (`aimle_client.split.pipeline`), so a change
costs time and no frames.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aimle_server.split.aim import Aim
from aimle_server.split.cutting import CutPoint, CuttableModel
from aimle_server.split.deployment import Deployer, Deployment, Measurement, RunningStage, Store
from aimle_server.split.nodes import Fleet, NodeClient, NodeError, NodeRefused, NodeUnreachable, StageLook
from aimle_server.split.planner import NoPlan, Plan, Stage, better
from aimle_server.split.reading import InvalidOnnx
from aimle_server.split.survey import Profiles, Survey, differs
from sbi.clock import Clock

_log = logging.getLogger("aimle.split")


_LITTLE = 0.05
"""Of a pipeline's latency: less is no reason to measure a node again, which holds up its frames."""


_FEWEST_FRAMES, _MOST_FRAMES, _MEASURE_SECONDS = 2, 10, 1.0
"""Of a measurement, which sends frames one by one and then as many at once."""

Looks = Mapping[str, Mapping[str, StageLook]]
"""How stages are doing, by node and by their id there."""

Tell = Callable[[Deployment | None], Awaitable[None]]
"""(deployment) -> None; None instead of one: nothing works any more, until it is told of another one."""


class PipelineRunner:
    """One pipeline.

    Args:
        nodes: those that it may use, by their name.
        model: what is run; reading one takes a while: `await asyncio.to_thread(CuttableModel, content)`.
        store: keeps its parts.
        aim: what it is to be.
        tell: told of each deployment, before the one that it replaces ends.
        profiles: what is known of the nodes already.

    Attributes:
        deployment: what works now; None: nothing.
        fleet: the nodes, and which of them do not answer.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeClient],
        model: CuttableModel,
        store: Store,
        aim: Aim | None = None,
        *,
        tell: Tell | None = None,
        profiles: Profiles | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.fleet = Fleet(dict(nodes))
        self.deployment: Deployment | None = None
        self._aim = aim or Aim()
        self._survey = Survey(model, profiles or Profiles(), self._aim)
        self._deployer = Deployer(self.fleet, self._survey, store, self._aim.batch)
        self._clock = clock or Clock()
        self._numbers = 0
        self._one_at_a_time = asyncio.Lock()
        self._observed: dict[str, float] = {}
        self._done = -1
        self._measured = 0
        self._tell = tell

    async def start(self) -> Deployment:
        """Measure the nodes, plan, deploy, and measure what came of it.

        Raises:
            NoPlan: these nodes cannot run the model.
            NodeRefused: one did not do as it said.
        """
        async with self._one_at_a_time:
            deployment = await self._renew(forced=True, confirm=True)
        await self.measure()
        return self.deployment or deployment

    async def replan(self, *, forced: bool = False) -> None:
        """Plan again, with what is known now; deploy the plan if it is better by more than the margin, or `forced`.

        Raises: as `start`, except that what works goes on then.
        """
        async with self._one_at_a_time:
            await self._renew(forced=forced)

    async def deploy(self, stages: Sequence[Stage]) -> Deployment:
        """Have these stages take the place of what works.

        Raises: as `start`.
        """
        async with self._one_at_a_time:
            return await self._take_over(await self.predict(stages))

    @property
    def cuts(self) -> Sequence[CutPoint]:
        """Those that are considered; border 1 of a plan is the first of them."""
        return self._survey.cuts

    async def predict(self, stages: Sequence[Stage]) -> Plan:
        """What to expect of these stages, which are measured if need be.

        Raises:
            NoPlan: they cannot run one after another; NodeUnreachable: a node does not answer.
        """
        return await self._survey.predict(self.fleet.present, stages)

    async def measure(self) -> Measurement | None:
        """Use the pipeline from its origin, or from its head, and compare with what was predicted for there.

        Few frames are sent if they take long: see `_frames`.

        None: there is nothing to measure, or it cannot be.
        """
        deployment = self.deployment
        if deployment is None:
            return None
        self._measured = deployment.number
        origin = self._aim.origin or deployment.plan.stages[0].node
        try:
            predicted = await self._survey.predict(self.fleet.present, deployment.plan.stages, origin)
            tensors = self._survey.model.frame(self._aim.batch)
            latency, throughput = await self.fleet.nodes[origin].measure_pipeline(
                deployment.head, deployment.tail, tensors, _frames(predicted.latency_s)
            )
        except (NodeError, NoPlan, InvalidOnnx) as error:
            _log.warning("a pipeline could not be measured: %s", error)
            return None
        found = Measurement(predicted.latency_s, latency, predicted.throughput_per_s, throughput)
        if self.deployment is deployment:
            self.deployment = dataclasses.replace(deployment, measurement=found)
        return found

    async def look(self, *, review: bool = False) -> None:
        """Look at the nodes once, and plan again if one is gone, came back, or is not as it was.

        With `review`, speeds and links are measured again as well.
        """
        before = self.fleet.present.keys()
        if review:
            self.fleet.refusing.clear()
        looks = await self.fleet.look()
        came_back = bool(looks.keys() - before)
        forced = self._broken(looks)
        changed = self._speed_changed(looks) or came_back
        if review and not forced:
            busy = {one.stage.node for one, _ in self._at_work(looks)}
            changed = await self._survey.review(self.fleet.present, busy) or changed
        if not forced and not changed:
            await self._measure_if_idle(looks)
            return
        try:
            await self.replan(forced=forced)
        except (NoPlan, NodeError) as error:
            if self.deployment is not None:
                _log.warning("a pipeline cannot be planned anew: %s", error)
            if forced:
                await self._give_up()

    async def watch(self) -> None:
        """Look at the nodes for ever."""
        looks = 0
        while True:
            await self._clock.sleep(self._aim.look_every)
            looks += 1
            try:
                await self.look(review=looks % self._aim.review_every == 0)
            except Exception:  # of the store, or of who is told
                _log.exception("a pipeline was not looked after")

    async def stop(self) -> None:
        """End the stages that there are."""
        async with self._one_at_a_time:
            deployment, self.deployment = self.deployment, None
            if deployment is not None:
                await self._deployer.retire(deployment.stages)

    async def _renew(self, *, forced: bool, confirm: bool = False) -> Deployment:
        """Plan and deploy, without the nodes that turn out to be gone, or do not take their parts."""
        refused: NodeRefused | None = None
        while True:
            nodes = self.fleet.present
            try:
                best = await self._survey.best(nodes, confirm=confirm)
            except NoPlan as error:
                raise refused or error from None
            if not forced and self.deployment is not None and not await self._worth_it(self.deployment, best):
                return self.deployment
            try:
                return await self._take_over(best)
            except NodeUnreachable as error:
                _log.warning("a node is gone: %s", error)
            except NodeRefused as error:
                refused = error
                _log.warning("a pipeline is planned without a node: %s", error)
                await self.fleet.look()  # one that cannot reach the next refuses too, and is not to blame
                if self.fleet.present.keys() == nodes.keys():
                    raise

    async def _worth_it(self, deployment: Deployment, best: Plan) -> bool:
        """Whether the best plan is so much better than the one that works, by what is known now."""
        try:
            present = await self.predict(deployment.plan.stages)
        except (NoPlan, NodeUnreachable):
            return True
        self.deployment = dataclasses.replace(deployment, plan=present)
        return better(best, present, self._aim.objective) > self._aim.margin

    async def _take_over(self, chosen: Plan) -> Deployment:
        stages = await self._deployer.deploy(chosen)
        self._numbers += 1
        before, self.deployment = self.deployment, Deployment(self._numbers, chosen, stages)
        self._observed, self._done = {}, -1
        new = self.deployment
        try:
            if self._tell is not None:
                await self._tell(new)
        finally:
            if before is not None:
                await self._deployer.retire(before.stages)
        return new

    async def _give_up(self) -> None:
        """Nothing works any more, until a look finds that something could."""
        if self.deployment is None:
            return
        await self.stop()
        if self._tell is not None:
            await self._tell(None)

    async def _measure_if_idle(self, looks: Looks) -> None:
        """Measure what was not measured since it was deployed, one time, when nobody has used it between two looks."""
        if self.deployment is None or self.deployment.number == self._measured:
            return
        before, self._done = self._done, sum(look.frames for _, look in self._at_work(looks))
        if before == self._done and await self.measure() and self._tell is not None:
            await self._tell(self.deployment)

    def _at_work(self, looks: Looks) -> list[tuple[RunningStage, StageLook]]:
        """The stages that work, as their nodes see them; those that are missing or broken are left out."""
        stages = self.deployment.stages if self.deployment else ()
        found = [(one, looks.get(one.stage.node, {}).get(one.loaded.id)) for one in stages]
        return [(one, look) for one, look in found if look is not None and not look.broken]

    def _broken(self, looks: Looks) -> bool:
        return self.deployment is None or len(self._at_work(looks)) < len(self.deployment.stages)

    def _speed_changed(self, looks: Looks) -> bool:
        """Whether a stage takes another time than when it was first seen at work; then its node is measured again."""
        changed = False
        for one, look in self._at_work(looks):
            if look.seconds is None:
                continue
            before = self._observed.setdefault(one.loaded.id, look.seconds)
            if self._matters(look.seconds, before):
                self._observed[one.loaded.id] = look.seconds
                self._survey.forget(self.fleet.nodes[one.stage.node])
                changed = True
        return changed

    def _matters(self, now: float, before: float) -> bool:
        """Whether a stage's time has changed by more than the margin, and by more than a little of the whole."""
        assert self.deployment is not None  # noqa: S101 - the stage is of it
        little = _LITTLE * self.deployment.plan.latency_s
        return differs(now, before, self._aim.margin) and abs(now - before) > little


def _frames(seconds: float) -> int:
    """How many frames of so many seconds tell how fast a pipeline is."""
    return max(_FEWEST_FRAMES, min(_MOST_FRAMES, round(_MEASURE_SECONDS / seconds)))
