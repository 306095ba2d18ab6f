"""NVIDIA FLARE in its proof-of-concept mode: real services on this machine, the FedAvg recipe for NumPy.

Its server side is the server and the process that it starts for the job. The starts of the rounds are in the
job's log. The recipe's model is one array; it is given as a file, as the configuration is JSON.
"""

import os
import re
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.memory import PeakMemory, commanded
from benchmarks.peers.session import arguments, report

PATIENCE = 1500.0
_STARTED = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) .*\n-+\n *Round \d+ started", re.MULTILINE)


def main() -> None:
    """One session."""
    size = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        os.environ["NVFLARE_POC_WORKSPACE"] = str(folder / "poc")
        os.environ["HOME"] = str(folder)
        os.chdir(folder)
        # Imported here, for they read the environment.
        from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
        from nvflare.recipe.poc_env import PocEnv

        model = folder / "model.npy"
        np.save(model, np.zeros(size.values, np.float32))
        recipe = NumpyFedAvgRecipe(
            name="bench",
            initial_ckpt=str(model),
            min_clients=size.clients,
            num_rounds=size.rounds,
            train_script=str(Path(__file__).parent / "flare_client.py"),
        )
        sys.stdout, printed = sys.stderr, sys.stdout
        with PeakMemory(lambda: commanded(f"{folder}/poc/example_project/prod_00/server")) as memory:
            run = recipe.execute(PocEnv(num_clients=size.clients))
            result = run.get_result(timeout=PATIENCE, clean_up=False)
        if result is None:
            raise RuntimeError(f"the job ended as {run.get_status()}")
        sys.stdout = printed
        started = [
            _moment(text) for text in _STARTED.findall((Path(result) / "workspace" / "log.txt").read_text())
        ]
        right = _is_right(Path(result), size.rounds * (size.clients + 1) / 2)
    report(started, right, memory.bytes)


def _moment(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f").timestamp()


def _is_right(result: Path, expected: float) -> bool:
    (model,) = result.glob("**/server.npy")
    return bool(np.allclose(np.load(model), expected))


if __name__ == "__main__":
    main()
