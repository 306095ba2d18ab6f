"""The nodes of the demonstration, each a process of its own, and where they fetch their parts from."""

import asyncio
import logging
import multiprocessing
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from aiohttp import web

from aimle_client.split.emulation import Emulation, LinkShape
from aimle_client.split.node import ProcessingNode
from aimle_server.split.deployment import Part

UE, EDGE, CLOUD = "ue", "edge", "cloud"

SLOWDOWNS = {UE: 120.0, EDGE: 60.0, CLOUD: 1.0}
"""How many times slower than a core of this machine."""

LINKS = {
    (UE, EDGE): LinkShape(2e6, 0.002),
    (EDGE, CLOUD): LinkShape(10e6, 0.004),
    (UE, CLOUD): LinkShape(0.5e6, 0.020),
}
"""Each in both directions."""


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


@contextmanager
def node_processes() -> Iterator[Cast]:
    """The three nodes, which end with the block."""
    ports = {name: _free_port() for name in SLOWDOWNS}
    uris = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    emulations = {name: Emulation(SLOWDOWNS[name], _links_of(name, uris)) for name in SLOWDOWNS}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    processes: dict[str, BaseProcess] = {
        name: context.Process(target=run_node, args=(port, emulations[name]), daemon=True)
        for name, port in ports.items()
    }
    for process in processes.values():
        process.start()
    try:
        yield Cast(uris, emulations, processes)
    finally:
        for process in processes.values():
            process.terminate()
            process.join()


def run_node(port: int, emulation: Emulation) -> None:
    """A node on this machine, until SIGTERM."""

    async def serve() -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        # Registered nowhere and open to everybody on this machine: only pipelines are shown here.
        async with ProcessingNode(
            "http://127.0.0.1:1", listen=("127.0.0.1", port), emulation=emulation, insecure_no_auth=True
        ):
            await stopped.wait()

    logging.getLogger("aimle").setLevel(logging.ERROR)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    asyncio.run(serve())


class PartFiles:
    """Where the nodes fetch their parts; `store` is what a PipelineRunner takes."""

    def __init__(self) -> None:
        self._url = ""
        self._contents: dict[str, bytes] = {}

    async def store(self, part: Part) -> str:
        """Keep a part; its URL."""
        self._contents[part.sha256] = part.content
        return f"{self._url}/{part.sha256}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["PartFiles"]:
        """Over HTTP, for the time of the block."""

        async def give(request: web.Request) -> web.Response:
            return web.Response(body=self._contents[request.match_info["name"]])

        app = web.Application()
        app.router.add_get("/{name}", give)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


def _links_of(name: str, uris: dict[str, str]) -> dict[str, LinkShape]:
    return {
        uris[two if name == one else one]: shape for (one, two), shape in LINKS.items() if name in (one, two)
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
