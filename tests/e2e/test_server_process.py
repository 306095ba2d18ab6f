"""`aimle-server run` as a process with its embedded database: what it keeps, how it ends, what it never says."""

import asyncio
import ipaddress
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aimle_client.tokens import ClientCredentials
from sbi.clock import Clock
from sbi.issuer import TokenIssuer, load_or_create_key
from tests.support import Listener, eventually
from tests.support_clients import criteria, reg_info

SCOPES = ["aimles-client-reg", "aimles-disc", "aimles-trn", "mlr-mlmm", "aimle-artifacts"]


@dataclass
class Server:
    """A running server process.

    Attributes:
        url: its apiRoot.
        data: its data directory.
        log: what it writes to standard error.
    """

    process: asyncio.subprocess.Process
    url: str
    data: Path
    log: Path
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or text) and headers of an answer; a token for everything is sent."""
        headers = {"Authorization": f"Bearer {self.token()}", **options.pop("headers", {})}
        url = path if "://" in path else self.url + path
        async with self.session.request(method, url, headers=headers, **options) as response:
            text = await response.text()
            known = response.content_type.endswith("json")
            return response.status, json.loads(text) if known else text, dict(response.headers)

    def token(self) -> str:
        """A token of the server's own issuer, as `aimle-server token issue` prints it."""
        key = load_or_create_key(self.data / "issuer-key.pem")
        return TokenIssuer(key, "aimle", "aimle", 600, Clock()).issue("val-1", SCOPES)[0]

    async def clients(self) -> list[str]:
        """What discovery finds."""
        query = {"filt-criteria": json.dumps(criteria())}
        status, body, _ = await self.call("GET", "/aimles-disc/v1/clients", params=query)
        assert status == 200, body
        found: list[str] = body["clients"]
        return found

    async def end(self, number: int) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 30)


