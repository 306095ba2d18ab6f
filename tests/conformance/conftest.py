"""Options and fixtures of the conformance suite; `docs/conformance.md` says how to use it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.background import Background
from support.behaviour import APPLICABLE
from support.consumer import Consumer, NoToken, Tokens
from support.documents import Documents, Operation
from support.listener import Listener
from support.report import Report
from support.world import World

HERE = Path(__file__).parent
DOCUMENTS = pytest.StashKey[Documents]()
REPORT = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the operator says of the server."""
    group = parser.getgroup("conformance of an AIMLE server")
    group.addoption("--aimle-url", metavar="URL", help="apiRoot of the server")
    group.addoption(
        "--aimle-client-url", metavar="URL", help="aimleClientUri of an AIMLE client to judge as well"
    )
    group.addoption("--openapi", metavar="DIR", help="folder of OpenAPI documents, JSON or YAML")
    group.addoption("--token-url", metavar="URL", help="its token endpoint; without: it asks for no tokens")
    for name in ("id", "secret"):
        text = f"{name} of a client for client credentials; twice: of one that may not touch the other's resources"
        group.addoption(f"--client-{name}", action="append", default=[], metavar=name.upper(), help=text)
    group.addoption(
        "--callback-host", default="127.0.0.1", metavar="HOST", help="where the server reaches the suite"
    )
    group.addoption("--callback-port", type=int, default=0, metavar="PORT", help="default: any free one")
    group.addoption("--model", metavar="FILE", help="a model that the server trains; default: safetensors")
    group.addoption("--report", metavar="FILE", help="write the results in detail as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Read the documents: they say which tests there are."""
    if config.option.help or config.option.version:
        return
    if config.inipath != HERE / "pytest.ini":
        # pytest looks for it above all that might be a folder of tests: also above the value of an option.
        raise pytest.UsageError("give paths with an equals sign, --openapi=DIR; see docs/conformance.md")
    for name in ("aimle_url", "openapi"):
        if not config.getoption(name):
            raise pytest.UsageError(f"--{name.replace('_', '-')} is needed; see docs/conformance.md")
    if len(config.getoption("client_id")) != len(config.getoption("client_secret")):
        raise pytest.UsageError("each --client-id needs its --client-secret")
    if bool(config.getoption("client_id")) != bool(config.getoption("token_url")):
        raise pytest.UsageError("--token-url goes with --client-id and --client-secret")
    try:
        config.stash[DOCUMENTS] = Documents(Path(config.getoption("openapi")))
    except (OSError, ValueError) as error:
        raise pytest.UsageError(f"--openapi: {error}") from error
    config.stash[REPORT] = Report(config.stash[DOCUMENTS])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of operations is run for each of its API that it applies to, one of a `path` for each path."""
    operations = list(metafunc.config.stash[DOCUMENTS].operations.get(_api_of(metafunc), {}).values())
    for name, applies in APPLICABLE.items():
        if name in metafunc.fixturenames:
            those = [one for one in operations if applies(one)]
            metafunc.parametrize(name, those, ids=[one.name for one in those])
    if "path" in metafunc.fixturenames:
        first = {one.path: one for one in reversed(operations)}
        metafunc.parametrize("path", first.values(), ids=list(first))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that applies to no operation of its API is none."""
    names = {"path", *APPLICABLE}
    items[:] = [item for item in items if _operation_of(item) or not names & set(_fixtures_of(item))]


def _fixtures_of(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", []))


def _operation_of(item: pytest.Item) -> Operation | None:
    """The operation that a test is run for."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return next((value for value in parameters.values() if isinstance(value, Operation)), None)


def _api_of(place: Any) -> str:
    """The API that a test is about: its class's, else its file's."""
    return getattr(place.cls, "api", None) or str(place.module.API)


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    """Where everything asynchronous runs."""
    with Background() as running:
        yield running


@pytest.fixture(scope="session")
def everything(background: Background, pytestconfig: pytest.Config) -> Iterator[World]:
    """The consumers and the listener, for the whole run; what the consumers have made is deleted at its end."""
    option = pytestconfig.getoption
    documents, report = pytestconfig.stash[DOCUMENTS], pytestconfig.stash[REPORT]
    credentials = list(zip(option("client_id"), option("client_secret"), strict=True))
    tokens: list[Tokens | None] = [Tokens(background, option("token_url"), *one) for one in credentials]

    def consumers_of(url: str) -> list[Consumer]:
        supported: dict[str, bool] = {}
        return [Consumer(url, one, background, documents, report, supported) for one in tokens or [None]]

    consumers = consumers_of(option("aimle_url"))
    at_client = consumers_of(option("aimle_client_url"))[0] if option("aimle_client_url") else None
    second = consumers[1] if len(consumers) > 1 else None
    model = Path(option("model")).read_bytes() if option("model") else _safetensors()
    with Listener(background, option("callback_host"), option("callback_port")) as listener:
        for consumer in (*consumers, *([at_client] if at_client else [])):
            _reach(consumer)
        yield World(documents, report, background, listener, consumers[0], second, model, at_client)
        for consumer in consumers:
            consumer.clean_up()


@pytest.fixture
def world(everything: World, pytestconfig: pytest.Config) -> Iterator[World]:
    """The same for one test."""
    pytestconfig.stash[REPORT].exchanges.clear()
    yield everything
    everything.end_of_test()


def _reach(consumer: Consumer) -> None:
    """End the run where there is nothing to judge."""
    try:
        consumer.reach()
    except (aiohttp.ClientError, TimeoutError, NoToken) as error:
        pytest.exit(f"{consumer.root} cannot be used: {error}", pytest.ExitCode.USAGE_ERROR)


def _safetensors() -> bytes:
    """A model file with one tensor of four zeros."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + bytes(16)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Note which operation a test failed for, and show what was said to the server."""
    outcome = yield
    report = item.config.stash[REPORT]
    api = _api_of(item)
    report.apis.add(api)
    if outcome.failed:
        message = str(call.excinfo.value) if call.excinfo else ""
        report.failed(api, _operation_of(item), item.nodeid, message)
        last = "\n\n".join(str(exchange) for exchange in report.exchanges[-3:])
        outcome.sections.append(("the last exchanges", last))
    return outcome


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table, and the file if one is wanted."""
    report = config.stash[REPORT]
    terminalreporter.section("conformance by API")
    for line in report.table():
        terminalreporter.write_line(line)
    if unjudged := report.unjudged():
        terminalreporter.write_line(f"not applicable without --aimle-client-url: {', '.join(unjudged)}")
    terminalreporter.write_line(f"no tests here for: {', '.join(report.untested()) or 'none'}")
    if path := config.getoption("report"):
        report.write(Path(path), config.getoption("aimle_url"))
