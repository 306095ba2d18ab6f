"""The composition root: settings in, application out. Every object of the server is made here, once."""

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

from aiohttp import ClientSession, hdrs, web

from aimle_server import metrics
from aimle_server.access import Access, open_access
from aimle_server.apis import SERVED_APIS
from aimle_server.apis.channels import add_addresses
from aimle_server.apis.hfl_management import HFL_PATH
from aimle_server.apis.oauth import API as OAUTH_API
from aimle_server.apis.oauth import TOKEN_SERVICE
from aimle_server.channels.channels import Channels
from aimle_server.consumers.aimle_clients import AimleClients
from aimle_server.consumers.peers import Peers, open_peer_session
from aimle_server.health import add_health
from aimle_server.hfl.asking import RoundAsker
from aimle_server.hfl.candidates import Candidates
from aimle_server.hfl.driver import Tools
from aimle_server.hfl.engine import Engine
from aimle_server.hfl.handing_over import HandingOver
from aimle_server.hfl.load import LoadMeter
from aimle_server.hfl.load_writer import LoadWriter
from aimle_server.hfl.members import MemberSelection
from aimle_server.hfl.reports import Reports
from aimle_server.hfl.results import Results
from aimle_server.hfl.round_files import RoundFiles
from aimle_server.hfl.task_mover import TaskMover
from aimle_server.janitor import Janitor
from aimle_server.notifications.dispatcher import Dispatcher
from aimle_server.notifications.retry import RetryPolicy
from aimle_server.pipelines.operation import SplitOperation
from aimle_server.presence import Presence, needs_database
from aimle_server.procedures import fl_event_subscriptions, retrieval_subscriptions, selection_subscriptions
from aimle_server.procedures.channels import ChannelManagement
from aimle_server.procedures.client_discovery import ClientDiscovery
from aimle_server.procedures.client_registration import ClientRegistration, Lifetimes
from aimle_server.procedures.client_selection import ClientSelection, wanted_by_criteria
from aimle_server.procedures.external import External
from aimle_server.procedures.fl_event_subscriptions import FLEventsWatch
from aimle_server.procedures.fl_members import FLMemberView
from aimle_server.procedures.kept_selection import Selector
from aimle_server.procedures.model_retrieval import ModelRetrieval
from aimle_server.procedures.model_training import ModelTraining
from aimle_server.procedures.model_update import ModelUpdate
from aimle_server.procedures.retrieval_subscriptions import RetrievalWatch
from aimle_server.procedures.selection_subscriptions import SelectionWatch
from aimle_server.procedures.service_operations import ServiceOperations
from aimle_server.procedures.subscriptions import Kind, SubscriptionManagement, until_stop_time
from aimle_server.procedures.task_targets import TaskTargets
from aimle_server.procedures.task_transfer import TaskTransferAssistance
from aimle_server.procedures.training_status import TrainingStatusReader
from aimle_server.services import SERVICES, Services
from aimle_server.settings import Settings
from aimle_server.watch.follower import Follower
from aimle_server.watch.looks import Watch
from ml_repository.channels import ADDRESSES
from ml_repository.database import Database, open_database, translate
from ml_repository.embedded import EmbeddedDatabase
from ml_repository.fl_member_registration import FLMemberRegistration
from ml_repository.keys import FL_MEMBERS, MODEL_ARTIFACTS, MODEL_DISCOVERY, MODEL_MANAGEMENT, MODEL_SPOOL
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.model_discovery import ModelDiscovery
from ml_repository.model_management import ModelManagement
from ml_repository.repository import INDEXES, Repository
from ml_repository.trainings import Holder
from sbi.clock import Clock
from sbi.digests import SHA256
from sbi.mount import AUTHENTICATOR, PUBLIC_URL, mount
from sbi.outbound import Outbound, TargetPolicy
from sbi.problems import problems
from sbi.spool import Spool
from schemas.client_selection import ClientSelSub
from schemas.fl_events import FlEvtsSub
from schemas.model_retrieval import MLMdlRetSub


