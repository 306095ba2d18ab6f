"""Flower's simulation engine: the server app in this process, the client apps in Ray's, as many as there are cores.

Its server side is this process; Ray's own (object store, scheduler, clients) do not count.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.memory import PeakMemory
from benchmarks.peers.session import arguments, report

APP = Path(__file__).parent / "flower_app"


def main() -> None:
    """One session."""
    size = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        result = Path(folder, "result.json")
        os.environ |= {
            "BENCH_CLIENTS": str(size.clients),
            "BENCH_VALUES": str(size.values),
            "BENCH_ROUNDS": str(size.rounds),
            "BENCH_RESULT": str(result),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": f"{APP}:{os.environ.get('PYTHONPATH', '')}",  # for Ray's processes
        }
        sys.path.insert(0, str(APP))
        import bench_app
        from flwr.simulation import run_simulation

        with PeakMemory(lambda: [os.getpid()]) as memory:
            run_simulation(
                server_app=bench_app.server,
                client_app=bench_app.client,
                num_supernodes=size.clients,
                # One core each: the default of two would leave half of the machine unused.
                backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
            )
        outcome = json.loads(result.read_text())
    report(outcome["started"], outcome["right"], memory.bytes)


if __name__ == "__main__":
    main()
