"""Settings: where they come from, what is refused, and that secrets stay out of sight."""

import socket
from pathlib import Path
from typing import Any

import pytest

from aimle_server.configuration import keys_of, parse
from aimle_server.settings import Auth, Server, Settings, SettingsError, Targets, load

TOML = """
[server]
port = 9000
[hfl]
min_reports = 1
[targets]
allow = ["10.0.0.0/8"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file with one value of several types."""
    path = tmp_path / "aimle.toml"
    path.write_text(TOML)
    return path


def refused(text: str, tmp_path: Path) -> str:
    """The message with which a settings file is refused."""
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load({}, path, {})
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "environ", "flags", "port"),
    [
        (False, {}, {}, 8080),
        (True, {}, {}, 9000),
        (True, {"AIMLE_SERVER_PORT": "9001"}, {}, 9001),
        (True, {"AIMLE_SERVER_PORT": "9001"}, {"server.port": 9002}, 9002),
        (True, {}, {"server.port": 9002}, 9002),
        (False, {"AIMLE_SERVER_PORT": "9001"}, {}, 9001),
    ],
)
def test_precedence(
    config: Path, file: bool, environ: dict[str, str], flags: dict[str, Any], port: int
) -> None:
    """A flag beats the environment, the environment the file, the file the default."""
    assert load(flags, config if file else None, environ).server.port == port


def test_sources_add_up(config: Path) -> None:
    """A source that sets one value of a table leaves the table's other values to the sources below it."""
    settings = load({"server.host": "::1"}, config, {"AIMLE_SERVER_LOG_LEVEL": "DEBUG", "HOME": "/root"})
    assert settings.server == Server(host="::1", port=9000, log_level="DEBUG")
    assert settings.hfl.min_reports == 1.0
    assert settings.targets.allow == ("10.0.0.0/8",)


def test_config_variable(config: Path) -> None:
    """AIMLE_CONFIG names the file where no flag does."""
    assert load({}, None, {"AIMLE_CONFIG": str(config)}).server.port == 9000


def test_defaults_are_one_machine() -> None:
    """Without any settings the server is on loopback, asks for tokens and brings its own database."""
    settings = load({}, None, {})
    assert (settings.server.host, settings.database.url, settings.auth.insecure_no_auth) == (
        "127.0.0.1",
        "",
        False,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1", ["server.prot", "server.port"]),
        ("[sever]\nport = 1", ["[sever]", "[server]"]),
        ("port = 1", ["[port]"]),
        ("[server]\nport = '1'", ["server.port", "a whole number"]),
        ("[server]\nport = true", ["server.port", "a whole number"]),
        ("[server]\nport = 70000", ["server.port", "at most 65535"]),
        ("[server]\nhost = 1", ["server.host", "a string"]),
        ("[auth]\ninsecure_no_auth = 1", ["auth.insecure_no_auth", "true or false"]),
        ("[auth]\nmode = 'none'", ["auth.mode", "'builtin'", "'external'"]),
        ("[targets]\nallow = '10.0.0.0/8'", ["targets.allow", "a list of strings"]),
        ("[targets]\nallow = ['10.0.0.1/8']", ["targets.allow", "10.0.0.1/8"]),
        ("[targets]\nschemes = ['file']", ["targets.schemes"]),
        ("[hfl]\nround_timeout = nan", ["hfl.round_timeout", "finite"]),
        ("[hfl]\nround_timeout = inf", ["hfl.round_timeout", "finite"]),
        ("[hfl]\nmin_reports = 1.5", ["hfl.min_reports", "at most 1"]),
        ("[server\n", ["not valid TOML"]),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, words: list[str]) -> None:
    """A wrong file is refused with the key's name and what would be right."""
    message = refused(text, tmp_path)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(SettingsError, match=r"nowhere\.toml: No such file"):
        load({}, tmp_path / "nowhere.toml", {})


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AIMLE_SERVER_PROT", "1", "AIMLE_SERVER_PORT"),
        ("AIMLE_AUTH_JWKSURL", "x", "AIMLE_AUTH_JWKS_URL"),
        ("AIMLE_SERVER_PORT", "http", "a whole number"),
        ("AIMLE_AUTH_INSECURE_NO_AUTH", "maybe", "true or false"),
    ],
)
def test_wrong_variables(variable: str, value: str, words: str) -> None:
    """A variable with our prefix that is misspelt or of the wrong type is refused by name."""
    with pytest.raises(SettingsError, match=words) as caught:
        load({}, None, {variable: value})
    assert variable in str(caught.value)