async def build_app(
    settings: Settings, clock: Clock | None = None, external: External | None = None
) -> web.Application:
    """The application; its background work runs while it serves.

    A database that does not answer yet is waited for while serving: until then operations answer 503.

    Args:
        settings: with the real port in `server.port`: clients are told addresses.
        clock: tells the time; a test passes one that it moves.
        external: the systems that know of location, velocity, QoS and edge servers; default: none is connected.

    Raises:
        EmbeddedDatabaseError: the embedded database cannot be started.
        PyMongoError: the database is there and does not let us in, or its URL is none.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            _Server.open(settings, clock or Clock(), external or External())
        )
        app = server.application()
        rest = stack.pop_all()
    app.on_cleanup.append(lambda _: rest.aclose())
    return app


class _Server:
    """The parts, in the order in which they need each other."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        external: External,
        repository: Repository,
        presence: Presence,
        access: Access,
        outbound: Outbound,
        channels: Channels,
        peer_session: ClientSession,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.external = external
        self.repository = repository
        self.presence = presence
        self.access = access
        self.clients = AimleClients(outbound, settings.hfl.call_timeout)
        self.outbound = outbound
        self.channels = channels
        self.peer_session = peer_session
        self.data = Path(settings.server.data_dir)
        self.discovery = ModelDiscovery(repository.models)
        self.artifacts = self._model_artifacts()
        self.dispatcher = self._dispatcher()
        self.channels.wake = self.dispatcher.wake
        self.files = RoundFiles(
            self.data / "trainings",
            repository.artifacts,
            repository.models,
            outbound,
            settings.server.max_model_bytes,
        )
        self.meter = LoadMeter(clock.monotonic)
        self.targets = self._task_targets()
        self.mover = TaskMover(
            repository.registrations, repository.task_transfers, self.targets, clock, _new_id
        )
        self.engine = Engine(self._tools(), settings.hfl.lease)
        self.client_discovery = ClientDiscovery(repository.registrations, clock, external)
        self.retrieval = ModelRetrieval(self.discovery, self._registration_of)
        self.selections = self._selections()
        self.retrievals = Kind(
            retrieval_subscriptions.KIND,
            MLMdlRetSub(),
            RetrievalWatch(self.retrieval, clock, settings.api_root).look,
        )
        self.split = SplitOperation(
            repository,
            self.artifacts,
            outbound,
            clock,
            _new_id,
            settings.api_root,
            self._split_happened,
        )
        self.fl_events = self._fl_events()
        self.watch = self._watch()
        self.load_writer = LoadWriter(self.meter, repository.loads, repository.subscriptions.exist, clock)
        self.model_spool, self.update_spool = self._spool("models", SHA256), self._spool("updates")
        self.state_spool = self._spool("states", SHA256)
        spools = [self.model_spool, self.update_spool, self.state_spool]
        self.janitor = Janitor(repository, spools, self.files.folders, clock, settings.hfl.lease)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, clock: Clock, external: External) -> AsyncIterator["_Server"]:
        """The parts, with everything open that has to be closed again."""
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(_open_database(settings))
            repository = Repository.on(database, clock, _new_id)
            presence = Presence(database, INDEXES)
            await presence.start()
            stack.push_async_callback(presence.stop)
            access = await stack.enter_async_context(open_access(settings, repository.oauth_clients, clock))
            peer_session = await stack.enter_async_context(open_peer_session())
            channels = _channels(settings, clock, repository, peer_session)
            outbound = Outbound(_policy(settings), authorize=access.authorize, inside=channels)
            stack.push_async_callback(outbound.close)
            yield cls(
                settings, clock, external, repository, presence, access, outbound, channels, peer_session
            )

    def application(self) -> web.Application:
        """The aiohttp application over these parts."""
        app = web.Application(
            middlewares=[metrics.middleware, problems(translate), needs_database(self.presence)],
            client_max_size=self.settings.server.max_json_bytes,
        )
        app[PUBLIC_URL] = self.settings.server.public_url
        app[AUTHENTICATOR] = self.access.authenticator
        app[FL_MEMBERS] = FLMemberRegistration(
            self.repository.fl_members, self.clock, _new_id, self.watch.happened
        )
        app[MODEL_MANAGEMENT] = ModelManagement(self.repository.storages, **self._names())
        app[MODEL_DISCOVERY] = self.discovery
        app[MODEL_ARTIFACTS] = self.artifacts
        app[MODEL_SPOOL] = self.model_spool
        app[SERVICES] = self._services()
        add_health(app, self.presence)
        if self.access.token_service:
            app[TOKEN_SERVICE] = self.access.token_service
            mount(app, [OAUTH_API])
        mount(app, SERVED_APIS)
        add_addresses(app)
        app.on_response_prepare.append(_hide_versions)
        app.cleanup_ctx.append(self._background)
        app.on_shutdown.append(self._hand_over)
        return app

    async def _background(self, _app: web.Application) -> AsyncIterator[None]:
        """What runs while the application serves."""
        parts = (
            self.dispatcher,
            self.engine,
            self.load_writer,
            self.watch,
            self.split.driver,
            self.janitor,
        )
        for part in parts:
            await part.start()
        yield
        for part in reversed(parts):
            await part.stop()

    async def _hand_over(self, _app: web.Application) -> None:
        """Nobody new gets in any more, so no round can end here; what came before is still answered."""
        await self.engine.stop()
        await self.channels.close()

    def _services(self) -> Services:
        registrations, client_sets = self.repository.registrations, self.repository.client_sets
        discovery = self.client_discovery
        reports = Reports(self.engine, self.files, registrations, self.meter)
        training = ModelTraining(
            self.repository.models,
            self.discovery,
            client_sets,
            self.repository.profiles,
            self.artifacts,
            self.engine.begin,
            self.outbound.check,
            _new_id,
            self.settings.hfl,
        )
        return Services(
            registration=ClientRegistration(
                registrations,
                self.clock,
                _new_id,
                _lifetimes(self.settings),
                self.outbound.check,
                self.watch.happened,
            ),
            discovery=discovery,
            selection=ClientSelection(
                discovery,
                registrations,
                client_sets,
                self.clients,
                self.clock,
                _new_id,
                self.settings.hfl.participation_timeout,
            ),
            selection_subscriptions=self._subscriptions(self.selections),
            retrieval=self.retrieval,
            retrieval_subscriptions=self._subscriptions(self.retrievals),
            fl_event_subscriptions=self._subscriptions(self.fl_events),
            training=training,
            update=ModelUpdate(
                self.repository.models,
                self.discovery,
                self.repository.trainings,
                training,
                self.engine.wait,
                self.settings.update.wait,
                self.clock,
            ),
            operations=ServiceOperations(
                registrations,
                client_sets,
                self.repository.trainings,
                self.clients,
                self.engine.tell,
                self.clock,
                _new_id,
                self.settings.server.id,
            ),
            split_nodes=self.split.registration,
            split_pipelines=self.split.pipelines,
            split_discovery=self.split.discovery,
            split_join=self.split.join,
            split_subscriptions=self._subscriptions(self.split.events),
            status=TrainingStatusReader(self.repository.trainings),
            profiles=self.repository.profiles,
            reports=reports,
            update_spool=self.update_spool,
            task_transfer=TaskTransferAssistance(
                registrations,
                self.repository.trainings,
                self.repository.task_transfers,
                self.targets,
                self.clock,
                _new_id,
            ),
            handing_over=HandingOver(
                self.engine,
                reports,
                self.repository.artifacts,
                registrations,
                self.repository.task_transfers,
                self.mover,
                self.clock,
            ),
            artifacts=self.repository.artifacts,
            state_spool=self.state_spool,
            peers=Peers(self.repository.trainings, self.peer_session, self.settings.peer_url),
            channels=ChannelManagement(
                self.repository.channels, self.clock, _new_id, _channels_base(self.settings)
            ),
            sockets=self.channels,
        )

    def _split_happened(self) -> None:
        """Nodes are to be told, and whoever watches."""
        self.dispatcher.wake()
        self.watch.happened()

    def _selector(self, timeout: float, patience: float) -> Selector:
        registrations = self.repository.registrations
        return Selector(registrations, self.clients, self.external, timeout=timeout, patience=patience)

    def _tools(self) -> Tools:
        patience = self.settings.hfl.participation_timeout
        return Tools(
            holder=Holder(self.repository.database.process, self.settings.peer_url),
            clock=self.clock,
            trainings=self.repository.trainings,
            dispatcher=self.dispatcher,
            members=MemberSelection(
                Candidates(self.repository.registrations, self.external, self.clock),
                self.repository.subscriptions,
                self._selector(3 * patience, patience),
                self.clients,
                self.clock,
                _new_id,
                server_id=self.settings.server.id,
                join_timeout=self.settings.hfl.join_timeout,
            ),
            asker=RoundAsker(self.clients, self.settings.server.id, self.settings.api_root + HFL_PATH),
            files=self.files,
            results=Results(self.files, self.artifacts, self.repository.registrations),
            meter=self.meter,
            mover=self.mover,
        )

    def _selections(self) -> Kind:
        timeout = self.settings.hfl.participation_timeout
        watch = SelectionWatch(
            self.client_discovery,
            self._selector(timeout, timeout / 2),
            self.clients,
            self.external,
            self.clock,
        )
        return Kind(
            selection_subscriptions.KIND, ClientSelSub(), watch.look, watch.end, check=wanted_by_criteria
        )

    def _fl_events(self) -> Kind:
        stores = self.repository
        view = FLMemberView(stores.fl_members, stores.registrations)
        return Kind(
            fl_event_subscriptions.KIND,
            FlEvtsSub(),
            FLEventsWatch(view, self.retrieval, stores.loads, self.clock).look,
            check=fl_event_subscriptions.check,
            validity=until_stop_time,
            unsupported=frozenset({"energyReqs"}),
        )

    def _task_targets(self) -> TaskTargets:
        return TaskTargets(
            self.repository.registrations,
            self.clients,
            self.external,
            self.clock,
            self.settings.server.id,
            self.settings.hfl.participation_timeout,
        )

    def _subscriptions(self, kind: Kind) -> SubscriptionManagement:
        return SubscriptionManagement(
            kind,
            self.repository.subscriptions,
            self.clock,
            _new_id,
            self.outbound.check,
            self.watch.wake,
        )

    def _watch(self) -> Watch:
        stores = self.repository
        sources = {
            "registrations": stores.registrations.events,
            "fl_members": stores.fl_members.events,
            "models": stores.models.events,
            "split_nodes": stores.split_nodes.events,
            "split_pipelines": stores.split_pipelines.events,
        }
        return Watch(
            stores.subscriptions,
            [
                Follower(name, events, stores.subscriptions, stores.positions, stores.database.process)
                for name, events in sources.items()
            ],
            [self.selections, self.retrievals, self.fl_events, self.split.events, self.split.own],
            self.clock,
            self.dispatcher.wake,
            timedelta(seconds=3 * self.settings.hfl.participation_timeout),
            self.engine.look,
        )

    def _dispatcher(self) -> Dispatcher:
        outbox = self.settings.outbox
        policy = RetryPolicy(first=outbox.backoff, longest=outbox.backoff_max, give_up_after=outbox.max_age)
        return Dispatcher(
            self.repository.outbox,
            self.outbound,
            policy,
            self.clock,
            random.SystemRandom(),
            timeout=outbox.timeout,
        )

    def _model_artifacts(self) -> ModelArtifacts:
        stores = self.repository
        return ModelArtifacts(
            stores.models,
            stores.storages,
            stores.artifacts,
            stores.discards,
            self.clock,
            _new_id,
            **self._names(),
        )

    def _names(self) -> dict[str, str]:
        return {"server_id": self.settings.server.id, "repository_id": self.settings.server.id}

    def _spool(self, name: str, *algorithms: str) -> Spool:
        directory = self.data / "spool" / name
        return Spool(directory, self.settings.server.max_model_bytes, algorithms=algorithms)

    async def _registration_of(self, subject: str) -> dict[str, object] | None:
        """The registration of the AIMLE client that has the subject's name, if the subject is its owner."""
        found = await self.repository.registrations.by_client_ids([subject], self.clock.now())
        registration = found.get(subject)
        return registration["regData"] if registration and registration["_owner"] == subject else None


