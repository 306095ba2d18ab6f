"""The ML repository (TS 23.482 5.2.3.4): all its stores on one database."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from ml_repository import (
    channels,
    discards,
    fl_members,
    loads,
    models,
    oauth_clients,
    outbox,
    registrations,
    split_nodes,
    split_pipelines,
    storages,
    subscriptions,
    task_transfers,
    trainings,
)
from ml_repository import database as connection
from ml_repository.artifacts import INDEXES as ARTIFACT_INDEXES
from ml_repository.artifacts import Artifacts
from ml_repository.channels import Channels
from ml_repository.client_sets import ClientSets
from ml_repository.database import Database
from ml_repository.discards import Discards
from ml_repository.fl_members import FLMembers
from ml_repository.loads import Loads
from ml_repository.models import Models
from ml_repository.oauth_clients import OAuthClients
from ml_repository.outbox import Outbox
from ml_repository.registrations import Registrations
from ml_repository.split_nodes import SplitNodes
from ml_repository.split_pipelines import SplitPipelines
from ml_repository.storages import Storages
from ml_repository.subscriptions import Positions, Subscriptions
from ml_repository.task_transfers import TaskTransfers
from ml_repository.trainings import TrainingProfiles, Trainings
from sbi.clock import Clock

INDEXES = {
    **ARTIFACT_INDEXES,
    **channels.INDEXES,
    **connection.INDEXES,
    **discards.INDEXES,
    **fl_members.INDEXES,
    **loads.INDEXES,
    **models.INDEXES,
    **oauth_clients.INDEXES,
    **outbox.INDEXES,
    **registrations.INDEXES,
    **split_nodes.INDEXES,
    **split_pipelines.INDEXES,
    **storages.INDEXES,
    **subscriptions.INDEXES,
    **task_transfers.INDEXES,
    **trainings.INDEXES,
}

GARBAGE_AGE = timedelta(hours=1)
"""Replaced model bytes are kept this long for whoever is still reading them."""


@dataclass(frozen=True)
class Repository:
    """The stores; each knows its own documents and nobody else's."""

    database: Database
    artifacts: Artifacts
    channels: Channels
    client_sets: ClientSets
    discards: Discards
    fl_members: FLMembers
    loads: Loads
    models: Models
    oauth_clients: OAuthClients
    outbox: Outbox
    profiles: TrainingProfiles
    registrations: Registrations
    split_nodes: SplitNodes
    split_pipelines: SplitPipelines
    storages: Storages
    subscriptions: Subscriptions
    positions: Positions
    task_transfers: TaskTransfers
    trainings: Trainings

    @classmethod
    async def open(cls, database: Database, clock: Clock, new_id: Callable[[], str]) -> Self:
        """The repository on this database, with every index there."""
        await database.ensure_indexes(INDEXES)
        return cls.on(database, clock, new_id)

    @classmethod
    def on(cls, database: Database, clock: Clock, new_id: Callable[[], str]) -> Self:
        """The repository on this database, whose indexes (`INDEXES`) are the caller's affair."""
        artifacts = Artifacts(database, clock)
        discarded = Discards(database, artifacts)
        messages = Outbox(database, clock)
        watched = Subscriptions(database, messages)
        return cls(
            database=database,
            artifacts=artifacts,
            channels=Channels(database),
            client_sets=ClientSets(database),
            discards=discarded,
            fl_members=FLMembers(database),
            loads=Loads(database),
            models=Models(database, discarded, clock),
            oauth_clients=OAuthClients(database),
            outbox=messages,
            profiles=TrainingProfiles(database),
            registrations=Registrations(database),
            split_nodes=SplitNodes(database),
            split_pipelines=SplitPipelines(database, messages, watched),
            storages=Storages(database, discarded, clock, new_id),
            subscriptions=watched,
            positions=Positions(database),
            task_transfers=TaskTransfers(database),
            trainings=Trainings(database, messages),
        )

    async def remove_expired(self, now: datetime) -> None:
        """Clean up what reading no longer shows."""
        # Whoever watches clients, FL members and nodes is to see first that they have gone.
        await self.registrations.remove_expired(await self.positions.seen(registrations.COLLECTION) or now)
        await self.split_nodes.remove_expired(await self.positions.seen(split_nodes.COLLECTION) or now)
        await self.split_pipelines.remove_ended(now)
        await self.channels.remove_expired(now)
        await self.fl_members.remove_expired(await self.positions.seen(fl_members.COLLECTION) or now)
        await self.models.remove_expired(now)
        await self.task_transfers.remove_expired(now)
        await self.artifacts.sweep(now - GARBAGE_AGE)
