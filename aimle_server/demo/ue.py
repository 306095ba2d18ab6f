"""One AIMLE client of the demonstration, in a process of its own: ten lines of SDK around a share of the data."""

import asyncio
import logging
import signal

from aimle_client.policy import Policy
from aimle_client.trainers.base import Dataset
from aimle_client.trainers.numpy_models import MLP
from aimle_client.ue import AimleClient, ClientCredentials, DatasetOffer
from aimle_server.demo.digits import CLASSES, split


def run(
    name: str,
    server: str,
    secret: str,
    service: str,
    share: Dataset,
    hidden: tuple[int, ...],
    websocket: bool,
    policy: Policy | None = None,
) -> None:
    """Be an AIMLE client until SIGTERM; without a policy of its own it has the default one."""
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(_run(name, server, secret, service, share, hidden, websocket, policy))


async def _run(
    name: str,
    server: str,
    secret: str,
    service: str,
    share: Dataset,
    hidden: tuple[int, ...],
    websocket: bool,
    policy: Policy | None,
) -> None:
    training, evaluation = split(share, seed=0)
    trainer = MLP(training, evaluation, classes=CLASSES, hidden=hidden)
    client = AimleClient(
        name,
        server,
        credentials=ClientCredentials(name, secret),
        services=[service],
        datasets={"digits": DatasetOffer(trainer, size=len(share))},
        websocket=websocket,
        policy=policy,
    )
    async with client:
        running = asyncio.create_task(client.run_forever())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        await asyncio.wait([running])
