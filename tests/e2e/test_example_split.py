"""`examples/split.py`, run as its readers run it: two nodes and an application, processes beside a real server."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from tests.support_onnx import residual
from tests.support_process import aimle, server_process

pytestmark = pytest.mark.split

EXAMPLE = Path(__file__).parents[2] / "examples" / "split.py"


async def _run(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), *arguments),
        stdout=pipe,
        stderr=pipe,
        # A test run in the background may have been told to ignore Ctrl-C, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


async def _secret(folder: Path, name: str, role: str) -> str:
    added = await aimle(folder, "token", "add", name, "--role", role)
    assert added.status == 0, added.err
    return added.out.strip()


@asynccontextmanager
async def _node(folder: Path, url: str, name: str) -> AsyncIterator[str]:
    """The URI of a node that is registered, and that leaves by Ctrl-C."""
    process = await _run("node", url, name, await _secret(folder, name, "node"), "0")
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert line.startswith(f"{name} waits for parts at http"), line
        yield line.split()[-1]
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_two_nodes_and_an_application(tmp_path: Path, unused_tcp_port: int) -> None:
    """Both nodes have a part, and what comes out is what the model in one piece gives."""
    model, url = tmp_path / "model.onnx", f"http://127.0.0.1:{unused_tcp_port}"
    model.write_bytes(residual())
    flags = ("--port", str(unused_tcp_port), "--targets-allow", "127.0.0.0/8")
    async with server_process(tmp_path, *flags), AsyncExitStack() as stack:
        uris = [await stack.enter_async_context(_node(tmp_path, url, name)) for name in ("edge-1", "edge-2")]
        secret = await _secret(tmp_path, "val-vision", "application")
        process = await _run("application", url, "val-vision", secret, str(model), *uris)
        out, errors = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, errors) == (0, b""), errors.decode()
    *parts, last = out.decode().splitlines()
    assert [line.split()[0] for line in parts] == uris
    assert last.startswith("100 frames; at most ")
    assert float(last.split()[4]) <= 1e-5
