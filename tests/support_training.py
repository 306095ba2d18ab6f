"""Trainings in small: a server in this process, real UEs, and trainers whose every step NumPy can repeat."""

import contextlib
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aimle_client.testing import RunningServer, running_server
from aimle_client.trainers.base import EvalResult, FitResult, Parameters, TrainingConfig
from aimle_client.ue import AimleClient
from aimle_client.val import Training, TrainingEvent, ValServer
from ml_repository.database import Database
from tests.support import eventually

SERVICE = "val-vision"
NOBODY = "anonymous"
"""The VAL server's name where there are no tokens, and so its service where the model names none."""
START = np.zeros(4, np.float32)
"""The tensor `w` of the model that trainings begin with."""

Vector = npt.NDArray[np.float32]


class Pull:
    """Moves `w` a part (`learningRate`) of the way to its own target, with a little noise of seed and round.

    Attributes:
        gate: `fit` waits for it.
        fitting: `fit` has begun.
        error: raised by `fit`.
        configs: what each `fit` was told.
        samples: its weight in the mean, and in the evaluation.
    """

    def __init__(self, target: float, samples: int = 10) -> None:
        self.target, self.samples = np.full(4, target, np.float32), samples
        self.gate, self.fitting = threading.Event(), threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.configs: list[Mapping[str, Any]] = []

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """One step from `w`."""
        self.configs.append(config)
        self.fitting.set()
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return FitResult({"w": self.step(parameters["w"], config)}, self.samples, {})

    def step(self, w: Vector, config: Mapping[str, Any]) -> Vector:
        """The update that `fit` makes of `w`."""
        how = TrainingConfig.from_mapping(config)
        noise = how.rng().normal(scale=1e-3, size=4)
        rate = how.learning_rate / (1 + how.proximal_mu)
        return (w + rate * (self.target - w) + noise).astype(np.float32)

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """1.0 at the target, less with every step away from it."""
        return EvalResult(self.samples, {"accuracy": self.accuracy(parameters["w"])})

    def accuracy(self, w: Vector) -> float:
        """What `evaluate` measures."""
        return max(0.0, 1.0 - float(np.abs(w - self.target).mean()))


def mean_of_round(trainers: Mapping[str, Pull], w: Vector, number: int, **profile: Any) -> Vector:
    """The mean of all trainers' updates, weighted by samples, in float64: what FedAvg makes of round `number`."""
    config = {"learningRate": 0.01, "seed": 0, **profile, "round": number}
    updates = np.stack([trainer.step(w, config).astype(np.float64) for trainer in trainers.values()])
    mean: Vector = np.average(updates, axis=0, weights=[trainer.samples for trainer in trainers.values()])
    return mean


def accuracy_of(trainers: Mapping[str, Pull], w: Vector) -> float:
    """What all trainers measure together of a model."""
    weights = [trainer.samples for trainer in trainers.values()]
    return float(np.average([trainer.accuracy(w) for trainer in trainers.values()], weights=weights))


def fedavg(trainers: Mapping[str, Pull], rounds: int, **profile: Any) -> list[Vector]:
    """The global models before each round, and after the last."""
    models = [START]
    for number in range(1, rounds + 1):
        models.append(mean_of_round(trainers, models[-1], number, **profile).astype(np.float32))
    return models


def fedadam(trainers: Mapping[str, Pull], rounds: int, **profile: Any) -> Vector:
    """The model after so many rounds of Adam on the mean changes, with `ADAM`'s parameters."""
    w, m, v = START, np.zeros(4), np.full(4, 0.01**2)
    for number in range(1, rounds + 1):
        change = mean_of_round(trainers, w, number, **profile) - w
        m, v = 0.8 * m + 0.2 * change, 0.9 * v + 0.1 * change**2
        w = (w + 0.2 * m / (np.sqrt(v) + 0.01)).astype(np.float32)
    return w


ADAM = {"strategy": "FEDADAM", "server_learning_rate": 0.2, "beta1": 0.8, "beta2": 0.9, "tau": 0.01}
"""Of a TrainingProfile."""


@contextlib.asynccontextmanager
async def serving(
    url: str, database: Database, settings: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[RunningServer]:
    """A server on the test's own database at `url` that takes every request."""
    where = {"database.url": url, "database.name": database.db.name}
    quick = {"hfl.join_timeout": 5.0, "hfl.round_timeout": 20.0, "hfl.call_timeout": 5.0}
    async with running_server({**where, **quick, **(settings or {})}, **options) as server:
        yield server


def val_server(server: RunningServer) -> ValServer:
    """The VAL server, with a listener."""
    return ValServer(server.url, listen=("127.0.0.1", 0))


def ue(server: str, name: str, trainer: Any, **options: Any) -> AimleClient:
    """An AIMLE client that has the data set `digits`."""
    arguments = {"services": [SERVICE, NOBODY], "datasets": {"digits": trainer}, "insecure_no_auth": True}
    return AimleClient(name, server, **(arguments | options))


@contextlib.asynccontextmanager
async def ues(server: RunningServer, trainers: Mapping[str, Any]) -> AsyncIterator[dict[str, AimleClient]]:
    """AIMLE clients with these trainers, whose gates open in the end."""
    async with contextlib.AsyncExitStack() as stack:
        for trainer in trainers.values():
            stack.callback(trainer.gate.set)
        yield {
            name: await stack.enter_async_context(ue(server.url, name, trainer))
            for name, trainer in trainers.items()
        }


async def begin(val: ValServer, **options: Any) -> Training:
    """A training of the model `digits`, which is stored first."""
    await val.store_model("digits", {"w": START}, services=[SERVICE], access="PUBLICLY_AVAILABLE")
    return await val.train(model_id="digits", dataset_ids=["digits"], **options)


async def events_of(training: Training) -> list[TrainingEvent]:
    """All events until the training has ended."""
    return [event async for event in training.events()]


async def reached(training: Training, *states: str, rounds: int = 0) -> None:
    """Return when the training is in one of the states, with so many rounds committed."""

    async def there() -> bool:
        status = await training.status()
        return status.state in states and status.round >= rounds

    await eventually(there)


def hears_nothing_more(clients: Mapping[str, AimleClient]) -> bool:
    """Whether no client has a subscription, an operation or a membership any more."""
    states = [client.status for client in clients.values()]
    return not any(state.subscriptions or state.operations or state.client_sets for state in states)
