"""What the VAL server of the demonstration does, and what it prints."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aimle_client.errors import AimleClientError
from aimle_client.trainers.numpy_models import MLP
from aimle_client.val import (
    ClientCredentials,
    Objective,
    Training,
    TrainingEvent,
    TrainingProfile,
    ValServer,
    discovery_criteria,
)
from aimle_server.demo.cast import DemoError, client_processes, make_credentials, server_process
from aimle_server.demo.digits import CLASSES, PIXELS, held_out_and_shares

SERVICE = "val-digits"
CLIENTS = 10
HIDDEN = (64,)
SEED = 7
TARGET = 0.95
PROFILE = TrainingProfile(local_epochs=5, batch_size=16, learning_rate=0.1, seed=SEED, round_timeout=30)
LEAST_ACCURACY = 0.93
"""On held-out digits; less is a failed demonstration."""


def main(*, websocket: bool = False) -> int:
    """Run the demonstration, if asked with everybody but the server behind WebSockets; the process's exit status."""
    console = Console(highlight=False)
    try:
        accuracy = asyncio.run(_run(console, websocket))
    except (DemoError, AimleClientError) as error:
        print(f"aimle-server demo: {error}", file=sys.stderr)
        return 1
    console.print(f"test accuracy {accuracy:.3f}")
    if accuracy < LEAST_ACCURACY:
        print(f"aimle-server demo: the accuracy is below {LEAST_ACCURACY}", file=sys.stderr)
        return 1
    return 0


async def _run(console: Console, websocket: bool) -> float:
    test, shares = held_out_and_shares(CLIENTS, SEED)
    names = [f"ue-{number}" for number in range(1, CLIENTS + 1)]
    with tempfile.TemporaryDirectory(prefix="aimle-demo-") as folder:
        async with server_process(Path(folder)) as url:
            console.print(f"AIMLE server with embedded database at {url}")
            secrets = await make_credentials(Path(folder), [SERVICE, *names])
            credentials = ClientCredentials(SERVICE, secrets.pop(SERVICE))
            with client_processes(url, secrets, SERVICE, shares, HIDDEN, websocket=websocket):
                sizes = ", ".join(str(len(share)) for share in shares)
                behind = ", behind WebSockets: the server calls none of them" if websocket else ""
                console.print(f"{CLIENTS} AIMLE clients, each its own process, with {sizes} digits{behind}")
                listen = None if websocket else ("127.0.0.1", 0)
                async with ValServer(url, credentials, listen=listen, websocket=websocket) as val:
                    model_id = await _train(val, console)
                    parameters = await val.download_model(model_id)
    trainer = MLP(test, test, classes=CLASSES, hidden=HIDDEN)
    console.print(f"model {model_id} fetched back, tested on {len(test)} digits that nobody trained on")
    return trainer.evaluate(parameters).metrics["accuracy"]


async def _train(val: ValServer, console: Console) -> str:
    """Discovery, selection, training; the id of the model in the ML repository."""
    criteria = discovery_criteria(SERVICE, datasets=["digits"])
    found = await _discover(val, criteria)
    console.print(f"discovered {len(found)} clients that hold the data set: {', '.join(found)}")
    chosen = await val.select(criteria, req_num=CLIENTS, min_num=CLIENTS - 2)
    console.print(f"selected {len(chosen.clients)} clients, client set {chosen.client_set}")
    first = MLP.initial_parameters(PIXELS, CLASSES, hidden=HIDDEN, seed=SEED)
    await val.store_model("digits", first, domain="IMAGE_RECOGNITION", services=[SERVICE])
    training = await val.train(
        model_id="digits",
        client_set=chosen.client_set,
        dataset_ids=["digits"],
        objective=Objective(target=TARGET, max_epochs=200),
        profile=PROFILE,
        member_updates=True,
    )
    events = await _follow(training, console)
    console.print(_table(events))
    last = events[-1]
    if last.output_model_id is None or last.error:
        raise DemoError(f"the training ended as {last.state}: {last.reason}")
    console.print(f"{last.state}: {last.reason}")
    return last.output_model_id


async def _discover(val: ValServer, criteria: dict[str, object], seconds: float = 30) -> Sequence[str]:
    """Every client, once all have registered."""
    deadline = time.monotonic() + seconds
    while len(found := (await val.discover(criteria)).clients) < CLIENTS:
        if time.monotonic() > deadline:
            raise DemoError(f"not all {CLIENTS} clients registered within {seconds:.0f} s")
        await asyncio.sleep(0.1)
    return found


async def _follow(training: Training, console: Console) -> list[TrainingEvent]:
    """Show the progress by the notifications that come in; all of them."""
    events = []
    columns = (
        TextColumn("round {task.fields[round]:>3}"),
        BarColumn(),
        TextColumn("accuracy {task.fields[accuracy]:.3f} of " + f"{TARGET}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=TARGET, round=0, accuracy=0.0)
        async for event in training.events():
            events.append(event)
            if "accuracy" in event.metrics:
                accuracy = event.metrics["accuracy"]
                shown = event.round or event.evaluated_round
                progress.update(task, completed=min(accuracy, TARGET), round=shown, accuracy=accuracy)
    return events


def _table(events: Sequence[TrainingEvent]) -> Table:
    table = Table(
        "notification",
        "complete",
        "members",
        "model of round",
        "accuracy",
        title="what the VAL server was told",
    )
    for number, event in enumerate(events, 1):
        joined = sum(member.selected for member in event.members)
        members = f"+{joined} -{len(event.members) - joined}" if event.members else ""
        accuracy = f"{event.metrics['accuracy']:.3f}" if "accuracy" in event.metrics else ""
        round_number = "" if event.evaluated_round is None else str(event.evaluated_round)
        complete = "" if event.percentage is None else f"{event.percentage} %"
        table.add_row(str(number), complete, members, round_number, accuracy)
    return table