@asynccontextmanager
async def _open_database(settings: Settings) -> AsyncIterator[Database]:
    """The configured MongoDB, or the embedded database for as long as it is needed."""
    async with AsyncExitStack() as stack:
        url = settings.database.url
        if not url:
            url = (await stack.enter_async_context(EmbeddedDatabase(Path(settings.server.data_dir)))).url
        database = open_database(url, settings.database.name)
        stack.push_async_callback(database.close)
        yield database


def _channels(
    settings: Settings, clock: Clock, repository: Repository, peer_session: ClientSession
) -> Channels:
    return Channels(
        repository.channels,
        repository.outbox,
        clock,
        _new_id,
        peer_session,
        base=_channels_base(settings),
        address=settings.peer_url,
        most_bytes=settings.server.max_json_bytes,
    )


def _channels_base(settings: Settings) -> str:
    """What the addresses of all channels begin with."""
    return settings.api_root + ADDRESSES


def _policy(settings: Settings) -> TargetPolicy:
    return TargetPolicy(
        settings.targets.schemes,
        tuple(map(ip_network, settings.allowed_targets)),
        tuple(map(ip_network, settings.targets.deny)),
    )


def _lifetimes(settings: Settings) -> Lifetimes:
    return Lifetimes(
        timedelta(seconds=settings.registration.default_lifetime),
        timedelta(seconds=settings.registration.max_lifetime),
    )


async def _hide_versions(_request: web.Request, response: web.StreamResponse) -> None:
    """aiohttp would name itself and Python with their versions."""
    response.headers[hdrs.SERVER] = "aimle-server"


def _new_id() -> str:
    """An identifier that nobody guesses, and that fits into a URL."""
    return secrets.token_urlsafe(16)
