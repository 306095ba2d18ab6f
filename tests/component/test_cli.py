"""The command line, as an operator has it: real processes, their output and exit status."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from aiohttp import ClientSession, encode_basic_auth
from bson import encode

from ml_repository.database import Database, connect
from ml_repository.embedded import EmbeddedDatabase
from ml_repository.oauth_clients import OAuthClients
from sbi.clock import Clock
from sbi.issuer import TokenIssuer, load_or_create_key
from sbi.keys import GivenKeys
from sbi.tokens import TokenAuthenticator


def aimle(directory: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What `aimle-server ARGS` does in a directory, with nothing of ours in the environment but `environ`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")} | environ
    command = [sys.executable, "-m", "aimle_server", *args]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=60)


def refused(directory: Path, *args: str, status: int = 2, **environ: str) -> str:
    """The one line on standard error with which a command fails."""
    result = aimle(directory, *args, **environ)
    assert (result.returncode, result.stdout) == (status, ""), result.stderr
    assert result.stderr.startswith("aimle-server: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_help(tmp_path: Path) -> None:
    """`run --help` lists every setting's flag with its meaning, but none that takes a secret."""
    text = aimle(tmp_path, "run", "--help").stdout
    flags = (
        "--port",
        "--server-port",
        "--database-url",
        "--insecure-no-auth",
        "--hfl-round-timeout",
        "--config",
    )
    assert all(flag in text for flag in flags)
    assert "--auth-client-secret" not in text
    assert all(name in aimle(tmp_path, "--help").stdout for name in ("run", "demo", "token", "specs"))


def test_a_demonstration_without_what_it_needs(tmp_path: Path) -> None:
    """Where the extra for split operation is not installed, it is said what to install."""
    code = "import sys; sys.modules['onnx'] = None; from aimle_server.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "demo", "--split"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    message = "aimle-server: onnx is missing: install what it needs (pip install 'aimle[demo,split]')\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", message)


def test_version(tmp_path: Path) -> None:
    """`--version` names program and version."""
    assert aimle(tmp_path, "--version").stdout.startswith("aimle-server 0.")


def test_no_command(tmp_path: Path) -> None:
    """Without a command the usage is shown."""
    result = aimle(tmp_path)
    assert result.returncode == 2
    assert "usage: aimle-server" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "--port", "http"], "--server-port: expected a whole number"),
        (["run", "--port", "70000"], "--server-port: must be at most 65535"),
        (["run", "--server-tls-cert", "x"], "server.tls_cert and server.tls_key need each other"),
        (["run", "--config", "nowhere.toml"], "nowhere.toml: No such file"),
        (["run", "--insecure-no-auth=perhaps"], "true or false"),
        (["run", "--auth-mode", "external"], "auth.issuer"),
        (["token", "list", "--database-url", "hunter2"], "database.url"),
        (["token", "add", "val-1", "--scope", "aimles-dics"], "aimles-dics; there are: aimles-disc"),
    ],
)
def test_wrong_settings(tmp_path: Path, args: list[str], words: str) -> None:
    """Wrong settings end the program with status 2, before anything starts, and say which."""
    message = refused(tmp_path, *args)
    assert words in message
    assert "hunter2" not in message
    assert os.listdir(tmp_path) == []


def test_wrong_variable(tmp_path: Path) -> None:
    """A misspelt variable is named, with the one that was meant."""
    message = refused(tmp_path, "token", "list", AIMLE_SERVER_DATADIR="x")
    assert "AIMLE_SERVER_DATADIR; did you mean AIMLE_SERVER_DATA_DIR" in message


def test_wrong_file(tmp_path: Path) -> None:
    """The file that AIMLE_CONFIG names is read, and its mistakes are named."""
    (tmp_path / "aimle.toml").write_text("[server]\nprot = 1")
    assert "server.prot" in refused(tmp_path, "token", "list", AIMLE_CONFIG="aimle.toml")


