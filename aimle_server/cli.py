"""`aimle-server run | demo | token | outbox | specs`.

Exit status: 0 done; 1 it did not work; 2 the arguments or settings are wrong. Errors are one line on
standard error.
"""

import argparse
import asyncio
import difflib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pymongo.errors import PyMongoError

from aimle_server.configuration import Key, keys_of, parse
from aimle_server.settings import Settings, SettingsError, load
from ml_repository.embedded import EmbeddedDatabaseError
from sbi.errors import AimleError
from sbi.keys import KeySetError

_SHORT = {
    "server.host": "--host",
    "server.port": "--port",
    "server.public_url": "--public-url",
    "server.data_dir": "--data-dir",
    "server.log_level": "--log-level",
    "auth.insecure_no_auth": "--insecure-no-auth",
}
_FOR_DATABASE = ("server.data_dir", "database.url")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's arguments) names; return the exit status."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.command(args)
        return status
    except SettingsError as error:
        return _fail(str(error), 2)
    except AimleError as error:
        return _fail(error.detail, 1)
    except (KeySetError, EmbeddedDatabaseError) as error:
        return _fail(str(error), 1)
    except PyMongoError as error:
        # The driver's own text may repeat parts of the connection string.
        return _fail(f"the database cannot be used: {type(error).__name__}", 1)
    except KeyboardInterrupt:
        return 130


def _fail(message: str, status: int) -> int:
    print(f"aimle-server: {message}", file=sys.stderr)
    return status


def _run(args: argparse.Namespace) -> int:
    settings = _settings(args)
    # Slow to import, and the other commands do not need them.
    from aimle_server import serve, workers
    from aimle_server.app import build_app

    (workers if settings.server.workers > 1 else serve).run(settings, build_app)
    return 0


def _demo(args: argparse.Namespace) -> int:
    extras = "demo,split" if args.split else "demo"
    try:
        if args.split:
            _check_installed("onnx", "onnxruntime")
            from aimle_server.demo import split

            return split.main()
        from aimle_server.demo import story, transfer
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is missing: install what it needs (pip install 'aimle[{extras}]')", 1)
    return transfer.main() if args.transfer else story.main(websocket=args.websocket)


def _check_installed(*packages: str) -> None:
    """ModuleNotFoundError for the first that is not there; none is imported."""
    for name in packages:
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)


def _token(args: argparse.Namespace) -> int:
    from aimle_server import token_command

    if args.action == "add" and args.role:
        args.scope = _scopes_of(args.role)
    if "scope" in args:
        _check_scopes(args.scope or ())
    asyncio.run(token_command.run(_settings(args), args))
    return 0


def _outbox(args: argparse.Namespace) -> int:
    from aimle_server import outbox_command

    asyncio.run(outbox_command.run(_settings(args), args))
    return 0


def _scopes_of(role: str) -> list[str]:
    """A device registers, is reached and hands tasks over; an application asks for everything else.

    A node registers, and fetches models.
    """
    from aimle_client.apis.task_transfer import API as DIRECT_TRANSFER
    from aimle_server.apis import SERVED_APIS
    from aimle_server.apis.channels import API as CHANNELS
    from aimle_server.apis.client_registration import API as REGISTRATION
    from aimle_server.apis.split_node_registration import API as NODES
    from aimle_server.apis.task_transfer import API as TRANSFER
    from aimle_server.apis.task_transfer import TRANSFERS_API
    from ml_repository.apis.artifacts import API as ARTIFACTS

    own = {api.scope for api in (REGISTRATION, TRANSFER, TRANSFERS_API)}
    if role == "node":
        return sorted({NODES.scope, ARTIFACTS.scope})
    if role == "device":
        return sorted(own | {CHANNELS.scope, DIRECT_TRANSFER.scope})
    return sorted({api.scope for api in SERVED_APIS} - own)


def _check_scopes(scopes: Sequence[str]) -> None:
    """Refuse a scope that no API has: a token with it would be refused everywhere, without saying why."""
    from aimle_server.apis import ALL_APIS, oauth

    known = sorted({api.scope for api in ALL_APIS} - {oauth.API.scope})
    for scope in scopes:
        if scope not in known:
            names = difflib.get_close_matches(scope, known) or known
            raise SettingsError(f"no API has the scope {scope}; there are: {', '.join(names)}")


