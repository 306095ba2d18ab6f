"""The conformance suite (`make conformance`) knows every standard API that this server has."""

import subprocess
import sys
from pathlib import Path

from aimle_server.apis import SERVED_APIS

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "tests/conformance"


def test_every_standard_api_has_conformance_tests() -> None:
    """Each operation of each of them has its right request there."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(SUITE / "pytest.ini"),
        str(SUITE),
        "--collect-only",
        "-q",
    ]
    options = ["--aimle-url=http://127.0.0.1:9", f"--openapi={ROOT / 'specs'}"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    served = {op.operation_id for api in SERVED_APIS if not api.extension for op in api.operations}
    assert {name for name in served if f"test_right_request[{name}]" not in done.stdout} == set()
