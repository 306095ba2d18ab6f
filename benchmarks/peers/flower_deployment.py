"""Flower's deployment runtime on loopback without TLS: a SuperLink, a SuperNode per client, `flwr run`.

Its server side is the SuperLink with the processes that it starts (SuperExec, the server app).
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.memory import PeakMemory, tree
from benchmarks.peers.session import Size, arguments, free_ports, report

APP = Path(__file__).parent / "flower_app"
PROGRAMS = Path(sys.executable).parent
PATIENCE = 1500.0


def main() -> None:
    """One session."""
    size = arguments()
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        own, *ports = free_ports(size.clients + 1)
        environment = _environment(folder, size, own)
        superlink = ["--insecure", "--host", "127.0.0.1", "--port", str(own)]
        link = stack.enter_context(
            _program(
                folder,
                environment,
                "flower-superlink",
                *superlink,
                "--disable-runtime-dependency-installation",
            )
        )
        time.sleep(3)  # a SuperNode that finds nobody waits before it tries again
        for number, port in enumerate(ports):
            node = [
                "--insecure",
                "--superlink",
                f"127.0.0.1:{own}",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ]
            config = f"partition-id={number} num-partitions={size.clients}"
            stack.enter_context(
                _program(folder, environment, "flower-supernode", *node, "--node-config", config)
            )
        result = folder / "result.json"
        with PeakMemory(lambda: tree(link)) as memory:
            run = [str(PROGRAMS / "flwr"), "run", str(APP), "bench"]
            subprocess.run(run, env=environment, cwd=folder, check=True, stdout=sys.stderr)
            outcome = _wait_for(result, folder / "log")
    report(outcome["started"], outcome["right"], memory.bytes)


def _environment(folder: Path, size: Size, port: int) -> dict[str, str]:
    """What all of them get, with a home of their own."""
    home = folder / "home"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    return os.environ | {
        "PATH": f"{PROGRAMS}:{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "BENCH_CLIENTS": str(size.clients),
        "BENCH_VALUES": str(size.values),
        "BENCH_ROUNDS": str(size.rounds),
        "BENCH_RESULT": str(folder / "result.json"),
    }


@contextmanager
def _program(folder: Path, environment: dict[str, str], name: str, *args: str) -> Iterator[int]:
    """A program and its process id; it and what it has started end with the block."""
    with (folder / "log").open("ab") as log:
        running = subprocess.Popen(
            [str(PROGRAMS / name), *args], env=environment, cwd=folder, stdout=log, stderr=log
        )
    try:
        yield running.pid
    finally:
        started = tree(running.pid)
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        for pid in started[1:]:
            _kill(pid)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _wait_for(result: Path, log: Path) -> dict[str, object]:
    deadline = time.monotonic() + PATIENCE
    while not result.exists() or not result.read_text():
        if time.monotonic() > deadline:
            raise RuntimeError(log.read_text()[-3000:])
        time.sleep(0.2)
    outcome: dict[str, object] = json.loads(result.read_text())
    return outcome


if __name__ == "__main__":
    main()
