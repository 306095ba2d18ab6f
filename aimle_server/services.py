"""Where a handler finds the procedures: `call[SERVICES].registration`."""

from dataclasses import dataclass

from aiohttp import web

from aimle_server.channels.channels import Channels
from aimle_server.consumers.peers import Peers
from aimle_server.hfl.handing_over import HandingOver
from aimle_server.hfl.reports import Reports
from aimle_server.procedures.channels import ChannelManagement
from aimle_server.procedures.client_discovery import ClientDiscovery
from aimle_server.procedures.client_registration import ClientRegistration
from aimle_server.procedures.client_selection import ClientSelection
from aimle_server.procedures.model_retrieval import ModelRetrieval
from aimle_server.procedures.model_training import ModelTraining
from aimle_server.procedures.model_update import ModelUpdate
from aimle_server.procedures.service_operations import ServiceOperations
from aimle_server.procedures.split_discovery import SplitPipelineDiscovery
from aimle_server.procedures.split_join import SplitPipelineJoin
from aimle_server.procedures.split_node_registration import SplitNodeRegistration
from aimle_server.procedures.split_pipelines import SplitPipelineManagement
from aimle_server.procedures.subscriptions import SubscriptionManagement
from aimle_server.procedures.task_transfer import TaskTransferAssistance
from aimle_server.procedures.training_status import TrainingStatusReader
from ml_repository.artifacts import Artifacts
from ml_repository.trainings import TrainingProfiles
from sbi.spool import Spool


@dataclass(frozen=True)
class Services:
    """The procedures of TS 23.482 that this server has, one attribute each, and what the HFL addresses need."""

    registration: ClientRegistration
    discovery: ClientDiscovery
    selection: ClientSelection
    selection_subscriptions: SubscriptionManagement
    retrieval: ModelRetrieval
    retrieval_subscriptions: SubscriptionManagement
    fl_event_subscriptions: SubscriptionManagement
    training: ModelTraining
    update: ModelUpdate
    operations: ServiceOperations
    split_nodes: SplitNodeRegistration
    split_pipelines: SplitPipelineManagement
    split_discovery: SplitPipelineDiscovery
    split_join: SplitPipelineJoin
    split_subscriptions: SubscriptionManagement
    status: TrainingStatusReader
    profiles: TrainingProfiles
    reports: Reports
    update_spool: Spool
    task_transfer: TaskTransferAssistance
    handing_over: HandingOver
    artifacts: Artifacts
    state_spool: Spool
    peers: Peers
    channels: ChannelManagement
    sockets: Channels


SERVICES = web.AppKey("services", Services)
