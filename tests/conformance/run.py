"""`make conformance`: the suite against an AIMLE server that is started here, with tokens and two VAL servers.

Arguments are passed on to pytest. This is the only module of the suite that knows the command `aimle-server`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.documents import Documents

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SPECS = ROOT / "specs"
OFFICIAL = Path(os.environ.get("AIMLE_3GPP_OPENAPI", ROOT / "../shared/3gpp/bundled"))
CONSUMERS = ("val-one", "val-two")

SERVER = [sys.executable, "-m", "aimle_server"]
READY = "aimle-server is ready at "
SECONDS_TO_END = 30


@contextmanager
def running(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """A server for the time of the block; gives its apiRoot."""
    command = [*SERVER, "run", "--port", "0"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(READY):
            raise SystemExit(f"the server did not start:\n{(folder / 'server.log').read_text()}")
        yield line.removeprefix(READY).strip()
    finally:
        process.terminate()
        process.wait(SECONDS_TO_END)


def credentials(environment: dict[str, str], name: str, scopes: set[str]) -> list[str]:
    """Options for a new client with these scopes."""
    command = [*SERVER, "token", "add", name, "--scope", *sorted(scopes)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return [f"--client-id={name}", f"--client-secret={done.stdout.strip()}"]


def main(arguments: list[str]) -> int:
    """Run the suite; returns its exit status."""
    bases = {one.base for operations in Documents(SPECS).operations.values() for one in operations.values()}
    scopes = {base.split("/")[1] for base in bases} - {"oauth2"}
    with tempfile.TemporaryDirectory(prefix="aimle-conformance-") as folder:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}
        environment = clean | {"AIMLE_SERVER_DATA_DIR": str(Path(folder, "data"))}
        with running(Path(folder), environment) as url:
            options = [f"--aimle-url={url}", f"--token-url={url}/oauth2/token"]
            options += [f"--openapi={OFFICIAL if OFFICIAL.is_dir() else SPECS}"]
            for name in CONSUMERS:
                options += credentials(environment, name, scopes)
            suite = [sys.executable, "-m", "pytest", "-c", str(HERE / "pytest.ini"), str(HERE)]
            return subprocess.run([*suite, *options, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