def test_text_values() -> None:
    """Variables and flags carry every type as text; lists are comma-separated."""
    keys = keys_of(Settings)
    assert parse(keys["targets.allow"], "x", "10.0.0.0/8, fd00::/8") == ("10.0.0.0/8", "fd00::/8")
    assert parse(keys["targets.allow"], "x", "") == ()
    assert parse(keys["auth.insecure_no_auth"], "x", "Yes") is True
    assert parse(keys["hfl.lease"], "x", "2") == 2.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tls_cert": "cert.pem"}, "tls_cert and server.tls_key need each other"),
        ({"tls_key": "key.pem"}, "tls_cert and server.tls_key need each other"),
        ({"tls_client_ca": "ca.pem"}, "needs server.tls_cert"),
        ({"public_url": "aimle.example.com"}, "public_url"),
        ({"public_url": "https://aimle.example.com/"}, "slash"),
        ({"public_url": "http://[::1"}, "public_url"),
    ],
)
def test_server_contradictions(values: dict[str, Any], words: str) -> None:
    """Settings of the listener that cannot work together are refused before it starts."""
    with pytest.raises(SettingsError, match=words):
        Settings(server=Server(**values))


EXTERNAL = {"mode": "external", "issuer": "https://issuer.example.com"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (EXTERNAL | {"jwks_url": "https://a/keys", "jwks_file": "keys.json"}, "contradict each other"),
        (EXTERNAL, r"needs auth\.jwks_url or auth\.jwks_file"),
        ({"mode": "external", "jwks_file": "keys.json"}, r"needs auth\.issuer"),
        ({"jwks_file": "keys.json"}, r"needs auth\.mode external"),
        (EXTERNAL | {"jwks_file": "keys.json", "insecure_no_auth": True}, "contradicts"),
        (EXTERNAL | {"jwks_file": "keys.json", "key_file": "key.pem"}, "key_file"),
        (EXTERNAL | {"jwks_url": "http://issuer.example.com/keys"}, "https"),
        ({"client_id": "aimle"}, "need each other"),
        ({"algorithms": ("none",)}, "algorithms"),
        ({"algorithms": ("HS256",)}, "algorithms"),
        ({"algorithms": ()}, "algorithms"),
        ({"audience": ""}, "audience"),
    ],
)
def test_auth_contradictions(values: dict[str, Any], words: str) -> None:
    """No combination leaves tokens unchecked, or checked against keys that anybody could swap."""
    with pytest.raises(SettingsError, match=words):
        Settings(auth=Auth(**values))


def test_secrets_are_not_shown() -> None:
    """Neither the text of the settings nor an error shows a secret."""
    environ = {"AIMLE_DATABASE_URL": "mongodb://aimle:hunter2@db", "AIMLE_AUTH_CLIENT_SECRET": "hunter2"}
    own = {"AIMLE_AUTH_CLIENT_ID": "me", "AIMLE_AUTH_TOKEN_URL": "https://issuer.example.com/token"}
    assert "hunter2" not in repr(load({}, None, environ | own))
    with pytest.raises(SettingsError) as caught:
        load({}, None, {"AIMLE_DATABASE_URL": "hunter2://db"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("server", "allow", "allowed"),
    [
        (Server(), (), True),
        (Server(host="::1", public_url="http://localhost:8080"), (), True),
        (Server(host="0.0.0.0"), (), False),
        (Server(public_url="https://aimle.example.com"), (), False),
        (Server(host="0.0.0.0"), ("127.0.0.0/8",), True),
    ],
)
def test_loopback_targets(server: Server, allow: tuple[str, ...], allowed: bool) -> None:
    """A server that other machines reach does not call this one, unless the operator says so."""
    assert ("127.0.0.0/8" in Settings(server=server, targets=Targets(allow=allow)).allowed_targets) is allowed


@pytest.mark.parametrize(
    ("server", "root"),
    [
        (Server(port=9000), "http://127.0.0.1:9000"),
        (Server(host="::1", tls_cert="a", tls_key="b"), "https://[::1]:8080"),
        (Server(host="0.0.0.0"), f"http://{socket.gethostname()}:8080"),
        (Server(host="0.0.0.0", public_url="https://aimle.example.com/x"), "https://aimle.example.com/x"),
    ],
)
def test_api_root(server: Server, root: str) -> None:
    """Addresses that we hand out on our own lead back to us."""
    assert Settings(server=server).api_root == root