async def test_clients(tmp_path: Path, mongo_url: str, database: Database) -> None:
    """A client added on the command line can authenticate with the secret shown; removed, it cannot."""
    where = {"AIMLE_DATABASE_URL": mongo_url, "AIMLE_DATABASE_NAME": database.db.name}
    added = aimle(
        tmp_path, "token", "add", "val-1", "--scope", "aimles-disc", "aimles-sel", "--vendor", "acme", **where
    )
    assert added.returncode == 0, added.stderr
    secret = added.stdout.strip()
    clients = OAuthClients(database)
    assert (await clients.authenticate("val-1", secret)) is not None
    async for document in database["oauth_clients"].find():
        assert secret.encode() not in encode(document)
    assert aimle(tmp_path, "token", "list", **where).stdout == "val-1\taimles-disc aimles-sel\tacme\n"
    again = refused(tmp_path, "token", "add", "val-1", "--scope", "aimles-disc", status=1, **where)
    assert "val-1" in again
    token = aimle(tmp_path, "token", "issue", "val-1", **where).stdout.strip()
    assert jwt.decode(token, options={"verify_signature": False})["vendor"] == "acme"
    assert aimle(tmp_path, "token", "remove", "val-1", **where).returncode == 0
    assert await clients.authenticate("val-1", secret) is None
    assert "val-1" in refused(tmp_path, "token", "remove", "val-1", status=1, **where)
    assert "val-1" in refused(tmp_path, "token", "issue", "val-1", status=1, **where)


async def test_roles(tmp_path: Path, mongo_url: str, database: Database) -> None:
    """A role stands for the scopes that a device, a node of pipelines, or an application, needs."""
    where = {"AIMLE_DATABASE_URL": mongo_url, "AIMLE_DATABASE_NAME": database.db.name}
    for name, role in (("ue-1", "device"), ("edge-1", "node"), ("val-1", "application")):
        assert aimle(tmp_path, "token", "add", name, "--role", role, **where).returncode == 0
    listed = dict(
        line.split("\t")[:2] for line in aimle(tmp_path, "token", "list", **where).stdout.splitlines()
    )
    device = {
        "aimles-client-reg",
        "aimles-task-transfer",
        "aimle-task-transfers",
        "aimlec-task-transfer",
        "aimle-channels",
    }
    assert set(listed["ue-1"].split()) == device
    assert set(listed["edge-1"].split()) == {"aimles-sonreg", "aimle-artifacts"}
    assert {"aimles-trn", "mlr-mlmm", "aimle-artifacts"} < set(listed["val-1"].split())
    assert "aimles-client-reg" not in listed["val-1"]


async def test_issue(tmp_path: Path) -> None:
    """A token minted on the command line passes the check of a server with the same data directory."""
    args = ["token", "issue", "operator", "--scope", "aimles-disc", "--data-dir", "data"]
    token = aimle(tmp_path, *args).stdout.strip()
    key = load_or_create_key(tmp_path / "data" / "issuer-key.pem")
    keys = GivenKeys(TokenIssuer(key, "aimle", "aimle", 600, Clock()).jwks())
    caller = await TokenAuthenticator(keys, "aimle", "aimle", Clock()).authenticate(
        f"Bearer {token}", "aimles-disc"
    )
    assert caller.subject == "operator"


def test_embedded_database(tmp_path: Path) -> None:
    """Without a server and a database of its own, the command starts the embedded one for the moment."""
    assert aimle(tmp_path, "token", "add", "val-1", "--scope", "aimles-disc").returncode == 0
    assert aimle(tmp_path, "token", "list").stdout == "val-1\taimles-disc\t-\n"


async def test_beside_a_running_server(tmp_path: Path) -> None:
    """While a server runs on the embedded database, the command uses that one."""
    async with EmbeddedDatabase(tmp_path / "aimle-data") as running:
        command = ("token", "add", "val-1", "--scope", "aimles-disc")
        added = await asyncio.to_thread(aimle, tmp_path, *command)
        database = await connect(running.url, "aimle")
        assert await OAuthClients(database).authenticate("val-1", added.stdout.strip())
        await database.close()


