"""The programs in `examples/`, run as their readers run them: processes of their own, beside a real server."""

import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support_process import aimle, server_process

EXAMPLES = Path(__file__).parents[2] / "examples"
APPLICATION = ("aimles-sel", "aimles-trn", "mlr-mlmm", "aimle-artifacts", "aimle-hfl")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _start(folder: Path, name: str, *args: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / name), *args),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A test run in the background may have been told to ignore Ctrl-C, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


async def _end(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    """Exit status and what it wrote, once it has ended."""
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


async def _credentials(folder: Path, name: str, *scopes: str) -> tuple[str, str]:
    added = await aimle(folder, "token", "add", name, "--scope", *scopes)
    assert added.status == 0, added.err
    return name, added.out.strip()


@asynccontextmanager
async def _device(folder: Path, url: str, share: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A device that has registered; killed at the end if it still runs."""
    known = await _credentials(folder, f"ue-{share}", "aimles-client-reg")
    process = await _start(folder, "device.py", url, *known, str(share))
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line.startswith(f"ue-{share} waits for work at http".encode()), (await _end(process))[2]
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_devices_and_an_application_train_together(tmp_path: Path) -> None:
    """The application says that it has too few devices, then trains with two, which leave by Ctrl-C."""
    port = _free_port()
    flags = ("--port", str(port), "--targets-allow", "127.0.0.0/8")
    async with server_process(tmp_path, *flags), AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{port}"
        known = await _credentials(tmp_path, "val-digits", *APPLICATION)
        alone = await _end(await _start(tmp_path, "application.py", url, *known, "0.8"))
        assert (alone[0], "NOT_ENOUGH_CLIENTS" in alone[2]) == (1, True), alone
        devices = [await stack.enter_async_context(_device(tmp_path, url, share)) for share in (1, 2)]
        status, out, err = await _end(await _start(tmp_path, "application.py", url, *known, "0.8"))
        assert (status, err) == (0, ""), out + err
        assert "2 devices take part: " in out
        assert re.search(r"round \d+: accuracy 0\.\d", out)
        assert "COMPLETED: the training objective is reached" in out
        found = re.search(r"accuracy on the test images: (0\.\d+)", out)
        assert found, out
        assert float(found[1]) > 0.75
        for device in devices:
            device.send_signal(signal.SIGINT)
            status, out, err = await _end(device)
            assert (status, err) == (0, ""), out + err
            assert "round 1: TRAINED" in out
        left = await _end(await _start(tmp_path, "application.py", url, *known, "0.8"))
        assert (left[0], "NOT_ENOUGH_CLIENTS" in left[2]) == (1, True), left