@asynccontextmanager
async def running(
    folder: Path, *flags: str, session: aiohttp.ClientSession | None = None
) -> AsyncIterator[Server]:
    """A server whose data is below `folder`; killed at the end if it still runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}
    command = [
        sys.executable,
        "-m",
        "aimle_server",
        "run",
        "--port",
        "0",
        "--data-dir",
        str(folder / "data"),
        *flags,
    ]
    with (folder / "log").open("a") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("aimle-server is ready at http"), (folder / "log").read_text()
    try:
        async with session or aiohttp.ClientSession() as opened:
            yield Server(process, line.split()[-1], folder / "data", folder / "log", opened)
    finally:
        if process.returncode is None:
            await Server.end(Server(process, "", folder, folder, None), signal.SIGTERM)  # type: ignore[arg-type]


def _on(folder: Path, word: str = "") -> dict[int, str]:
    """Processes that have this folder in their command line."""
    lines = subprocess.run(
        ["ps", "-ww", "-axo", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    pairs = (line.strip().partition(" ") for line in lines.splitlines())
    return {int(pid): args for pid, _, args in pairs if str(folder) in args and word in args}


async def test_what_is_registered_survives(tmp_path: Path) -> None:
    """A client that registered is found after a restart by SIGTERM, and after a kill -9, which leaves nobody behind."""
    async with running(tmp_path) as server:
        status, body, headers = await server.call(
            "POST", "/aimles-client-reg/v1/registrations", json=reg_info("ue-1")
        )
        assert status == 201, body
        assert await server.clients() == ["ue-1"]
        assert await server.end(signal.SIGTERM) == 0
        assert _on(tmp_path) == {}
    async with running(tmp_path) as server:
        assert await server.clients() == ["ue-1"]
        path = headers["Location"].partition("/aimles-client-reg")[2]
        status, _, _ = await server.call(
            "PUT", f"/aimles-client-reg{path}", json={"regData": reg_info("ue-1")}
        )
        assert status == 200
        status, _, _ = await server.call("POST", "/aimles-client-reg/v1/registrations", json=reg_info("ue-2"))
        assert status == 201
        assert len(_on(tmp_path)) >= 2
        await server.end(signal.SIGKILL)
        await eventually(lambda: not _on(tmp_path))
    async with running(tmp_path) as server:
        assert sorted(await server.clients()) == ["ue-1", "ue-2"]


async def test_pages(tmp_path: Path) -> None:
    """Alive, ready and measured; when the database is killed it is alive and not ready, and says until when."""
    async with running(tmp_path) as server:
        assert (await server.call("GET", "/healthz"))[:2] == (200, {"status": "ok"})
        assert (await server.call("GET", "/readyz"))[:2] == (200, {"status": "ready"})
        await server.clients()
        status, text, _ = await server.call("GET", "/metrics")
        assert status == 200
        assert 'aimle_request_seconds_count{operation="GetAimleClients",status="200"} 1.0' in text
        for pid in _on(tmp_path, "secantus"):
            os.kill(pid, signal.SIGKILL)
        status, body, headers = await server.call("GET", "/readyz")
        assert (status, body["status"]) == (503, 503)
        assert int(headers["Retry-After"]) > 0
        assert (await server.call("GET", "/healthz"))[0] == 200
        assert await server.end(signal.SIGTERM) == 0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aimle test")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert, private


async def test_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """With a certificate it answers HTTPS, gives out https addresses, and nobody gets in without."""
    cert, key = certificate
    context = ssl.create_default_context(cafile=str(cert))
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
    flags = ("--server-tls-cert", str(cert), "--server-tls-key", str(key))
    async with running(tmp_path, *flags, session=session) as server:
        assert server.url.startswith("https://127.0.0.1:")
        status, _, headers = await server.call(
            "POST", "/aimles-client-reg/v1/registrations", json=reg_info("ue-1")
        )
        assert status == 201
        assert headers["Location"].startswith(f"{server.url}/aimles-client-reg/v1/registrations/")
        with pytest.raises(aiohttp.ClientError):
            await server.call("GET", server.url.replace("https", "http") + "/healthz")
        with pytest.raises(aiohttp.ClientError):
            async with aiohttp.ClientSession() as stranger:
                await stranger.get(f"{server.url}/healthz")


async def test_nothing_secret_is_logged(tmp_path: Path) -> None:
    """At log level DEBUG, neither credentials nor tokens, capability keys, query strings or bodies are written."""
    async with (
        running(tmp_path, "--log-level", "DEBUG", "--targets-allow", "127.0.0.0/8") as server,
        Listener() as listener,
    ):
        secret = await _add_client(server)
        form = {"grant_type": "client_credentials"}
        basic = {"Authorization": ClientCredentials("ue-1", secret).basic()}
        status, granted, _ = await server.call("POST", "/oauth2/token", data=form, headers=basic)
        assert status == 200, granted
        bearer = {"Authorization": f"Bearer {granted['access_token']}"}
        info = reg_info("ue-1", aimleClientUri=listener.url("/capability-of-the-client"))
        await server.call("POST", "/aimles-client-reg/v1/registrations", json=info, headers=bearer)
        await server.clients()
        key = "capability-key-of-a-round"
        for method, path in (
            ("PUT", f"/aimle-hfl/v1/participants/{key}/rounds/1/update"),
            ("GET", f"/aimle-hfl/v1/participants/{key}/rounds/1/model?token=query-string"),
            ("GET", f"/aimle-hfl/v1/participants/{key}/rounds/x/model"),
            ("GET", f"/aimle-hfl/v1/participants/{key}/no-such-path"),
            ("BREW", f"/aimle-hfl/v1/participants/{key}/update"),
            ("GET", "/aimles-disc/v1/clients?filt-criteria={query-string"),
            ("POST", "/aimles-client-reg/v1/registrations"),
        ):
            status, _, _ = await server.call(method, path, headers=bearer, data=b"body-of-a-request")
            assert 400 <= status < 500, path
        await _train(server, listener)
        await server.call(
            "GET", "/aimles-disc/v1/clients", headers={"Authorization": "Bearer forged.token.here"}
        )
        basic = {"Authorization": ClientCredentials("ue-1", "wrong-secret").basic()}
        assert (await server.call("POST", "/oauth2/token", data=form, headers=basic))[0] == 401
        await _garbage(
            server, f"GET /aimle-hfl/v1/participants/{key}/update HTTP/1.1\r\nX: \0\r\n\r\n".encode()
        )
        await _garbage(server, f"GET /x?query-string={key} HTTP/9.9.9\r\n\r\n".encode())
        own = server.token()
        assert await server.end(signal.SIGTERM) == 0
    log = server.log.read_text()
    entries = [json.loads(line) for line in log.splitlines()]
    assert len(entries) > 12
    words = (secret, granted["access_token"], own.rsplit(".", 1)[0], "forged.token", "wrong-secret", key)
    for word in (*words, "query-string", "body-of-a-request", "capability-of-the-client", "filt-criteria"):
        assert word not in log, next(line for line in log.splitlines() if word in line)
    keys = {
        found for call in listener.received for found in re.findall(r"participants/([^/]+)/", str(call.body))
    }
    assert keys
    for found in keys:
        assert found not in log, next(line for line in log.splitlines() if found in line)


async def _add_client(server: Server) -> str:
    command = [sys.executable, "-m", "aimle_server", "token", "add", "ue-1", "--data-dir", str(server.data)]
    added = await asyncio.create_subprocess_exec(
        *command, "--scope", *SCOPES, stdout=asyncio.subprocess.PIPE, env=os.environ
    )
    return (await added.communicate())[0].decode().strip()


async def _train(server: Server, listener: Listener) -> None:
    """A training that gets as far as to tell the client its secret addresses."""
    model = listener.url("/model-with-a-capability-of-the-client")
    request = {
        "trnType": "TRAIN_HFL",
        "members": ["ue-1"],
        "modelInf": {"mlModelLoc": {"uri": model}},
        "datasetId": ["flows"],
    }
    agreed = {"clientStatus": True, "servOpId": "x", "servOpModeStatus": "START", "subId": "s"}

    async def agree(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        if request.path.startswith("/model"):
            return aiohttp.web.Response(body=_model())
        created = request.path.endswith("/subscriptions")
        location = {"Location": f"{request.url.origin()}/capability-of-the-client/s"} if created else {}
        return aiohttp.web.json_response(agreed, status=201 if created else 200, headers=location)

    listener.default = agree
    status, body, _ = await server.call("POST", "/aimles-trn/v1/request-train", json=request)
    assert status == 200, body
    await eventually(lambda: any("participants/" in str(call.body) for call in listener.received))


def _model() -> bytes:
    from tests.support_models import safetensors

    return safetensors(10)


async def _garbage(server: Server, raw: bytes) -> None:
    """Something that is no HTTP request."""
    host, _, port = server.url.partition("://")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
