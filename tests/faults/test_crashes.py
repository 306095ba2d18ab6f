"""kill -9 of the server at every transition of a training: the training ends as if nothing had happened.

Only the server dies. Its clients and the VAL server are in the test's process, the database is the tests', and
`aimle-server run` takes over on the same port.
"""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from aimle_client.testing import RunningServer
from aimle_client.ue import AimleClient
from aimle_client.val import Objective, TrainingProfile, ValServer, member_criteria
from ml_repository.database import Database, connect
from tests.support import Listener, eventually
from tests.support_process import Server
from tests.support_training import ADAM, SERVICE, START, Pull, hears_nothing_more, ues

pytestmark = pytest.mark.faults

PROFILE = TrainingProfile(**ADAM, learning_rate=0.5, seed=3)  # type: ignore[arg-type]
STORIES = {
    "COMPLETED": Objective(max_epochs=2),
    "FAILED": Objective(max_epochs=2, acceptable_error=0.01),
    "CANCELLED": Objective(max_epochs=2),
    "SECOND-TRY": Objective(max_epochs=1),
}
"""By their ends. CANCELLED ends in the second round, in which the clients wait for the VAL server to do that; in
SECOND-TRY all clients fail when they are asked for the first time. Where there are criteria, members are watched."""

CRITERIA = {"COMPLETED", "CANCELLED"}
"""Stories whose requests have them, beside the members that they name."""


@dataclass(frozen=True)
class Outcome:
    """What is left of a training.

    Attributes:
        end: its state and the reason for it.
        history: of each round the number, who took part, who did not, their samples and the model's accuracy.
        told: what the VAL server was told, without identifiers, and once where it was told the same twice.
        records: of each client, how often it was asked and dropped out.
        weights: the resulting model's tensor.
        seconds: from the request to the end.
    """

    end: tuple[str, str | None]
    history: list[Any]
    told: list[Any]
    records: Mapping[str, Any]
    weights: list[float] | None
    seconds: float = field(compare=False)


@dataclass
class Scene:
    """A story under way: two clients, the VAL server's listener, and the server that is to die."""

    story: str
    server: Server
    database: Database
    trainers: dict[str, Pull]
    clients: dict[str, AimleClient]
    listener: Listener
    begun: float = 0.0

    async def prepare(self) -> None:
        """Store the first model and the training profile."""
        async with ValServer(self.server.url) as val:
            await val.store_model("digits", {"w": START}, services=[SERVICE])
            await val.put_training_profile("digits", PROFILE)
        self.begun = time.monotonic()

    async def unfold(self) -> None:
        """What the VAL server does: it asks until there is a training, and takes no for no answer."""
        body: dict[str, Any] = {
            "trnType": "TRAIN_HFL",
            "datasetId": ["digits"],
            "members": list(self.trainers),
            "modelInf": {"mlModelId": "digits"},
            "trainObj": STORIES[self.story].to_wire(),
            "notifUri": self.listener.url(),
            "memUpdNotif": True,
        }
        if self.story in CRITERIA:
            body["memSelCrit"] = member_criteria()
        while await self.training() is None:
            await self._post("/aimles-trn/v1/request-train", body)
        if self.story == "CANCELLED":
            await eventually(lambda: len(self.trainers["ue-1"].configs) == 2)
            await self._cancel()
            for trainer in self.trainers.values():
                trainer.gate.set()

    async def _cancel(self) -> None:
        training = await self.training()
        assert training is not None
        stop = {
            "operMode": "STOP",
            "operId": {"trainingId": training["_id"]},
            "clients": list(self.trainers),
        }
        while not await self._post("/aimles-opm/v1/request", stop):
            pass

    async def _post(self, path: str, body: Mapping[str, Any]) -> bool:
        """Whether the server did it; after a failure some time has passed."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(self.server.url + path, json=body) as answer,
            ):
                if answer.ok:
                    return True
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)
        return False

    async def training(self) -> dict[str, Any] | None:
        """As it is stored."""
        return await self.database["trainings"].find_one({})

    async def _is_over(self) -> bool:
        training = await self.training()
        waiting = await self.database["outbox"].count_documents({})
        return bool(training and not training["_open"]) and not waiting and hears_nothing_more(self.clients)

    async def outcome(self) -> Outcome:
        """Once everything has come to rest, with nothing left over."""
        await eventually(self._is_over, timeout=25)
        seconds = time.monotonic() - self.begun
        training = await self.training()
        assert training is not None
        await self._nothing_is_left_but(training["state"] != "FAILED")
        weights = None
        if training["state"] != "FAILED":
            async with ValServer(self.server.url) as val:
                weights = (await val.download_model(training["output_model_id"]))["w"].tolist()
        registrations = await self.database["registrations"].find({}).to_list(None)
        return Outcome(
            (training["state"], training["reason"]),
            [
                [record[name] for name in ("round", "participants", "dropped", "samples")]
                + [record["metrics"]["accuracy"] if record["metrics"] else None]
                for record in training["history"]
            ],
            [told for told, _ in groupby(map(_anonymous, self.listener.bodies))],
            {each["_id"]: each.get("_stats") for each in registrations},
            weights,
            seconds,
        )

    async def _nothing_is_left_but(self, a_result: bool) -> None:
        """The first model and perhaps the result; what was never referred to waits to be discarded."""
        models = await self.database["models"].find({}).to_list(None)
        stored = {each["_id"] async for each in self.database["artifacts"].find({})}
        discarded = {each["_id"] async for each in self.database["discards"].find({})}
        assert len(models) == 1 + a_result
        assert await self.database["storages"].count_documents({}) == len(models)
        assert stored - discarded == {model["_bytes"]["id"] for model in models}
        assert await self.database["trainings"].count_documents({}) == 1
        assert await self.database["subscriptions"].count_documents({}) == 0


def _anonymous(body: Mapping[str, Any]) -> dict[str, Any]:
    """A notification without what differs between equal trainings: identifiers, ports, and measured times."""
    details = dict(body.get("aimle", {}))
    details.pop("outputModelId", None)
    details["accuracy"] = details.pop("metrics", {}).get("accuracy")
    members = [member["clientSel"] for member in body.get("members", ())]
    rest = {name: value for name, value in body.items() if name not in ("trainingID", "aimle", "members")}
    return rest | {"aimle": details, "members": members}


@contextlib.asynccontextmanager
async def scene(server: Server, database: Database, story: str) -> AsyncIterator[Scene]:
    """The story's first page, at a server that runs; the server is dead when the block ends."""
    trainers = {"ue-1": Pull(0.9, 5), "ue-2": Pull(1.1, 40)}
    try:
        async with Listener() as listener, ues(RunningServer(server.url), trainers) as clients:
            _direct(story, trainers, clients)
            found = Scene(story, server, database, trainers, clients, listener)
            await found.prepare()
            yield found
    finally:
        await server.kill()


