"""A node of pipelines as a process: `split_node.py PORT SLOWDOWN`; says where it is, and runs until it is killed."""

import asyncio
import sys

from aimle_client.split.emulation import Emulation
from aimle_client.split.node import ProcessingNode


async def run(port: int, slowdown: float) -> None:
    """Serve for ever, to everybody."""
    emulation = Emulation(slowdown)
    listen = ("127.0.0.1", port)
    async with ProcessingNode(
        "http://127.0.0.1:1", listen=listen, emulation=emulation, insecure_no_auth=True
    ) as node:
        print(node.uri, flush=True)
        await node.run_forever()


asyncio.run(run(int(sys.argv[1]), float(sys.argv[2])))
