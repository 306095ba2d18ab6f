"""`/healthz`, `/readyz` and `/metrics` of a whole server, with a database that goes away."""

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from aimle_client.testing import running_server
from ml_repository.embedded import EmbeddedDatabase

KEY = "key-that-nobody-guesses"


class Pages:
    """A server's pages."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def get(self, path: str) -> tuple[int, str, dict[str, str]]:
        """Status, text and headers."""
        async with self._session.get(self.url + path) as response:
            return response.status, await response.text(), dict(response.headers)

    async def series(self) -> dict[str, float]:
        """What `/metrics` shows: name with labels -> value."""
        _, text, _ = await self.get("/metrics")
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@asynccontextmanager
async def _serving(url: str, clients: list[str]) -> AsyncIterator[Pages]:
    settings = {"database.url": url, "database.name": f"test_{uuid.uuid4().hex}"}
    async with running_server(settings, clients=clients) as server, aiohttp.ClientSession() as session:
        yield Pages(server.url, session)


@pytest.fixture
async def pages(mongo_url: str) -> AsyncIterator[Pages]:
    """A server that asks for tokens."""
    async with _serving(mongo_url, ["val-1"]) as serving:
        yield serving


async def test_alive_and_ready(tmp_path: Path) -> None:
    """Without a token; ready only while the database answers, alive in any case; operations say when to come again."""
    async with EmbeddedDatabase(tmp_path, sync=False) as database, _serving(database.url, []) as pages:
        assert (await pages.get("/healthz"))[:2] == (200, '{"status": "ok"}')
        assert (await pages.get("/readyz"))[:2] == (200, '{"status": "ready"}')
        await database.stop()
        for path in ("/readyz", "/mlr-mlmm/v1/storages"):
            status, text, headers = await pages.get(path)
            assert status == 503
            assert headers["Content-Type"].startswith("application/problem+json")
            assert int(headers["Retry-After"]) > 0
            assert "mongo" not in text.lower()
        assert (await pages.get("/healthz"))[0] == 200
        assert (await pages.get("/metrics"))[0] == 200


async def test_requests_are_counted_by_operation(pages: Pages) -> None:
    """A request's series has its operationId and status; what matches no route is one series, whatever its path."""
    before = await pages.series()
    await pages.get("/aimles-disc/v1/clients?filt-criteria=secret")
    await pages.get(f"/aimle-hfl/v1/participants/{KEY}/rounds/1/model")
    await pages.get(f"/aimle-hfl/v1/participants/{KEY}/x")
    await pages.get(f"/{KEY}")
    after = await pages.series()

    def more(operation: str, status: int) -> float:
        name = f'aimle_request_seconds_count{{operation="{operation}",status="{status}"}}'
        return after[name] - before.get(name, 0)

    assert more("GetAimleClients", 401) == 1
    assert more("GetRoundModel", 404) == 1
    assert more("none", 404) == 2


async def test_no_secrets_in_metrics(pages: Pages) -> None:
    """No label holds anything of a path or a query: those may be capabilities."""
    await pages.get(f"/aimle-hfl/v1/participants/{KEY}/rounds/1/model?token=secret")
    await pages.get(f"/aimle-at/v1/{KEY}/anything?token=secret")
    _, text, headers = await pages.get("/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    assert KEY not in text
    assert "secret" not in text
    assert set(re.findall(r'operation="([^"]*)"', text)) <= _operations()
    assert "/" not in "".join(re.findall(r'"([^"]*)"', text))


async def test_documented_metrics(pages: Pages) -> None:
    """The metrics that dashboards are built on are there, with their kinds and a word on each."""
    _, text, _ = await pages.get("/metrics")
    for name, kind in (
        ("aimle_request_seconds", "histogram"),
        ("aimle_training_transitions_total", "counter"),
        ("aimle_update_bytes_total", "counter"),
        ("aimle_channels", "gauge"),
    ):
        assert f"# TYPE {name} {kind}" in text
        assert re.search(rf"# HELP {name} \w+", text)


def _operations() -> set[str]:
    from aimle_server.apis import ALL_APIS

    names = {operation.operation_id for api in ALL_APIS for operation in api.operations}
    return names | {"none", "healthz", "readyz", "metrics", "through"}