def _direct(story: str, trainers: Mapping[str, Pull], clients: Mapping[str, AimleClient]) -> None:
    """Have the clients do what the story asks of them."""

    def after_round(trainer: Pull) -> None:
        trainer.error = None
        if story == "CANCELLED" and len(trainer.configs) == 1:
            trainer.gate.clear()

    for name, trainer in trainers.items():
        trainer.error = RuntimeError("not today") if story == "SECOND-TRY" else None
        clients[name].on_round(lambda _, it=trainer: after_round(it))


async def undisturbed_run(url: str, folder: Path, story: str) -> Outcome:
    """The outcome where nobody dies."""
    database = await connect(url, f"test_{uuid.uuid4().hex}")
    server = Server.on(folder, url, database)
    await server.start()
    async with scene(server, database, story) as it:
        await it.unfold()
        outcome = await it.outcome()
    await database.client.drop_database(database.db.name)
    await database.close()
    return outcome


@pytest.fixture(scope="module")
def undisturbed(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The outcomes of all stories where nobody dies."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return {story: asyncio.run(undisturbed_run(mongo_url, folder, story)) for story in STORIES}


@pytest.fixture
def server(tmp_path: Path, mongo_url: str, database: Database) -> Server:
    """The server, not started yet."""
    return Server.on(tmp_path, mongo_url, database)


def ended_as(outcome: Outcome, expected: Outcome) -> None:
    """Both are the same, the weights to 1e-6."""
    assert (outcome.end, outcome.history, outcome.told) == (expected.end, expected.history, expected.told)
    assert outcome.records == expected.records
    assert (outcome.weights is None) == (expected.weights is None)
    if expected.weights is not None:
        np.testing.assert_allclose(outcome.weights or [], expected.weights, atol=1e-6)


def test_without_a_crash(undisturbed: dict[str, Outcome]) -> None:
    """The stories end as they are meant to, so that the crashes are compared with something."""
    ends = [outcome.end[0] for outcome in undisturbed.values()]
    assert ends == ["COMPLETED", "FAILED", "CANCELLED", "COMPLETED"]
    assert [record[0] for record in undisturbed["COMPLETED"].history] == [1, 2]
    assert [told["aimle"].get("round") for told in undisturbed["COMPLETED"].told] == [None, 1, 2, None]
    assert undisturbed["COMPLETED"].records == {name: {"asked": 2, "dropped": 0} for name in ("ue-1", "ue-2")}
    assert undisturbed["FAILED"].weights is None


# `written` are the bytes of an artifact that is not one yet; the first time it is the model to be trained.
CRASHES = [
    ("COMPLETED", "before", "REQUESTED", 1),
    ("COMPLETED", "after", "REQUESTED", 1),
    ("COMPLETED", "before", "SELECTING", 1),
    ("COMPLETED", "after", "SELECTING", 1),
    ("COMPLETED", "before", "ROUND_RUNNING", 1),
    ("COMPLETED", "after", "ROUND_RUNNING", 1),
    ("COMPLETED", "before", "AGGREGATING", 1),
    ("COMPLETED", "after", "AGGREGATING", 1),
    ("COMPLETED", "after", "written", 2),
    ("COMPLETED", "after", "checkpoint", 1),
    ("COMPLETED", "before", "SELECTING", 2),
    ("COMPLETED", "after", "SELECTING", 2),
    ("COMPLETED", "after", "ROUND_RUNNING", 2),
    ("COMPLETED", "after", "AGGREGATING", 2),
    ("COMPLETED", "after", "checkpoint", 2),
    ("COMPLETED", "after", "memory", 2),
    ("COMPLETED", "after", "SELECTING", 3),
    ("COMPLETED", "after", "ROUND_RUNNING", 3),
    ("COMPLETED", "before", "storing", 1),
    ("COMPLETED", "after", "storing", 1),
    ("COMPLETED", "after", "result", 1),
    ("COMPLETED", "before", "COMPLETED", 1),
    ("COMPLETED", "after", "COMPLETED", 1),
    ("COMPLETED", "before", "forgetting", 1),
    ("COMPLETED", "before", "forgetting", 3),
    ("COMPLETED", "before", "closing", 1),
    ("COMPLETED", "after", "closing", 1),
    ("FAILED", "before", "FAILED", 1),
    ("FAILED", "after", "FAILED", 1),
    ("FAILED", "before", "closing", 1),
    ("SECOND-TRY", "after", "ROUND_RUNNING", 1),
    ("CANCELLED", "before", "storing", 1),
    ("CANCELLED", "after", "storing", 1),
    ("CANCELLED", "before", "CANCELLED", 1),
    ("CANCELLED", "after", "CANCELLED", 1),
]


@pytest.mark.parametrize(("story", "when", "point", "turn"), CRASHES, ids=lambda value: str(value))
async def test_a_crash(
    server: Server,
    database: Database,
    undisturbed: dict[str, Outcome],
    story: str,
    when: str,
    point: str,
    turn: int,
) -> None:
    """Killed immediately before or after any step, a server leaves everything that its successor needs."""
    await server.start(when, point, str(turn))
    async with scene(server, database, story) as it, asyncio.TaskGroup() as group:
        group.create_task(it.unfold())
        await server.has_died()
        await server.start()
        outcome = await it.outcome()
    ended_as(outcome, undisturbed[story])


@pytest.mark.parametrize("point", ["ROUND_RUNNING", "checkpoint", "storing"])
async def test_a_crash_with_the_disk(
    server: Server, database: Database, undisturbed: dict[str, Outcome], point: str
) -> None:
    """A successor on another machine has nothing but the database, and needs no more."""
    turn = 1 if point == "storing" else 2
    await server.start("after", point, str(turn))
    async with scene(server, database, "COMPLETED") as it, asyncio.TaskGroup() as group:
        group.create_task(it.unfold())
        await server.has_died()
        await server.start(data="empty")
        outcome = await it.outcome()
    ended_as(outcome, undisturbed["COMPLETED"])


@pytest.mark.parametrize("seed", range(4))
async def test_a_crash_at_any_moment(
    server: Server, database: Database, undisturbed: dict[str, Outcome], seed: int
) -> None:
    """Killed twice, whenever it may be, a server loses nothing either."""
    moments = random.Random(seed)
    await server.start()
    async with scene(server, database, "COMPLETED") as it, asyncio.TaskGroup() as group:
        group.create_task(it.unfold())
        for _ in range(2):
            await asyncio.sleep(moments.uniform(0, undisturbed["COMPLETED"].seconds))
            await server.kill()
            await server.start()
        outcome = await it.outcome()
    ended_as(outcome, undisturbed["COMPLETED"])
