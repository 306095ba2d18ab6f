"""The same Flower app for the simulation and the deployment; the environment says how large and where results go."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

TENSORS = 10
server = ServerApp()
client = ClientApp()


class Timed(FedAvg):
    """FedAvg that notes when each round starts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.started: list[float] = []

    def configure_train(self, *args: Any) -> Any:
        """The beginning of a round."""
        self.started.append(time.time())
        return super().configure_train(*args)


@client.train()
def train(message: Message, context: Context) -> Message:
    """Every value plus the client's number."""
    number = int(context.node_config["partition-id"]) + 1
    parts = [part + np.float32(number) for part in message.content["arrays"].to_numpy_ndarrays()]
    metrics = MetricRecord({"num-examples": 1})
    content = RecordDict({"arrays": ArrayRecord(parts), "metrics": metrics})
    return Message(content=content, reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds, and the result as JSON."""
    clients, values, rounds = (int(os.environ[f"BENCH_{name}"]) for name in ("CLIENTS", "VALUES", "ROUNDS"))
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    model = ArrayRecord(np.array_split(np.zeros(values, np.float32), TENSORS))
    result = strategy.start(grid, model, num_rounds=rounds)
    expected = rounds * (clients + 1) / 2
    right = all(np.allclose(part, expected) for part in result.arrays.to_numpy_ndarrays())
    outcome = json.dumps({"started": strategy.started, "right": right})
    Path(os.environ["BENCH_RESULT"]).write_text(outcome)
