"""Task transfers in small: a trainer that comes to its end when the test says so, and what it should come to."""

import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from aimle_client.testing import RunningServer
from aimle_client.trainers.base import EvalResult, FitResult, Parameters, TrainingConfig
from aimle_client.trainers.resumable import BatchFit, FitState, run, settings_of
from aimle_client.ue import AimleClient
from aimle_client.val import Objective, Training, TrainingEvent, TrainingProfile, ValServer
from tests.support import eventually
from tests.support_training import begin, ue

SAMPLES = 40
STEPS = 400
"""Of one round: 100 epochs of 4 batches."""
PROFILE = TrainingProfile(local_epochs=100, batch_size=10, learning_rate=0.1, seed=5)
START = np.zeros(4, np.float32)
CRAWL = 0.02
"""Seconds of a step before the test says `hurry`: a round would take 8 s."""


class Walk:
    """A resumable trainer with momentum; until `hurry` is set its steps are slow, and a test can wait for some.

    Attributes:
        hurry: no step waits any more.
        steps: numbers of the steps that were taken here, over all rounds.
        error: raised by `load_state`.
    """

    def __init__(self, samples: int = SAMPLES) -> None:
        self.data = np.linspace(-1, 1, 4 * samples, dtype=np.float32).reshape(samples, 4)
        self.hurry = threading.Event()
        self.steps: list[int] = []
        self.error: Exception | None = None

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """All steps."""
        return run(self.begin(parameters, config))

    def begin(self, parameters: Parameters, config: Mapping[str, Any]) -> "Walking":
        """From the model."""
        return Walking(self, parameters["w"], np.zeros(4, np.float32), TrainingConfig.from_mapping(config))

    def load_state(self, state: FitState) -> "Walking":
        """From where it stood."""
        if self.error is not None:
            raise self.error
        return Walking(self, state.arrays["w"], state.arrays["momentum"], settings_of(state), state.details)

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """The same for every model."""
        return EvalResult(10, {"accuracy": 0.5})


class Walking(BatchFit):
    """A walk under way."""

    def __init__(
        self,
        trainer: Walk,
        w: npt.NDArray[np.float32],
        momentum: npt.NDArray[np.float32],
        settings: TrainingConfig,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings, len(trainer.data), details)
        self.trainer, self.w, self.momentum = trainer, w.copy(), momentum.copy()

    def _learn(self, batch: npt.NDArray[np.intp]) -> float:
        self.trainer.hurry.wait(CRAWL)
        self.trainer.steps.append(self.done)
        # A sum, which forgets nothing: a step that is left out, repeated or begun elsewhere is seen at the end.
        pull = self.trainer.data[batch].sum(axis=0) + np.cos(self.done * self.w)
        self.momentum = (0.9 * self.momentum + pull).astype(np.float32)
        self.w = (self.w + 0.01 * self.momentum).astype(np.float32)
        return float(np.abs(pull).sum())

    def _state(self) -> tuple[Parameters, dict[str, Any]]:
        return {"w": self.w, "momentum": self.momentum}, {}

    def result(self) -> FitResult:
        """Where it came to."""
        return FitResult({"w": self.w}, len(self.trainer.data), {"loss": self.losses[-1]})


def undisturbed(w: npt.NDArray[np.float32] = START, number: int = 1) -> npt.NDArray[np.float32]:
    """What a round of one client that nobody disturbs makes of `w`."""
    trainer = Walk()
    trainer.hurry.set()
    config = {"localEpochs": 100, "batchSize": 10, "learningRate": 0.1, "seed": 5, "round": number}
    result: npt.NDArray[np.float32] = trainer.fit({"w": w}, config).parameters["w"]
    return result


async def walking(val: ValServer, *members: str, rounds: int = 1, **options: Any) -> Training:
    """A training of these members on `digits`."""
    return await begin(
        val,
        members=list(members),
        objective=Objective(max_epochs=100 * rounds),
        **{"profile": PROFILE, **options},
    )


async def stepped(trainer: Walk, least: int = 3) -> None:
    """Return when some steps have been taken."""
    await eventually(lambda: len(trainer.steps) >= least)


@asynccontextmanager
async def walkers(
    server: RunningServer | str, trainers: Mapping[str, Walk], **options: Any
) -> AsyncIterator[dict[str, AimleClient]]:
    """An AIMLE client for each trainer; at the end nobody crawls."""
    url = server if isinstance(server, str) else server.url
    async with AsyncExitStack() as stack:
        for trainer in trainers.values():
            stack.callback(trainer.hurry.set)
        yield {
            name: await stack.enter_async_context(ue(url, name, trainer, **options))
            for name, trainer in trainers.items()
        }


async def model_of(val: ValServer, events: list[TrainingEvent]) -> np.ndarray:
    """The trained model."""
    assert events[-1].state == "COMPLETED", events[-1]
    result: np.ndarray = (await val.download_model(str(events[-1].output_model_id)))["w"]
    return result


async def owner_of(training: Training) -> list[str]:
    """Who has the training's only task."""
    return [each.client_id for each in (await training.status()).participants]


async def moves_of(val: ValServer, training: Training) -> list[tuple[str, str, int]]:
    """Which tasks of a training changed hands: from whom, to whom, after how many iterations."""
    status = await training.status()
    return [(move.source, move.target, move.iterations) for move in status.moves]


def state(iterations: int) -> bytes:
    """The state of a walk after so many steps, as its client leaves it at the server."""
    fit = Walk().begin({"w": START}, {"localEpochs": 100, "batchSize": 10, "seed": 5, "round": 1})
    fit.trainer.hurry.set()
    for _ in range(iterations):
        fit.step()
    metadata = {"aimle.training": "t", "aimle.round": "1", "aimle.iterations": str(iterations)}
    return b"".join(map(bytes, fit.save_state().dump(metadata)))


WINDOW = {"startTime": "2030-01-01T00:00:00.000Z", "stopTime": "2030-01-01T00:05:00.000Z"}
"""The first five minutes of a `ManualClock`."""
