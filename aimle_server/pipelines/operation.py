"""All of split operation at this server, put together: what its APIs, the watch and the application need of it."""

from collections.abc import Callable

from aimle_server.pipelines.driver import PipelineDriver
from aimle_server.pipelines.parts import PipelineParts
from aimle_server.pipelines.work import Tools
from aimle_server.procedures import split_subscriptions
from aimle_server.procedures.split_discovery import SplitDiscovery, SplitPipelineDiscovery
from aimle_server.procedures.split_join import SplitPipelineJoin
from aimle_server.procedures.split_node_registration import SplitNodeRegistration
from aimle_server.procedures.split_pipelines import OWN_WATCH, SplitPipelineManagement
from aimle_server.procedures.split_subscriptions import SplitEventWatch
from aimle_server.procedures.subscriptions import Kind
from aimle_server.split.survey import Profiles
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.repository import Repository
from sbi.clock import Clock
from sbi.outbound import Outbound
from schemas.split_event import SplitOpEventSub


class SplitOperation:
    """Its parts.

    Args:
        api_root: of this server, where nodes fetch parts.
        happened: has those who watch nodes and pipelines looked after, and nodes told.

    Attributes:
        driver: runs pipelines.
        registration, pipelines, discovery, join: the procedures.
        events: subscriptions to pipelines and nodes.
        own: those that the requestors of pipelines have to them.
    """

    def __init__(
        self,
        stores: Repository,
        artifacts: ModelArtifacts,
        outbound: Outbound,
        clock: Clock,
        new_id: Callable[[], str],
        api_root: str,
        happened: Callable[[], None],
    ) -> None:
        pipelines, nodes, models = stores.split_pipelines, stores.split_nodes, stores.models
        parts = PipelineParts(models, artifacts, api_root)
        tools = Tools(
            pipelines, nodes, models, stores.artifacts, parts, outbound, clock, Profiles(), happened
        )
        found = SplitDiscovery(pipelines, nodes, models, clock)
        watch, schema = SplitEventWatch(pipelines, nodes, found, clock), SplitOpEventSub()
        check, begin = split_subscriptions.check, split_subscriptions.begin
        self.driver = PipelineDriver(tools, stores.positions, stores.database.process)
        self.registration = SplitNodeRegistration(nodes, clock, new_id, outbound.check, happened)
        self.pipelines = SplitPipelineManagement(
            pipelines, nodes, models, self.driver, clock, new_id, outbound.check, happened
        )
        self.discovery = SplitPipelineDiscovery(found, self.pipelines)
        self.join = SplitPipelineJoin(pipelines, nodes, found, clock, happened)
        self.events = Kind(split_subscriptions.KIND, schema, watch.look, check=check, begin=begin)
        self.own = Kind(OWN_WATCH, schema, watch.look)
