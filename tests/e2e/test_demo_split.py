"""`aimle-server demo --split`: a network over three nodes, as somebody who has just installed this runs it."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

pytestmark = pytest.mark.split

SECONDS = 240


@pytest.mark.timeout(SECONDS + 10)
def test_the_demonstration_works() -> None:
    """It tries each set of nodes, chooses the least latency, survives a killed node, and leaves nothing behind."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}
    # The socket of multiprocessing's server is below this, and the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="d-") as short:
        done = subprocess.run(
            [sys.executable, "-m", "aimle_server", "demo", "--split"],
            env=environment | {"TMPDIR": short, "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert list(Path(short).iterdir()) == []
    rows = re.findall(r"│ (chosen|) +│ (.*?) +│ (\d+) ms +│ (\d+) ms", done.stdout)
    chosen, *others = [int(row[2]) for row in rows]
    assert [row[0] for row in rows] == ["chosen"] + [""] * len(others)
    assert len(others) == 6
    assert others == sorted(others)
    assert chosen < 1.25 * others[0]
    assert "60 frames, 60 results" in done.stdout
    [survivors] = re.findall(r"^now: (.*), predicted", done.stdout, re.MULTILINE)
    assert "edge" not in survivors
    assert float(done.stdout.strip().rpartition(" ")[2]) > 0.9
