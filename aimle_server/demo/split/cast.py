"""The nodes of the demonstration, each a process of its own."""

import asyncio
import logging
import multiprocessing
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event

from aimle_client.http import ClientCredentials
from aimle_client.split.emulation import Emulation, LinkShape
from aimle_client.split.node import ProcessingNode
from aimle_server.demo.cast import DemoError

UE, EDGE, CLOUD = "ue", "edge", "cloud"
NODES = (UE, EDGE, CLOUD)
MODEL = "digits"

SLOWDOWNS = {UE: 120.0, EDGE: 60.0, CLOUD: 1.0}
"""How many times slower than a core of this machine."""

LINKS = {
    (UE, EDGE): LinkShape(2e6, 0.002),
    (EDGE, CLOUD): LinkShape(10e6, 0.004),
    (UE, CLOUD): LinkShape(0.5e6, 0.010),
}
"""Each in both directions."""

START_SECONDS = 30.0


@dataclass(frozen=True)
class Cast:
    """The nodes.

    Attributes:
        uris: by name.
        emulations: how slow each acts.
        processes: by name.
    """

    uris: dict[str, str]
    emulations: dict[str, Emulation]
    processes: dict[str, BaseProcess]

    def name_of(self, uri: str) -> str:
        """The node at this URI."""
        return next(name for name, its in self.uris.items() if its == uri)


@asynccontextmanager
async def node_processes(server: str, secrets: Mapping[str, str]) -> AsyncIterator[Cast]:
    """The three nodes, registered at the server; they end with the block."""
    ports = {name: _free_port() for name in NODES}
    uris = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    emulations = {name: Emulation(SLOWDOWNS[name], _links_of(name, uris)) for name in NODES}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    registered = {name: context.Event() for name in NODES}
    processes: dict[str, BaseProcess] = {
        name: context.Process(
            target=run_node,
            args=(
                server,
                ClientCredentials(name, secrets[name]),
                ports[name],
                emulations[name],
                registered[name],
            ),
            daemon=True,
        )
        for name in NODES
    }
    for process in processes.values():
        process.start()
    try:
        for event in registered.values():
            if not await asyncio.to_thread(event.wait, START_SECONDS):
                raise DemoError("the nodes did not start")
        yield Cast(uris, emulations, processes)
    finally:
        for process in processes.values():
            process.terminate()
            process.join()


def run_node(
    server: str, credentials: ClientCredentials, port: int, emulation: Emulation, registered: Event
) -> None:
    """A node on this machine, until SIGTERM."""

    async def serve() -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        async with ProcessingNode(
            server, models=[MODEL], credentials=credentials, listen=("127.0.0.1", port), emulation=emulation
        ):
            registered.set()
            await stopped.wait()

    logging.getLogger("aimle").setLevel(logging.ERROR)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    asyncio.run(serve())


def _links_of(name: str, uris: dict[str, str]) -> dict[str, LinkShape]:
    return {
        uris[two if name == one else one]: shape for (one, two), shape in LINKS.items() if name in (one, two)
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
