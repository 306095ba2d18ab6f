"""`aimle-server demo`: the whole way, as somebody who has just installed this runs it."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

SECONDS = 60


@pytest.fixture(scope="module", params=[(), ("--websocket",)], ids=["called", "behind a NAT"])
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], float, Path]:
    """The demonstration, run once each way: its outcome, how long it took in s, and where its files were."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}
    # The socket of multiprocessing's server is below this, and the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="d-") as short:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "aimle_server", "demo", *request.param],
            cwd=folder,
            env=environment | {"TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
        )
        return done, time.monotonic() - began, Path(short)


def test_the_demonstration_works(demo: tuple[subprocess.CompletedProcess[str], float, Path]) -> None:
    """It ends well within a minute, with an accuracy of at least 0.93 on digits that nobody trained on."""
    done, seconds, _ = demo
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    found = re.fullmatch(r"test accuracy (0\.9\d\d)", last)
    assert found, last
    assert float(found[1]) >= 0.93
    assert done.stderr == ""
    assert seconds < SECONDS


def test_the_training_that_moves(tmp_path: Path) -> None:
    """`make demo-transfer` in well under a minute: the task changes hands, and the model is the undisturbed one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}
    with tempfile.TemporaryDirectory(prefix="d-") as short:
        done = subprocess.run(
            [sys.executable, "-m", "aimle_server", "demo", "--transfer"],
            cwd=tmp_path,
            env=environment | {"TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
        )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    *_, accuracies, verdict = done.stdout.strip().splitlines()
    found = re.fullmatch(r"test accuracy (0\.9\d\d), undisturbed (0\.9\d\d)", accuracies)
    assert found, accuracies
    assert found[1] == found[2]
    assert verdict == "the models are the same to the bit"
    assert re.search(r"low battery: phone hands over to tablet after [\d,]+ iterations", done.stdout)


def test_nothing_is_left_of_it(demo: tuple[subprocess.CompletedProcess[str], float, Path]) -> None:
    """When it has ended, no process of it runs, and its files are gone."""
    _, _, folder = demo
    lines = subprocess.run(["ps", "-ww", "-axo", "args="], capture_output=True, text=True, check=True).stdout
    assert [line for line in lines.splitlines() if str(folder) in line] == []
    assert _with_environment(f"TMPDIR={folder}") == []
    assert not folder.exists() or list(folder.iterdir()) == []


def _with_environment(entry: str) -> list[str]:
    """Processes that were started with this in their environment, where the system tells (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if entry.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:  # gone, or somebody else's
            continue
    return found
