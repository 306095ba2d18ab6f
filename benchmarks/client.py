"""AIMLE clients as a process: `python -m benchmarks.client APIROOT < {"name": "secret", ...}`.

Prints `ready` when all are registered, then a line of JSON whenever the training of a round begins: which client,
which round, and when by the clock. Training adds the client's own constant to every value, evaluation does nothing.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import uvloop

from aimle_client.trainers.base import EvalResult, FitResult, Parameters
from aimle_client.ue import AimleClient, ClientCredentials
from benchmarks.server import DATASET, SERVICE


class Adder:
    """Adds the number at the end of the client's name, `client-3`, with one sample."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._constant = int(name.rpartition("-")[2])

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """Every value plus the constant."""
        print(json.dumps({"client": self._name, "round": config["round"], "at": time.time()}), flush=True)
        return FitResult({name: part + self._constant for name, part in parameters.items()}, 1, {})

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """Nothing."""
        return EvalResult(1, {"accuracy": 0.0})


async def main(server: str, secrets: Mapping[str, str]) -> None:
    """Be these clients until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack:
        for name, secret in secrets.items():
            client = AimleClient(
                name,
                server,
                credentials=ClientCredentials(name, secret),
                services=[SERVICE],
                datasets={DATASET: Adder(name)},
            )
            await stack.enter_async_context(client)
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], json.load(sys.stdin)))
