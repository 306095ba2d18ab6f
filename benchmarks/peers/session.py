"""What the peers' scripts have in common; standard library only."""

import argparse
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Size:
    """How large a session is: clients, float32 values of the model, rounds with the one to warm up."""

    clients: int
    values: int
    rounds: int


def arguments() -> Size:
    """The size, from the command line."""
    parser = argparse.ArgumentParser()
    for name in ("clients", "values", "rounds"):
        parser.add_argument(name, type=int)
    return Size(**vars(parser.parse_args()))


def report(started: Sequence[float], right: bool, peak_rss_bytes: int) -> None:
    """Print the outcome: the rounds after the first, from start to start.

    Raises:
        RuntimeError: the trained model is not what it must be.
    """
    if not right:
        raise RuntimeError("the trained model is wrong")
    seconds = [after - before for before, after in pairwise(started)][1:]
    print(json.dumps({"round_seconds": seconds, "peak_rss_bytes": peak_rss_bytes}), flush=True)


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
