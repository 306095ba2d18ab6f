"""Servers that cannot be reached, and the words for it: whose address, and what kind of failure."""

import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aimle_client.errors import NotTrusted, ServerUnavailable, UnexpectedAnswer
from aimle_client.failures import failure
from aimle_client.http import Connection, RetryPolicy, open_session
from aimle_client.listener import NotificationListener
from aimle_client.ue import AimleClient
from aimle_client.val import ClientCredentials, ValServer
from tests.support import Listener, ManualClock
from tests.support_ue import Adder

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A PEM file with a self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aimle test")])
    today = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "both.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@asynccontextmanager
async def secure(certificate: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """A server with TLS that knows no models: host and port, and the paths that were asked for."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"access_token": "t"} if request.method == "POST" else [])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def test_a_private_ca_is_trusted_where_its_file_is_given(certificate: Path) -> None:
    """Without the file nothing is asked, and not tried again; with it everything works, tokens included."""
    credentials = ClientCredentials("val-1", "secret")
    async with secure(certificate) as (place, asked):
        # The clock stands still: whoever waited for another attempt would wait for ever.
        for known in (credentials, None):
            async with ValServer(f"https://{place}", known, clock=ManualClock()) as val:
                with pytest.raises(NotTrusted) as caught:
                    await val.list_storages()
            who = "the server" if known is None else "the token endpoint"
            assert str(caught.value).startswith(f"{who} at {place} is not trusted: its certificate")
            assert "self-signed" in str(caught.value)
        assert asked == []
        async with ValServer(f"https://{place}", credentials, ca_file=certificate) as val:
            assert await val.list_storages() == []
        assert asked == ["/oauth2/token", "/mlr-mlmm/v1/storages"]


async def test_a_device_trusts_a_private_ca(certificate: Path) -> None:
    """The AIMLE client has the same argument: its registration arrives."""
    async with secure(certificate) as (place, asked):
        for trusted in (None, certificate):
            client = AimleClient(
                "ue-1", f"https://{place}", services=["v"], datasets={"d": Adder()}, ca_file=trusted
            )
            with pytest.raises(UnexpectedAnswer if trusted else NotTrusted):
                async with client:
                    pytest.fail("that server grants no registration")
    assert asked == ["/aimles-client-reg/v1/registrations"]


async def test_no_tls_where_tls_is_expected() -> None:
    """A plain server behind an https address is said to be one, at the first attempt."""
    async with Listener() as plain, open_session() as session:
        connection = Connection(
            plain.url("", "127.0.0.1").replace("http:", "https:"), session, clock=ManualClock()
        )
        with pytest.raises(NotTrusted, match="cannot be reached: it does not speak TLS"):
            await connection.request("GET", "/aimles-disc/v1/clients")


async def test_tls_where_none_is_expected(certificate: Path) -> None:
    """A TLS server behind an http address does not answer, or not in HTTP."""
    async with secure(certificate) as (place, _), open_session() as session:
        with pytest.raises(ServerUnavailable, match=f"at {place} does not answer"):
            await Connection(f"http://{place}", session, retry=ONCE).request("GET", "/aimles-disc/v1/clients")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "http://no-such-host.invalid:81",
            "at no-such-host.invalid:81 cannot be reached: the name is not found",
        ),
        ("http://localhost:1", "at localhost:1 cannot be reached: connection refused"),
        ("http://[::1]:1", r"at \[::1\]:1 cannot be reached: "),
    ],
)
async def test_nobody_is_there(url: str, words: str) -> None:
    """The message says whether the name or the port is wrong, for the server as for its token endpoint."""
    async with ValServer(url, retry=ONCE) as val:
        with pytest.raises(ServerUnavailable, match=f"^the server {words}"):
            await val.list_storages()
    async with ValServer(
        "http://127.0.0.1:1", ClientCredentials("v", "s"), token_url=f"{url}/key", retry=ONCE
    ) as val:
        with pytest.raises(ServerUnavailable, match=f"^the token endpoint {words}") as caught:
            await val.list_storages()
    assert "key" not in str(caught.value)


async def test_a_notification_to_no_address() -> None:
    """Another party's broken address is not tried again and not shown."""
    async with open_session() as session:
        connection = Connection("http://127.0.0.1:1", session, clock=ManualClock())
        with pytest.raises(UnexpectedAnswer) as caught:
            await connection.notify("ftp://ue.example/secret", {})
    assert "secret" not in str(caught.value)


def test_silence_is_told_apart() -> None:
    """A server that took the request and says nothing is not one that cannot be reached."""
    said = str(failure("the server", "https://u:pw@aimle.example/key?q=1", TimeoutError()))
    assert said == "the server at aimle.example:443 does not answer in time"


@pytest.mark.parametrize(
    "address", ["", "aimle.example.com", "aimle.example.com:8080", "ftp://a.example", "http://"]
)
async def test_an_address_without_a_scheme(address: str) -> None:
    """What is no http or https address is refused when it is given, and not repeated in the message."""
    with pytest.raises(ValueError, match=r"^server: not an address that begins with http:// or https://"):
        ValServer(address)
    async with open_session() as session:
        with pytest.raises(ValueError, match=r"^server: "):
            Connection(address, session)
    if address:
        with pytest.raises(ValueError, match=r"^token_url: "):
            ValServer("http://a.example", token_url=address)
        with pytest.raises(ValueError, match=r"^callback_url: "):
            NotificationListener(("127.0.0.1", 0), address)


def test_a_ca_file_without_certificates(tmp_path: Path) -> None:
    """A file that is not there or no PEM is named at once."""
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "other.pem"):
        with pytest.raises(ValueError, match=f"^ca_file: .*{name}"):
            ValServer("https://a.example", ca_file=tmp_path / name)