def test_external_issuer(tmp_path: Path) -> None:
    """With another issuer there are no clients to manage here."""
    (tmp_path / "keys.json").write_text(json.dumps({"keys": []}))
    external = {"AIMLE_AUTH_MODE": "external", "AIMLE_AUTH_ISSUER": "x", "AIMLE_AUTH_JWKS_FILE": "keys.json"}
    assert "auth.mode" in refused(tmp_path, "token", "list", **external)


def test_database_does_not_answer(tmp_path: Path, unused_tcp_port: int) -> None:
    """A database that is not there is an error of one line, without the connection string."""
    url = f"mongodb://aimle:hunter2@127.0.0.1:{unused_tcp_port}/?serverSelectionTimeoutMS=200"
    message = refused(tmp_path, "token", "list", status=1, AIMLE_DATABASE_URL=url)
    assert "database" in message
    assert "hunter2" not in message
    strange = refused(tmp_path, "token", "list", status=1, AIMLE_DATABASE_URL="mongodb://a:hunter2@b@c")
    assert "hunter2" not in strange


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server with its own database in `tmp_path`: its URL and its process."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}
    command = [sys.executable, "-m", "aimle_server", "run", "--port", "0"]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("aimle-server is ready at http://127.0.0.1:"), (tmp_path / "log").read_text()
        yield line.split()[-1], process
        process.kill()


async def test_run(tmp_path: Path, server: tuple[str, "subprocess.Popen[str]"]) -> None:
    """A server as it comes asks for tokens, gives them to clients added beside it, and ends cleanly on SIGTERM."""
    url, process = server
    command = ("token", "add", "val-1", "--scope", "aimles-disc")
    secret = (await asyncio.to_thread(aimle, tmp_path, *command)).stdout.strip()
    async with ClientSession() as session:
        form = {"grant_type": "client_credentials"}
        basic = {"Authorization": encode_basic_auth("val-1", secret)}
        async with session.post(f"{url}/oauth2/token", data=form, headers=basic) as response:
            token = (await response.json())["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        for method, path, headers, status in (
            ("GET", "/aimles-disc/v1/clients", {}, 401),
            ("GET", "/aimles-disc/v1/clients", {"Authorization": f"Bearer {token[:-9]}"}, 401),
            ("POST", "/aimles-sel/v1/select", bearer, 403),
            ("GET", "/aimles-disc/v1/clients", bearer, 400),
        ):
            async with session.request(method, url + path, headers=headers) as response:
                assert response.status == status, await response.text()
                assert response.content_type == "application/problem+json"
        async with session.get(f"{url}/aimles-disc/v1/no-such-resource?token={token}") as response:
            assert response.status == 404
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0
    log = (tmp_path / "log").read_text()
    entries = [json.loads(line) for line in log.splitlines()]
    requests = [entry for entry in entries if entry["logger"] == "aimle.access"]
    assert [entry["status"] for entry in requests] == [200, 401, 401, 403, 400, 404]
    assert {entry["level"] for entry in entries} == {"INFO"}
    assert token not in log
    assert secret not in log


def test_port_in_use(tmp_path: Path) -> None:
    """A port that is taken ends the start with one line."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        message = refused(tmp_path, "run", "--port", str(other.getsockname()[1]))
    assert "Address already in use" in message
    assert os.listdir(tmp_path) == []


def test_specs(tmp_path: Path) -> None:
    """The documents are written, found to be as the code says, and found out when they are not."""
    written = aimle(tmp_path, "specs", "--write", "specs")
    assert written.returncode == 0, written.stderr
    assert aimle(tmp_path, "specs", "--check").returncode == 0
    changed = sorted((tmp_path / "specs").iterdir())[0]
    changed.write_text("changed")
    assert changed.name in refused(tmp_path, "specs", "--check", "specs", status=1)
