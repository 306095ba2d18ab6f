"""What the fuzz campaigns stand on: profiles, a system in a thread, a fence around this machine, one document."""

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, settings
from multidict import CIMultiDict
from schemathesis import Case, Response
from schemathesis.config import SchemathesisConfig

from aimle_client.apis import APIS as CLIENT_APIS
from aimle_server.apis import SERVED_APIS
from sbi.api import Api
from tests.contract.support_endpoints import ENDPOINTS, Endpoint
from tests.contract.support_queries import OWNER
from tests.contract.support_surface import Answer, World, assert_problem
from tests.support_models import safetensors

T = TypeVar("T")
Json = Any
Run = Callable[[Coroutine[Any, Any, Any]], Any]

SPECS = Path(__file__).parents[2] / "specs"
LOOPBACK_ONLY = {"targets.deny": ("0.0.0.0/0", "::/0"), "targets.allow": ("127.0.0.0/8", "::1/128")}

_ALL = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),  # the bodies of the standard are large and slow to make
)
_WITHOUT_SHRINKING = (Phase.explicit, Phase.generate)
settings.register_profile("ci", _ALL, derandomize=True, max_examples=1, phases=_WITHOUT_SHRINKING)
settings.register_profile("long", _ALL, print_blob=True, max_examples=80)
_PROFILE = settings.get_profile(os.environ.get("AIMLE_FUZZ", "ci"))


def examples(number: int) -> settings:
    """Settings for a test that makes `number` requests in every run of the tests, and many more with `make fuzz`."""
    return settings(_PROFILE, max_examples=number * _PROFILE.max_examples)


@contextlib.contextmanager
def in_thread(context: AbstractAsyncContextManager[T]) -> Iterator[tuple[T, Run]]:
    """Enter `context` in an event loop of its own: what it gives, and a function that runs coroutines there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    async def close(exit_: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        await exit_(None, None, None)
        await loop.shutdown_default_executor()

    try:
        entered = run(_call(context.__aenter__))
        try:
            yield entered, run
        finally:
            run(close(context.__aexit__))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _call(function: Callable[[], Any]) -> Any:
    return await function()


class _Fence:
    """Whether connections and look-ups may leave this machine; an audit hook stays as long as the process."""

    closed = False
    installed = False


@contextlib.contextmanager
def fenced() -> Iterator[None]:
    """While it lasts, nothing in this process connects to, or asks anybody about, another machine.

    A server that is fuzzed is told to call any address that the fuzzing comes upon. It must refuse by itself;
    the names and the AIMLE client, which calls whom its server names, are why this is here as well.
    """
    if not _Fence.installed:
        sys.addaudithook(_audit)
        _Fence.installed = True
    _Fence.closed = True
    try:
        yield
    finally:
        _Fence.closed = False


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _Fence.closed:
        return
    if event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple):
        if not _is_local(args[1][0]):
            raise OSError("the fence: not a loopback address")
    elif event == "socket.getaddrinfo" and not _is_local(args[0]):
        raise socket.gaierror(socket.EAI_NONAME, "the fence: names are not looked up")


def _is_local(host: str | bytes | None) -> bool:
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    if text in (None, "", "localhost"):
        return True
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False


def document(apis: Iterable[Api]) -> Json:
    """One OpenAPI document of the generated ones; each schema's name says which API it is of."""
    paths: Json = {}
    schemas: Json = {}
    components: Json = {}
    for api in apis:
        text = (SPECS / f"{api.document}.yaml").read_text(encoding="utf-8")
        one = yaml.safe_load(text.replace("#/components/schemas/", f"#/components/schemas/{api.name}."))
        paths |= {api.base_path + path: item for path, item in one["paths"].items()}
        schemas |= {f"{api.name}.{name}": schema for name, schema in one["components"]["schemas"].items()}
        components |= one["components"]
    info = {"title": "AIMLE", "version": "1"}
    return {
        "openapi": "3.0.0",
        "info": info,
        "paths": paths,
        "components": {**components, "schemas": schemas},
    }


_DOCUMENT = schemathesis.openapi.from_dict(
    document((*SERVED_APIS, *CLIENT_APIS)), config=SchemathesisConfig()
)
_BY_PATH = {
    (found.ok().method.upper(), found.ok().path): found.ok() for found in _DOCUMENT.get_all_operations()
}
OPERATIONS = {endpoint.name: _BY_PATH[endpoint.operation.method, endpoint.path] for endpoint in ENDPOINTS}
"""What schemathesis makes of the documents, by the operation's name."""

_OPTIONS: dict[str, Any] = {"allow_redirects": False, "timeout": 30}


@dataclass(frozen=True)
class System:
    """A world in another thread, and requests to it from this one.

    Attributes:
        run: runs a coroutine where the world is.
    """

    world: World
    run: Run
    session: requests.Session

    def send(self, endpoint: Endpoint, case: Case, subject: str | None = OWNER) -> Response:
        """A request that schemathesis made; with the subject's token, or without any."""
        of_client = endpoint.api in CLIENT_APIS
        return case.call(
            base_url=self.world.client.status.uri if of_client else self.world.server.url,
            session=self.session,
            headers=self._token(endpoint, subject),
            **_OPTIONS,
        )

    def ask(
        self,
        endpoint: Endpoint,
        body: Json = None,
        *,
        ids: Mapping[str, str] | None = None,
        subject: str | None = OWNER,
        query: Mapping[str, str] | None = None,
    ) -> Response:
        """The operation's request with this body; with the subject's token, or without any."""
        data: str | bytes | None = None
        headers = self._token(endpoint, subject)
        if endpoint.operation.body is not None:
            headers["Content-Type"] = endpoint.operation.content_type
            data = json.dumps(body)
        elif endpoint.operation.streams and endpoint.operation.method == "PUT":
            data = safetensors(10)
        url = self.world.url(endpoint, ids)
        answer = self.session.request(
            endpoint.operation.method, url, data=data, headers=headers, params=query, **_OPTIONS
        )
        return Response.from_any(answer)

    def is_ready(self) -> bool:
        """Whether the server says that it is well."""
        return self.session.get(f"{self.world.server.url}/readyz", **_OPTIONS).status_code == 200

    def _token(self, endpoint: Endpoint, subject: str | None) -> dict[str, str]:
        if subject is None:
            return {}
        return {"Authorization": f"Bearer {self.world.token([endpoint.api.scope], subject)}"}


def judge(endpoint: Endpoint, response: Response) -> None:
    """What every answer is: no failure of ours, a refusal that says why, and as the document says."""
    headers = CIMultiDict((name, value) for name, values in response.headers.items() for value in values)
    answer = Answer(response.status_code, headers, response.text)
    assert answer.status < 500 or answer.status in (501, 503), answer
    assert answer.status != 501 or endpoint.name == "RequestTrain", (
        "only vertical learning is not implemented"
    )
    assert answer.status != 503 or "Retry-After" in headers, answer
    if answer.status >= 400:
        assert_problem(answer, answer.status, has_body=endpoint.operation.method != "HEAD")
    else:
        assert answer.status in endpoint.operation.answers, answer
    OPERATIONS[endpoint.name].validate_response(response)
