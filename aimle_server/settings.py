"""What an operator may choose, table by table, and which choices contradict each other.

`[server] port` in the TOML file is `AIMLE_SERVER_PORT` in the environment and `--server-port` on the command
line; the later of these wins. `Settings()` is a server for one machine: loopback, embedded database, built-in
token issuer. Durations are in seconds, sizes in bytes.
"""

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from aimle_server.configuration import (
    CONFIG_VARIABLE,
    SettingsError,
    build,
    from_environment,
    from_file,
    setting,
)

__all__ = ["Settings", "SettingsError", "load"]

LOOPBACK = ("127.0.0.0/8", "::1/128")
ALGORITHMS = ("RS256", "ES256")


@dataclass(frozen=True)
class Server:
    """`[server]`: where it listens, what it takes, where it keeps its files."""

    id: str = setting("aimle-server", "AIMLE server id, as clients and model profiles are told")
    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8080, "TCP port to listen on; 0: any free one", at_least=0, at_most=65535)
    workers: int = setting(1, "processes that serve the port", at_least=1, at_most=256)
    peer_host: str = setting(
        "127.0.0.1", "address on which the other processes on this database reach this one, in plain HTTP"
    )
    peer_port: int = setting(0, "TCP port there; 0: any free one", at_least=0, at_most=65535)
    public_url: str = setting("", "apiRoot under which callers reach the server; empty: as each request says")
    data_dir: str = setting(
        "aimle-data", "directory of the signing key, the embedded database and spooled models"
    )
    max_json_bytes: int = setting(2**20, "largest JSON body, in bytes", at_least=1024, at_most=15 * 2**20)
    max_model_bytes: int = setting(2**31, "largest model, in bytes", at_least=1)
    tls_cert: str = setting("", "PEM file of the certificate chain; empty: plain HTTP")
    tls_key: str = setting("", "PEM file of the certificate's private key")
    tls_client_ca: str = setting(
        "", "PEM file of the CAs whose client certificates are required; empty: none are"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting("INFO", "least severity that is logged")
    idle_timeout: float = setting(
        75.0,
        "how long a connection may be open without a request, or a request's header may take, in s",
        at_least=0.1,
    )
    shutdown_timeout: float = setting(10.0, "how long running requests may take at a stop, in s", at_least=0)


@dataclass(frozen=True)
class Database:
    """`[database]`: a MongoDB replica set, or the embedded one."""

    url: str = setting("", "mongodb:// connection string; empty: embedded, in data_dir", secret=True)
    name: str = setting("aimle", "name of the database")


@dataclass(frozen=True)
class Auth:
    """`[auth]`: who may call (OAuth 2.0, TS 29.482: the scope is the API's base name) and as whom we call."""

    mode: Literal["builtin", "external"] = setting(
        "builtin", "who issues tokens: this server, or another issuer"
    )
    insecure_no_auth: bool = setting(False, "take every request without a token; for trials on one machine")
    issuer: str = setting("", "the `iss` of accepted tokens; empty with the built-in issuer: `aimle`")
    audience: str = setting("aimle", "the `aud` of accepted tokens")
    jwks_url: str = setting("", "external issuer: URL of its key set")
    jwks_file: str = setting("", "external issuer: file of its key set, read again when it changes")
    algorithms: tuple[str, ...] = setting(ALGORITHMS, "signature algorithms accepted, of RS256 and ES256")
    key_file: str = setting(
        "", "built-in issuer: PEM file of its ES256 key; empty: issuer-key.pem in data_dir"
    )
    token_lifetime: int = setting(3600, "built-in issuer: how long a token is valid, in s", at_least=1)
    client_id: str = setting("", "our own client at an external issuer, for the calls that this server makes")
    client_secret: str = setting("", "that client's secret", secret=True, flag=False)
    token_url: str = setting("", "token endpoint of that issuer")


@dataclass(frozen=True)
class Targets:
    """`[targets]`: whom this server calls (AIMLE clients, notification targets, model addresses)."""

    schemes: tuple[str, ...] = setting(("http", "https"), "URL schemes that may be called")
    allow: tuple[str, ...] = setting((), "CIDR ranges that are called although they are loopback or denied")
    deny: tuple[str, ...] = setting((), "CIDR ranges that are not called, such as the management network")


@dataclass(frozen=True)
class Registration:
    """`[registration]`: how long a registration lasts without being renewed (TS 23.482 8.5, 8.10)."""

    default_lifetime: float = setting(86_400.0, "lifetime where the request names none, in s", at_least=1)
    max_lifetime: float = setting(604_800.0, "longest lifetime granted, in s", at_least=1)


@dataclass(frozen=True)
class Hfl:
    """`[hfl]`: what a horizontal federated training does where its profile says nothing (TS 23.482 8.20)."""

    round_timeout: float = setting(600.0, "how long a round waits for updates, in s", at_least=0.1)
    participation_timeout: float = setting(
        10.0, "how long a client may take to answer an invitation, in s", at_least=0.1
    )
    call_timeout: float = setting(10.0, "how long a client may take to answer a call, in s", at_least=0.1)
    join_timeout: float = setting(
        300.0, "how long a training waits for enough participants, in s", at_least=0.1
    )
    min_reports: float = setting(
        0.5, "part of the participants whose updates complete a round", at_least=0, at_most=1
    )
    max_offences: int = setting(
        3, "updates of one training that are refused until their client is excluded from it", at_least=1
    )
    max_rounds: int = setting(1000, "most rounds of one training", at_least=1)
    lease: float = setting(
        10.0, "after how long another server may drive a silent server's trainings, in s", at_least=0.1
    )


@dataclass(frozen=True)
class Outbox:
    """`[outbox]`: how hard a notification is tried."""

    max_age: float = setting(
        86_400.0, "how old a notification is given up that still fails, in s", at_least=1
    )
    backoff: float = setting(
        1.0, "pause after the first failure, in s; each further one doubles it", at_least=0.01
    )
    backoff_max: float = setting(600.0, "longest pause between two attempts, in s", at_least=0.01)
    timeout: float = setting(10.0, "how long a target may take to answer, in s", at_least=0.1)


@dataclass(frozen=True)
class Update:
    """`[update]`: ML model update (TS 23.482 8.21)."""

    wait: float = setting(20.0, "how long a request waits for a retraining, in s", at_least=0)


@dataclass(frozen=True)
class Settings:
    """All tables; making one with contradicting values raises SettingsError."""

    server: Server = field(default_factory=Server)
    database: Database = field(default_factory=Database)
    auth: Auth = field(default_factory=Auth)
    targets: Targets = field(default_factory=Targets)
    registration: Registration = field(default_factory=Registration)
    hfl: Hfl = field(default_factory=Hfl)
    outbox: Outbox = field(default_factory=Outbox)
    update: Update = field(default_factory=Update)

    def __post_init__(self) -> None:
        """Refuse what cannot work or would be less safe than it looks."""
        _check_server(self.server)
        _check_auth(self.auth)
        _check_targets(self.targets)
        _refuse(
            self.registration.default_lifetime > self.registration.max_lifetime,
            "registration.default_lifetime is longer than registration.max_lifetime",
        )
        url = self.database.url
        _refuse(
            bool(url) and not url.startswith(("mongodb://", "mongodb+srv://")),
            "database.url: expected a mongodb:// connection string",
        )

    @property
    def api_root(self) -> str:
        """apiRoot (TS 29.501 4.4.1) to hand out where no request says under which one we were reached."""
        scheme = "https" if self.server.tls_cert else "http"
        host = self.server.host
        if host in ("", "0.0.0.0", "::"):  # noqa: S104 - nobody is bound here: it is not an address to hand out
            host = socket.gethostname()
        return self.server.public_url or f"{scheme}://{_bracketed(host)}:{self.server.port}"

    @property
    def peer_url(self) -> str:
        """apiRoot to hand to the other processes on this database."""
        if not self.server.peer_port:
            return self.api_root
        return f"http://{_bracketed(self.server.peer_host)}:{self.server.peer_port}"

    @property
    def issuer(self) -> str:
        """The `iss` of accepted tokens."""
        return self.auth.issuer or "aimle"

    @property
    def key_file(self) -> Path:
        """The built-in issuer's key."""
        return Path(self.auth.key_file or Path(self.server.data_dir) / "issuer-key.pem")

    @property
    def allowed_targets(self) -> tuple[str, ...]:
        """`targets.allow`, and loopback for a server that only this machine reaches.

        What listens on loopback (the embedded database, for one) trusts this machine, so a caller from
        elsewhere must not reach it through us, while a caller on this machine gains nothing.
        """
        urls = (f"http://{_bracketed(self.server.host)}", self.server.public_url)
        local = all(is_loopback(url) for url in urls if url)
        return self.targets.allow + LOOPBACK if local else self.targets.allow


def load(
    flags: Mapping[str, Any], config: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Settings from the file, then the environment, then the flags.

    Args:
        flags: values by dotted name, as `configuration.parse` returns them.
        config: the TOML file; None: the one that AIMLE_CONFIG names, if it does.
        environ: the environment.

    Raises:
        SettingsError: a key is unknown, a value wrong, or two of them contradict each other.
    """
    named = environ.get(CONFIG_VARIABLE)
    path = config or (Path(named) if named else None)
    file = from_file(Settings, path) if path else {}
    return build(Settings, file, from_environment(Settings, environ), flags)


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine and no other."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _split(name: str, url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise SettingsError(f"{name}: expected a URL") from None


def _check_server(server: Server) -> None:
    _refuse(
        bool(server.tls_cert) != bool(server.tls_key), "server.tls_cert and server.tls_key need each other"
    )
    _refuse(bool(server.tls_client_ca) and not server.tls_cert, "server.tls_client_ca needs server.tls_cert")
    if server.public_url:
        parts = _split("server.public_url", server.public_url)
        _refuse(
            parts.scheme not in ("http", "https") or not parts.netloc or bool(parts.query or parts.fragment),
            "server.public_url: expected an http or https URL without query",
        )
        _refuse(server.public_url.endswith("/"), "server.public_url: leave out the slash at its end")


def _check_auth(auth: Auth) -> None:
    key_sets = [name for name in ("jwks_url", "jwks_file") if getattr(auth, name)]
    _refuse(len(key_sets) == 2, "auth.jwks_url and auth.jwks_file contradict each other: give one")
    external = auth.mode == "external"
    _refuse(external and not auth.issuer, "auth.mode external needs auth.issuer")
    _refuse(external and not key_sets, "auth.mode external needs auth.jwks_url or auth.jwks_file")
    _refuse(not external and bool(key_sets), "a key set (auth.jwks_*) needs auth.mode external")
    _refuse(external and bool(auth.key_file), "auth.key_file is for auth.mode builtin")
    _refuse(external and auth.insecure_no_auth, "auth.insecure_no_auth contradicts auth.mode external")
    _refuse(not auth.audience, "auth.audience: must not be empty")
    _refuse(
        not auth.algorithms or not set(auth.algorithms) <= set(ALGORITHMS),
        f"auth.algorithms: expected one or more of {', '.join(ALGORITHMS)}",
    )
    own = (auth.client_id, auth.client_secret, auth.token_url)
    _refuse(
        any(own) and not all(own), "auth.client_id, auth.client_secret and auth.token_url need each other"
    )
    for name, url in (("auth.jwks_url", auth.jwks_url), ("auth.token_url", auth.token_url)):
        scheme = _split(name, url).scheme
        safe = scheme == "https" or (scheme == "http" and is_loopback(url))
        # Over plain HTTP anybody on the way could swap the keys or read the secret.
        _refuse(bool(url) and not safe, f"{name}: expected an https URL (http on loopback only)")


def _check_targets(targets: Targets) -> None:
    known = {"http", "https"}
    _refuse(
        not targets.schemes or not set(targets.schemes) <= known,
        "targets.schemes: expected http, https or both",
    )
    _check_ranges("targets.allow", targets.allow)
    _check_ranges("targets.deny", targets.deny)


def _check_ranges(name: str, ranges: Iterable[str]) -> None:
    for text in ranges:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise SettingsError(f"{name}: not a CIDR range: {text!r}") from None


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise SettingsError(message)
