"""The other sides on aiohttp, as processes: `python -m benchmarks.bare work DATABASE_URL | clients | targets`.

work       handlers that do what ours do with the database and the network, and nothing else: no validation, no
           tokens, no problem details, no access log
clients    AIMLE clients that agree to everything, all in one process, each at a loopback address of its own
targets    notification targets, each at a loopback address of its own, which note when something came
"""

import asyncio
import json
import secrets
import signal
import sys
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import uvloop
from aiohttp import web
from motor.motor_asyncio import AsyncIOMotorClient

from ml_repository.database import Database
from ml_repository.registrations import COLLECTION, INDEXES, Registrations, place, tag, tags
from sbi.digests import CRC32C, REPR_DIGEST, Hashing

DATABASE = "bare"
"""Beside ours in the same database process, for what is written; what is only read is read from ours."""

READ_FROM = "aimle"


class Work:
    """Registration, discovery, selection and uploads."""

    def __init__(self, url: str) -> None:
        self._client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(url, tz_aware=True)
        self._own = self._client[DATABASE]
        self._registered = Registrations(Database(self._client, self._client[READ_FROM]))

    async def prepare(self, _: web.Application) -> None:
        """The same indexes as ours, and a session for calls."""
        await self._own[COLLECTION].create_indexes(list(INDEXES[COLLECTION]))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=512, limit_per_host=32), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self, _: web.Application) -> None:
        """Close what `prepare` opened."""
        await self._session.close()

    async def register(self, request: web.Request) -> web.Response:
        """One upsert."""
        body = await request.json()
        now = datetime.now(UTC)
        number = secrets.token_urlsafe(16)
        expires = now + timedelta(days=1)
        fields = {
            "regData": body,
            "expTime": expires.isoformat(),
            "_registration": number,
            "_owner": "bare",
            "_expires": expires,
            "_stated": now,
            "_tags": tags(body),
            "_place": place(body["aimleClientId"]["valUeId"]),
        }
        await self._own[COLLECTION].update_one(
            {"_id": body["aimleClientId"]["valUeId"], "_owner": "bare"},
            {"$set": fields, "$setOnInsert": {"_stats": {"asked": 0, "dropped": 0}}},
            upsert=True,
        )
        answer = {"regData": body, "expTime": fields["expTime"]}
        return web.json_response(answer, status=201, headers={"Location": f"/registrations/{number}"})

    async def discover(self, request: web.Request) -> web.Response:
        """The search that ours does, by the service."""
        wanted = json.loads(request.query["filt-criteria"])
        found = await self._find(wanted, int(request.query["cl-number"]))
        return web.json_response({"clients": [document["_id"] for document in found]})

    async def select(self, request: web.Request) -> web.Response:
        """The search that ours does, a call to each client, one insert."""
        body = await request.json()
        found = await self._find(body["selCriteria"], body["reqNum"])
        number = secrets.token_urlsafe(16)
        agreed = await asyncio.gather(*(self._ask(document, body, number) for document in found))
        clients = [document["_id"] for document, yes in zip(found, agreed, strict=True) if yes]
        await self._own["client_sets"].insert_one(
            {
                "_id": number,
                "_owner": "bare",
                "_created": datetime.now(UTC),
                "clients": clients,
                "request": body,
            }
        )
        return web.json_response({"clients": clients, "clientSet": number})

    async def _find(self, criteria: Any, number: int) -> list[Any]:
        service = tag("svc", criteria["serviceReq"]["valServId"])
        found: list[Any] = []
        async with aclosing(self._registered.candidates([service], datetime.now(UTC), number)) as documents:
            while len(found) < number and (document := await anext(documents, None)):
                found.append(document)
        return found

    async def _ask(self, document: Any, request: Any, client_set: str) -> bool:
        uri = document["regData"]["suppProfiles"][0]["clientProfile"]["aimleClientUri"]
        body = {
            "requesterId": "bare",
            "clientSetId": client_set,
            "clientSetPart": "JOIN",
            "mlModelId": "",
            "schedAimlOperations": [{"aimlOperation": "MODEL_TRAINING"}],
            "dataSetReq": {},
            "serviceReq": request["selCriteria"]["serviceReq"],
        }
        async with self._session.post(f"{uri}/aimlec-cp/v1/participation", json=body) as response:
            answer = await response.json()
            return bool(answer["clientStatus"])

    async def upload(self, request: web.Request) -> web.Response:
        """Read and discard."""
        async for _ in request.content.iter_any():
            pass
        return web.Response(status=204)

    async def digest(self, request: web.Request) -> web.Response:
        """Read and take the digest, which whoever checks an upload has to."""
        hashing = Hashing([CRC32C])
        async for data in request.content.iter_any():
            hashing.update(data)
        return web.Response(status=204, headers={REPR_DIGEST: str(hashing.digest(CRC32C))})

    def application(self) -> web.Application:
        """The handlers, at the paths that ours have."""
        app = web.Application(client_max_size=2**31)
        app.on_startup.append(self.prepare)
        app.on_cleanup.append(self.close)
        app.router.add_post("/aimles-client-reg/v1/registrations", self.register)
        app.router.add_get("/aimles-disc/v1/clients", self.discover)
        app.router.add_post("/aimles-sel/v1/select", self.select)
        app.router.add_put("/upload/{number}", self.upload)
        app.router.add_put("/digest/{number}", self.digest)
        return app


def clients() -> web.Application:
    """They agree at once."""

    async def agree(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"clientStatus": True})

    app = web.Application()
    app.router.add_post("/aimlec-cp/v1/participation", agree)
    return app


class Targets:
    """Count what comes, and say how long it took from the first to the last."""

    def __init__(self) -> None:
        self._came: set[str] = set()
        self._first = self._last = 0.0

    async def take(self, request: web.Request) -> web.Response:
        """A notification; each address counts once."""
        await request.read()
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self._came.add(request.host)
        return web.Response(status=204)

    async def came(self, _: web.Request) -> web.Response:
        """How many, and the seconds between the first and the last."""
        return web.json_response({"count": len(self._came), "seconds": self._last - self._first})

    async def forget(self, _: web.Request) -> web.Response:
        """Begin anew."""
        self.__init__()  # type: ignore[misc]
        return web.Response(status=204)

    def application(self) -> web.Application:
        """The target, and the way to ask it."""
        app = web.Application()
        app.router.add_post("/notify", self.take)
        app.router.add_get("/came", self.came)
        app.router.add_post("/forget", self.forget)
        return app


async def serve(app: web.Application, host: str) -> None:
    """Serve on any free port, print it, and end at SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, 0, backlog=4096).start()
    print(runner.addresses[0][1], flush=True)
    await stop.wait()
    await runner.cleanup()


async def main(kind: str, *args: str) -> None:
    """Be what `kind` says."""
    match kind:
        case "work":
            await serve(Work(*args).application(), "127.0.0.1")
        case "clients":
            await serve(clients(), "0.0.0.0")
        case "targets":
            await serve(Targets().application(), "0.0.0.0")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
