"""`make conformance`: the suite against an AIMLE server and a client that are started here, with tokens.

Arguments are passed on to pytest. This is the only module of the suite that knows our commands.
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
DEVICE = "ue-one"

SERVER = [sys.executable, "-m", "aimle_server"]
READY = "aimle-server is ready at "
CLIENT = [sys.executable, str(ROOT / "examples/device.py")]
CLIENT_READY = f"{DEVICE} waits for work at "
SECONDS_TO_END = 30


@contextmanager
def running(command: list[str], ready: str, log: Path, environment: dict[str, str]) -> Iterator[str]:
    """A command for the time of the block; gives the address that it says after `ready`."""
    with log.open("wb") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(ready):
            raise SystemExit(f"{command[1:3]} did not start:\n{log.read_text()}")
        yield line.removeprefix(ready).strip()
    finally:
        process.terminate()
        process.wait(SECONDS_TO_END)


def secret_of(environment: dict[str, str], name: str, *allowed: str) -> str:
    """The secret of a new client that may do this."""
    command = [*SERVER, "token", "add", name, *allowed]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Run the suite; returns its exit status."""
    bases = {one.base for operations in Documents(SPECS).operations.values() for one in operations.values()}
    scopes = {base.split("/")[1] for base in bases} - {"oauth2"}
    with tempfile.TemporaryDirectory(prefix="aimle-conformance-") as folder:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}
        environment = clean | {"AIMLE_SERVER_DATA_DIR": str(Path(folder, "data"))}
        server = [*SERVER, "run", "--port", "0"]
        with running(server, READY, Path(folder, "server.log"), environment) as url:
            options = [f"--aimle-url={url}", f"--token-url={url}/oauth2/token"]
            options += [f"--openapi={OFFICIAL if OFFICIAL.is_dir() else SPECS}"]
            for name in CONSUMERS:
                secret = secret_of(environment, name, "--scope", *sorted(scopes))
                options += [f"--client-id={name}", f"--client-secret={secret}"]
            client = [*CLIENT, url, DEVICE, secret_of(environment, DEVICE, "--role", "device"), "1"]
            with running(client, CLIENT_READY, Path(folder, "client.log"), environment) as client_url:
                options += [f"--aimle-client-url={client_url}"]
                suite = [sys.executable, "-m", "pytest", "-c", str(HERE / "pytest.ini"), str(HERE)]
                return subprocess.run([*suite, *options, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