def _specs(args: argparse.Namespace) -> int:
    from aimle_server.apis import ALL_APIS
    from sbi import openapi

    if args.write:
        openapi.write(ALL_APIS, args.write)
        return 0
    stale = openapi.stale(ALL_APIS, args.check)
    if stale:
        return _fail(
            f"not as the code says: {', '.join(stale)}; run aimle-server specs --write {args.check}", 1
        )
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    keys = keys_of(Settings)
    flags: dict[str, Any] = {
        dotted: parse(keys[dotted], keys[dotted].flag, text)
        for dotted, text in vars(args).items()
        if dotted in keys and text is not None
    }
    return load(flags, args.config)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "aimle-server", description="AIMLE server (3GPP TS 23.482)", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"aimle-server {version('aimle')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = _command(commands, "run", _run, "serve until SIGTERM or SIGINT")
    _add_settings(run, tuple(key.dotted for key in keys_of(Settings).values()))
    which = _command(
        commands, "demo", _demo, "a federated training with clients on this machine"
    ).add_mutually_exclusive_group()
    which.add_argument(
        "--websocket",
        action="store_true",
        help="the server calls nobody: clients and application open WebSockets, as behind a NAT",
    )
    which.add_argument(
        "--split",
        action="store_true",
        help="instead: a neural network that runs on three nodes, of which one is killed",
    )
    which.add_argument(
        "--transfer", action="store_true", help="a local training that moves from one client to another"
    )
    _add_token(_command(commands, "token", _token, "clients and tokens of the built-in issuer"))
    _add_outbox(_command(commands, "outbox", _outbox, "notifications that are not delivered"))
    specs = _command(commands, "specs", _specs, "the OpenAPI documents that the code describes")
    what = specs.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="DIR", help="write them into DIR")
    what.add_argument(
        "--check",
        type=Path,
        metavar="DIR",
        nargs="?",
        const=Path("specs"),
        help="fail if those in DIR differ",
    )
    return parser


def _command(commands: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, allow_abbrev=False
    )
    parser.set_defaults(command=function)
    return parser


def _add_token(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    for name, text in (
        ("add", "make a client and print its secret, which is shown only now"),
        ("remove", "remove a client; its tokens last until they expire"),
        ("list", "print id, scopes and vendor of every client"),
        ("issue", "print a token for a client; with --scope also for one that is not stored"),
    ):
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        _add_settings(action, _FOR_DATABASE)
        if name != "list":
            action.add_argument("client_id", metavar="CLIENT_ID")
        if name in ("add", "issue"):
            which = action.add_mutually_exclusive_group(required=name == "add")
            which.add_argument("--scope", action="extend", nargs="+", help="base name of an API: aimles-disc")
            if name == "add":
                which.add_argument(
                    "--role", choices=("device", "node", "application"), help="all scopes it needs"
                )
            action.add_argument("--vendor", help="vendor that models may be restricted to (TS 23.482 8.11)")


def _add_outbox(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")
    for name, text in (
        ("list", "print what each stream waits for, and the dead letters, which were given up"),
        ("retry", "make dead letters due again; a running server sends them"),
    ):
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        _add_settings(action, _FOR_DATABASE)
        which = action.add_mutually_exclusive_group(required=name == "retry")
        if name == "list":
            which.add_argument("--pending", action="store_true", help="no dead letters")
            which.add_argument("--dead", action="store_true", help="dead letters only")
        else:
            which.add_argument("ids", metavar="ID", nargs="*", default=[], help="as `list` prints it")
            which.add_argument("--all", action="store_true", help="every dead letter")


def _default(key: Key) -> str:
    """What holds without the flag, and what may be given where that is a choice."""
    shown = ",".join(key.default) if isinstance(key.default, tuple) else key.default
    default = f"default: {shown if shown != '' else 'none'}"
    return f"{'|'.join(get_args(key.type))}; {default}" if get_origin(key.type) is Literal else default


def _add_settings(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """A flag for each named setting, in a group per table."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file (environment: AIMLE_CONFIG)")
    groups: dict[str, Any] = {}
    for key in (key for key in keys_of(Settings).values() if key.dotted in names and key.metadata["flag"]):
        group = groups.setdefault(key.table, None) or parser.add_argument_group(f"[{key.table}]")
        groups[key.table] = group
        options = [name for name in (_SHORT.get(key.dotted), key.flag) if name]
        text = f"{key.metadata['doc']} ({_default(key)})".replace("%", "%%")
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if key.type is bool else {}
        group.add_argument(*options, dest=key.dotted, metavar="VALUE", help=text, **switch)
