"""A running site, a network in front of it, a client and files to move."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sbi.problems import problem_middleware
from sbi.spool import Pace, Spool
from tests.support_proxy import Proxy, proxy_to
from tests.support_site import LARGE, MAX, SIZE, Site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A running server with an empty spool."""
    site = Site(Spool(tmp_path / "spool", MAX, Pace(1_000, 0.3)), tmp_path / "stored")
    app = web.Application(middlewares=[problem_middleware])
    app.router.add_put("/model", site.put)
    app.router.add_get("/model", site.get)
    app.router.add_get("/lost", site.get_lost)
    runner = web.AppRunner(app, shutdown_timeout=0)  # aiohttp's test server cancels handlers, servers do not
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


@pytest.fixture
async def proxy(site: Site) -> AsyncIterator[Proxy]:
    """A network in front of the server."""
    async with proxy_to(site.port) as proxy:
        yield proxy


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file to move."""
    path = tmp_path / "model"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that is much more than what can be under way."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE))
    return path
