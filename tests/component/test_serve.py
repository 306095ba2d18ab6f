"""Serving: the line that says where, TLS, the end of a server, and what the log of requests does not show."""

import asyncio
import gzip
import json
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import zstandard
from aiohttp import ClientConnectionError, ClientSession, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aimle_server.logs import JsonFormatter
from aimle_server.serve import serve
from aimle_server.settings import Server, Settings, SettingsError
from tests.support import eventually


class App:
    """An application whose slow request a test lets go on."""

    def __init__(self) -> None:
        """No request is under way."""
        self.settings = Settings()
        self.entered, self.go_on = asyncio.Event(), asyncio.Event()

    async def build(self, settings: Settings) -> web.Application:
        """The application, with a capability path."""
        self.settings = settings
        sub = web.Application()
        sub.router.add_get("/participants/{key}/model", self._quick)
        app = web.Application()
        app.router.add_get("/slow", self._slow)
        app.router.add_put("/echo", self._echo)
        app.add_subapp("/aimle-hfl/v1", sub)
        return app

    async def _quick(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _echo(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def _slow(self, _request: web.Request) -> web.Response:
        self.entered.set()
        await self.go_on.wait()
        return web.Response()


@asynccontextmanager
async def serving(app: App, server: Server, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[str]:
    """The URL that a server prints when it is ready; SIGTERM ends it."""
    task = asyncio.create_task(serve(Settings(server=server), app.build))
    line = await eventually(lambda: task.done() or capsys.readouterr().out)
    if task.done():
        await task
    try:
        yield line.split()[-1]
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def test_free_port(capsys: pytest.CaptureFixture[str]) -> None:
    """With port 0 the printed URL has the real port, and the application knows it."""
    app = App()
    async with serving(app, Server(port=0), capsys) as url, ClientSession() as session:
        async with session.get(f"{url}/aimle-hfl/v1/participants/k/model") as response:
            assert response.status == 200
        assert url == app.settings.api_root == f"http://127.0.0.1:{app.settings.server.port}"


@pytest.mark.parametrize(("coding", "packed"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
async def test_bodies_come_as_they_were_sent(
    capsys: pytest.CaptureFixture[str], coding: str, packed: Callable[[bytes], bytes]
) -> None:
    """What has a content coding reaches its handler in it, also one that Python does not know."""
    body, headers = packed(b"model" * 1000), {"Content-Encoding": coding}
    async with (
        serving(App(), Server(port=0), capsys) as url,
        ClientSession() as session,
        session.put(f"{url}/echo", data=body, headers=headers) as response,
    ):
        assert (response.status, await response.read()) == (200, body)


async def test_running_requests_finish(capsys: pytest.CaptureFixture[str]) -> None:
    """A server told to stop takes no new requests and finishes those it has."""
    app = App()
    async with ClientSession() as session:
        async with serving(app, Server(port=0), capsys) as url:
            answer = asyncio.create_task(session.get(f"{url}/slow"))
            await app.entered.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await eventually(lambda: _refuses(app.settings.server.port))
            assert not answer.done()
            app.go_on.set()
            assert (await answer).status == 200
        with pytest.raises(ClientConnectionError):
            await session.get(f"{url}/slow")


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is taken is found out before the application is made."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        app = App()
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}: Address already in use"):
            async with serving(app, Server(port=port), capsys):
                pass
        assert app.settings == Settings()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate for localhost that signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return str(cert_file), str(key_file)


async def test_tls(certificate: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """With a certificate it speaks TLS and nothing else."""
    cert, key = certificate
    trust = ssl.create_default_context(cafile=cert)
    server = Server(host="localhost", port=0, tls_cert=cert, tls_key=key)
    async with serving(App(), server, capsys) as url, ClientSession() as session:
        assert url.startswith("https://localhost:")
        async with session.get(f"{url}/aimle-hfl/v1/participants/k/model", ssl=trust) as response:
            assert response.status == 200
        with pytest.raises(ClientConnectionError):
            await session.get(url.replace("https", "http"))


async def test_client_certificates(certificate: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """With a CA for clients, one without a certificate is not served."""
    cert, key = certificate
    trust = ssl.create_default_context(cafile=cert)
    server = Server(host="localhost", port=0, tls_cert=cert, tls_key=key, tls_client_ca=cert)
    async with serving(App(), server, capsys) as url, ClientSession() as session:
        model = f"{url}/aimle-hfl/v1/participants/k/model"
        with pytest.raises(ClientConnectionError):
            await session.get(model, ssl=trust)
        trust.load_cert_chain(cert, key)
        async with session.get(model, ssl=trust) as response:
            assert response.status == 200


async def test_useless_certificate(
    certificate: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A certificate that cannot be loaded is an error of the settings."""
    for cert in (tmp_path / "nowhere.pem", Path(certificate[1])):
        with pytest.raises(SettingsError, match=r"server\.tls_"):
            async with serving(App(), Server(port=0, tls_cert=str(cert), tls_key=certificate[1]), capsys):
                pass


async def test_access_log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Every request is one line of JSON; capability keys, query strings and stray paths are not in it."""
    caplog.set_level(logging.INFO, "aimle.access")
    async with serving(App(), Server(port=0), capsys) as url, ClientSession() as session:
        for path in ("/aimle-hfl/v1/participants/hunter2/model?a=hunter3", "/aimle-hfl/v1/hunter4"):
            async with session.get(url + path):
                pass
        await _send(url, b"NONSENSE hunter5\r\n\r\n")
        await eventually(lambda: len(caplog.records) >= 3)
    lines = [JsonFormatter().format(record) for record in caplog.records]
    entries = [json.loads(line) for line in lines]
    assert [entry["status"] for entry in entries] == [200, 404, 400]
    assert entries[0]["message"] == "GET /aimle-hfl/v1/participants/{key}/model 200"
    assert all("\n" not in line and "hunter" not in line for line in lines)


async def _send(url: str, raw: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    writer.write(raw)
    await reader.read()
    writer.close()
    await writer.wait_closed()


def test_log_lines_cannot_be_forged() -> None:
    """A line break in what is logged does not begin another entry, nor does a traceback."""
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 1, "one\ntwo %s", ("three",), (type(error), error, None)
        )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "one\ntwo three"
