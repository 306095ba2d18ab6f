"""`aimle-server demo --transfer`: a long local training that moves to another device when the battery is low (8.6).

The same training twice, over real HTTP and with every client a process of its own. The first is left alone. In the
second the device that trains announces a low battery half-way, and the server finds another one that goes on. Both hold
the same digits, as a phone and a tablet of one person may. The two models have to be the same to the bit.
"""

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from rich.console import Console

from aimle_client.errors import AimleClientError
from aimle_client.policy import DefaultPolicy
from aimle_client.runtime.task import Task
from aimle_client.trainers.base import Dataset, Parameters
from aimle_client.trainers.numpy_models import MLP
from aimle_client.val import (
    ClientCredentials,
    Objective,
    TaskMove,
    TrainingProfile,
    TrainingStatus,
    ValServer,
)
from aimle_server.demo.cast import DemoError, client_processes, make_credentials, server_process
from aimle_server.demo.digits import CLASSES, PIXELS, held_out_and_shares

SERVICE = "val-digits"
PHONE, TABLET = "phone", "tablet"
HIDDEN = (64,)
SEED = 7
EPOCHS = 600
PROFILE = TrainingProfile(local_epochs=EPOCHS, batch_size=8, learning_rate=0.02, seed=SEED, round_timeout=120)
LOW = 0.4
"""Part of the training after which the battery is low, in the second run."""
WIDTH = 60
"""Columns of the longest run's time line."""


@dataclass
class Battery(DefaultPolicy):
    """A policy that hands tasks over when the battery is low, which it is in the course of the second training."""

    trainings: tuple[str | None, ...] = ()

    async def hand_over(self, task: Task) -> str:
        """Why the task has to go; empty: it may stay."""
        if task.training_id not in self.trainings:
            self.trainings = (*self.trainings, task.training_id)
        is_low = len(self.trainings) == 2 and task.reins.done >= LOW * task.reins.total
        return "low battery" if is_low else ""


@dataclass(frozen=True)
class Run:
    """A training that has ended, and its model's accuracy on digits that nobody trained on."""

    status: TrainingStatus
    model: Parameters
    accuracy: float


def main() -> int:
    """Run the demonstration; the process's exit status."""
    console = Console(highlight=False, width=120)
    try:
        undisturbed, moved = asyncio.run(_run(console))
    except (DemoError, AimleClientError) as error:
        print(f"aimle-server demo: {error}", file=sys.stderr)
        return 1
    _show(console, undisturbed, moved)
    same = all(np.array_equal(moved.model[name], values) for name, values in undisturbed.model.items())
    console.print(f"test accuracy {moved.accuracy:.3f}, undisturbed {undisturbed.accuracy:.3f}")
    if not moved.status.moves or not same:
        print("aimle-server demo: the training did not move, or lost something", file=sys.stderr)
        return 1
    console.print("the models are the same to the bit")
    return 0


async def _run(console: Console) -> tuple[Run, Run]:
    test, [share] = held_out_and_shares(1, SEED)
    with tempfile.TemporaryDirectory(prefix="aimle-demo-") as folder:
        async with server_process(Path(folder)) as url:
            console.print(f"AIMLE server with embedded database at {url}")
            secrets = await make_credentials(Path(folder), [SERVICE, PHONE, TABLET])
            credentials = ClientCredentials(SERVICE, secrets.pop(SERVICE))
            policies = {PHONE: Battery(frozenset({"digits"}), frozenset({SERVICE}))}
            with client_processes(url, secrets, SERVICE, [share, share], HIDDEN, policies=policies):
                console.print(
                    f"two AIMLE clients, {PHONE} and {TABLET}, each with the same {len(share)} digits"
                )
                async with ValServer(url, credentials, listen=("127.0.0.1", 0)) as val:
                    first = MLP.initial_parameters(PIXELS, CLASSES, hidden=HIDDEN, seed=SEED)
                    await val.store_model("digits", first, services=[SERVICE])
                    await _until_registered(val)
                    console.print(f"{EPOCHS} epochs on {PHONE}, undisturbed")
                    undisturbed = await _train(val, test)
                    console.print(f"{EPOCHS} epochs on {PHONE}, whose battery is low after {LOW:.0%}")
                    return undisturbed, await _train(val, test)


async def _until_registered(val: ValServer, seconds: float = 30) -> None:
    """Return when both clients can be chosen by name."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await val.select(clients=[PHONE, TABLET], min_num=2)
                return
            except AimleClientError:
                await asyncio.sleep(0.1)


async def _train(val: ValServer, test: Dataset) -> Run:
    training = await val.train(
        model_id="digits",
        members=[PHONE],
        dataset_ids=["digits"],
        objective=Objective(max_epochs=EPOCHS),
        profile=PROFILE,
    )
    last = [event async for event in training.events()][-1]
    if last.output_model_id is None:
        raise DemoError(f"the training ended as {last.state}: {last.reason}")
    model = await val.download_model(last.output_model_id)
    trainer = MLP(test, test, classes=CLASSES, hidden=HIDDEN)
    return Run(await training.status(), model, trainer.evaluate(model).metrics["accuracy"])


def _show(console: Console, undisturbed: Run, moved: Run) -> None:
    """The two runs as time lines of the same scale."""
    seconds = max(_length(run.status) for run in (undisturbed, moved))
    console.print(f"\ntime lines of both runs, {seconds:.1f} s wide")
    for title, run in (("undisturbed", undisturbed), ("low battery", moved)):
        for owner, start, stop in _owners(run.status):
            column, width = (round(WIDTH * value / seconds) for value in (start, stop - start))
            bar = " " * column + "█" * max(1, width)
            console.print(f"  {title:<12} {owner:<7} {bar}")
            title = ""
        for move in run.status.moves:
            console.print(f"  {_told(move)}")
    console.print()


def _owners(status: TrainingStatus) -> list[tuple[str, float, float]]:
    """Who had the task of the first round, from when until when, in seconds after its start."""
    began, ended = _span(status)
    marks = [*(move.at for move in status.moves), ended]
    names = [PHONE, *(move.target for move in status.moves)]
    starts = [began, *marks]
    return [
        (name, (start - began).total_seconds(), (stop - began).total_seconds())
        for name, start, stop in zip(names, starts, marks, strict=False)
    ]


def _told(move: TaskMove) -> str:
    return (
        f"{move.at:%H:%M:%S} {move.reason}: {move.source} hands over to {move.target} after"
        f" {move.iterations:,} iterations ({move.mode})"
    )


def _span(status: TrainingStatus) -> tuple[datetime, datetime]:
    [record] = status.history
    if record.started is None or record.committed is None:
        raise DemoError("the server does not say when the round began and ended")
    return record.started, record.committed


def _length(status: TrainingStatus) -> float:
    began, ended = _span(status)
    return (ended - began).total_seconds()
