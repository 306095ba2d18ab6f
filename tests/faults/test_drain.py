"""SIGTERM drains: what was accepted is answered, what is cut goes on at the successor, trainings change hands at once.

The servers are processes of their own, as `aimle-server run` starts them: with one worker, and with two. A
successor has the same database, and the same data directory where it is on the same machine.
"""

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from aimle_client.errors import ServerUnavailable
from aimle_client.http import RetryPolicy
from aimle_client.testing import RunningServer
from aimle_client.val import Objective, Training, TrainingProfile, ValServer
from ml_repository.database import Database
from sbi.transfer import Patience, download, upload
from tests.support import eventually
from tests.support_models import safetensors
from tests.support_participant import Participant, participants, update
from tests.support_process import Server
from tests.support_proxy import Fault, proxy_to
from tests.support_training import SERVICE, Pull, begin, hears_nothing_more, ues

pytestmark = pytest.mark.faults

LONGER_THAN_A_TEST = "600"
QUICK = Patience(attempts=30, first=0.1, longest=0.5, stall=2.0)
MEGABYTE = 1 << 20
MODEL = safetensors(MEGABYTE)
"""A file of four megabytes."""
LARGE = safetensors(5 * MEGABYTE)
"""More than the buffers between two processes hold."""
UPDATE = update(np.ones(4, np.float32), {"aimle.num_samples": "7"})
workers = pytest.mark.parametrize("workers", ["1", "2"])


@contextlib.asynccontextmanager
async def running(folder: Path, url: str, database: Database, **environ: str) -> AsyncIterator[Server]:
    """A server that answers, dead when the block ends; its leases last longer than a test."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    defaults = {"AIMLE_HFL_LEASE": LONGER_THAN_A_TEST}
    server = Server.on(folder, url, database, **(defaults | environ))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@dataclass
class HeldBody:
    """A request's body that stops halfway until it is let go on."""

    content: bytes
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def half(self) -> int:
        """Where it stops."""
        return len(self.content) // 2

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The two halves."""
        yield self.content[: self.half]
        await self.go_on.wait()
        yield self.content[self.half :]


def refuses(server: Server) -> bool:
    """Whether nobody new gets in."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) != 0


class Hesitant(Participant):
    """It thinks about an invitation until it is let go on."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.invited, self.go_on = asyncio.Event(), asyncio.Event()

    async def _participation(self, request: web.Request) -> web.Response:
        self.invited.set()
        await self.go_on.wait()
        return await super()._participation(request)


P = TypeVar("P", bound=Participant)


@contextlib.asynccontextmanager
async def by_hand(kind: type[P], server: str, name: str = "ue-1") -> AsyncIterator[P]:
    """A registered client of this kind."""
    async with aiohttp.ClientSession() as session:
        client = kind(server, name, session)
        await client.listen()
        await client.register()
        yield client
        await client.vanish()


async def select(client: Participant) -> tuple[int, Any]:
    """Ask the server to select this client."""
    body = {"clients": [client.name], "valSvcId": SERVICE}
    status, answer, _ = await client.call("POST", f"{client.server}/aimles-sel/v1/select", json=body)
    return status, answer


@workers
async def test_what_was_accepted_is_answered(
    tmp_path: Path, mongo_url: str, database: Database, workers: str
) -> None:
    """A selection that waits for a client gets its answer, while nobody new gets in; the exit status is 0."""
    async with (
        running(tmp_path, mongo_url, database, AIMLE_SERVER_WORKERS=workers) as server,
        by_hand(Hesitant, server.url, "ue-slow") as client,
    ):
        answer = asyncio.create_task(select(client))
        await client.invited.wait()
        server.terminate()
        await eventually(lambda: refuses(server))
        assert not answer.done()
        client.go_on.set()
        status, selected = await answer
        assert (status, selected["clients"]) == (200, ["ue-slow"])
        assert await server.stop() == 0


async def test_what_takes_too_long_is_cut(tmp_path: Path, mongo_url: str, database: Database) -> None:
    """A server does not wait for ever for its last answer, and ends in good order without it."""
    short = {"AIMLE_SERVER_SHUTDOWN_TIMEOUT": "0.3"}
    async with (
        running(tmp_path, mongo_url, database, **short) as server,
        by_hand(Hesitant, server.url, "ue-slow") as client,
    ):
        answer = asyncio.create_task(select(client))
        await client.invited.wait()
        assert await server.stop() == 0
        with pytest.raises(aiohttp.ClientError):
            await answer


async def test_who_waits_for_a_retraining_is_told_when_to_come_back(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """ML model update is answered at once with 503 and Retry-After, and the successor has the better model."""
    trainers = {"ue-1": Pull(1.0)}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running(tmp_path / "1", mongo_url, database))
        quick = {"AIMLE_HFL_LEASE": "0.5"}
        second = await stack.enter_async_context(running(tmp_path / "2", mongo_url, database, **quick))
        await stack.enter_async_context(ues(RunningServer(second.url), trainers))
        val = await stack.enter_async_context(ValServer(first.url, retry=RetryPolicy(attempts=1)))
        profile = TrainingProfile(learning_rate=0.3)
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1), profile=profile)
        made = (await training.wait(0.05)).output_model_id
        assert made is not None
        trainers["ue-1"].gate.clear()
        waiting = asyncio.create_task(val.update_model(made, accuracy=40, precision=40, recall=40))
        await eventually(lambda: len(trainers["ue-1"].configs) == 2)
        first.terminate()
        with pytest.raises(ServerUnavailable) as caught:
            await asyncio.wait_for(waiting, 5)
        assert caught.value.retry_after == 30
        assert await first.stop() == 0
        trainers["ue-1"].gate.set()
        other = await stack.enter_async_context(ValServer(second.url))
        better = await other.update_model(made, accuracy=40, precision=40, recall=40)
        assert better.model_id not in (made, "digits")
        assert len(await other.trainings()) == 2


async def place_for_a_model(server: Server) -> str:
    """The address of a model of one's own whose bytes are still missing."""
    body = {"mlModels": [{"mlModelInfo": {"mlModelId": "m", "phaseInfo": {"phase": "TRAINED"}}}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/mlr-mlmm/v1/storages", json=body) as answer,
    ):
        assert answer.status == 201, await answer.text()
    return "/aimle-artifacts/v1/models/m"


async def fetched(server: Server, path: str) -> bytes:
    """The model's file as it is at the server."""
    async with aiohttp.ClientSession() as session, session.get(server.url + path) as answer:
        return await answer.read()


async def test_an_upload_in_flight_finishes(tmp_path: Path, mongo_url: str, database: Database) -> None:
    """The rest of a file still comes in after SIGTERM, is stored, and that is answered."""
    body = HeldBody(MODEL)
    async with running(tmp_path, mongo_url, database) as server, aiohttp.ClientSession() as session:
        path = await place_for_a_model(server)
        answer = asyncio.create_task(session.put(server.url + path, data=body))
        await eventually(lambda: spooled(tmp_path / "data") > 0)
        server.terminate()
        await eventually(lambda: refuses(server))
        body.go_on.set()
        assert (await answer).status == 204
        assert await server.stop() == 0
        await server.start()
        assert await fetched(server, path) == MODEL


def spooled(data: Path) -> int:
    """Bytes of unfinished uploads."""
    return sum(part.stat().st_size for part in data.glob("spool/*/*.part"))


async def test_an_upload_that_is_cut_is_taken_up_again(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """What had come before a restart is not sent again, and the file is whole."""
    file = tmp_path / "file"
    file.write_bytes(MODEL)
    async with (
        running(tmp_path, mongo_url, database, AIMLE_SERVER_SHUTDOWN_TIMEOUT="0.3") as server,
        proxy_to(server.port) as proxy,
        aiohttp.ClientSession() as session,
    ):
        path = await place_for_a_model(server)
        proxy.up = [Fault(hold=len(MODEL) // 2)]
        sending = asyncio.create_task(upload(session, proxy.url + path, file, patience=QUICK))
        await eventually(lambda: spooled(tmp_path / "data") >= MEGABYTE)
        assert await server.stop() == 0
        here = spooled(tmp_path / "data")
        await server.start()
        assert (await sending).status == 204
        assert await fetched(server, path) == MODEL
    assert proxy.sent_up[-1] < len(MODEL) - here + MEGABYTE


async def test_an_upload_goes_on_at_another_machine(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """A successor that has nothing of a file but its place takes it from the beginning, whole."""
    file = tmp_path / "file"
    file.write_bytes(MODEL)
    async with (
        running(tmp_path / "1", mongo_url, database, AIMLE_SERVER_SHUTDOWN_TIMEOUT="0.3") as first,
        running(tmp_path / "2", mongo_url, database) as second,
        proxy_to(first.port) as proxy,
        aiohttp.ClientSession() as session,
    ):
        path = await place_for_a_model(first)
        proxy.up = [Fault(hold=len(MODEL) // 2)]
        sending = asyncio.create_task(upload(session, proxy.url + path, file, patience=QUICK))
        await eventually(lambda: spooled(tmp_path / "1" / "data") >= MEGABYTE)
        proxy.port = second.port
        assert await first.stop() == 0
        assert (await sending).status == 204
        assert await fetched(second, path) == MODEL


async def test_a_download_that_is_cut_is_taken_up_again(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """What had come before is not sent again by a successor with nothing on its disk, and the file is whole."""
    file = tmp_path / "file"
    async with (
        running(tmp_path, mongo_url, database, AIMLE_SERVER_SHUTDOWN_TIMEOUT="0.3") as server,
        proxy_to(server.port) as proxy,
        aiohttp.ClientSession() as session,
    ):
        path = await place_for_a_model(server)
        async with session.put(server.url + path, data=io.BytesIO(LARGE)) as answer:
            assert answer.status == 204
        proxy.down = [Fault(hold=len(LARGE) // 3)]
        coming = asyncio.create_task(download(session, proxy.url + path, file, patience=QUICK))
        await eventually(lambda: proxy.sent_down and proxy.sent_down[0] > len(LARGE) // 4)
        assert await server.stop() == 0
        await server.start(data="empty")
        await coming
    assert file.read_bytes() == LARGE
    assert sum(proxy.sent_down) < len(LARGE) + 2 * MEGABYTE


async def leases(database: Database) -> list[datetime]:
    """Until when trainings that have not ended are somebody's."""
    found = await database["trainings"].find({"_open": True}).to_list(None)
    return [each["_lease_until"].replace(tzinfo=UTC) for each in found]


@workers
async def test_trainings_change_hands_at_once(
    tmp_path: Path, mongo_url: str, database: Database, workers: str
) -> None:
    """A training is free for others while its server still answers its last request, and goes on where it was."""
    trainers = {"ue-1": Pull(0.9, 5), "ue-2": Pull(1.1, 40)}
    async with (
        running(tmp_path, mongo_url, database, AIMLE_SERVER_WORKERS=workers) as server,
        by_hand(Hesitant, server.url, "ue-slow") as client,
        ues(RunningServer(server.url), trainers) as clients,
        ValServer(server.url) as val,
    ):
        trainers["ue-1"].gate.clear()
        training = await begin(val, members=list(trainers), objective=Objective(max_epochs=2))
        await eventually(lambda: trainers["ue-1"].fitting.is_set())
        answer = asyncio.create_task(select(client))
        await client.invited.wait()
        server.terminate()

        async def released() -> bool:
            return all(until <= datetime.now(UTC) for until in await leases(database))

        await eventually(released)
        assert not answer.done()
        client.go_on.set()
        assert (await answer)[0] == 200
        assert await server.stop() == 0
        trainers["ue-1"].gate.set()
        await server.start()
        status = await asyncio.wait_for(training.wait(0.05), 30)
        assert (status.state, status.round) == ("COMPLETED", 2)
        await eventually(lambda: hears_nothing_more(clients))


async def granted_is_written(database: Database) -> bool:
    """Whether the database knows where every client of the training has its subscription."""
    training = await database["trainings"].find_one({})
    assert training is not None
    return all(participant["subscription"] for participant in training["participants"])


async def report(client: Participant, *addresses: str) -> None:
    """Send the running round's update, and say so at each of these addresses."""
    assert (await client.put(UPDATE))[0] == 204
    for address in addresses:
        assert await client.notify(address) == 204


async def ended_after_one_round(training: Training, client: Participant) -> None:
    """The last model is evaluated; the update counted once."""
    await eventually(lambda: "/rounds/2/" in client.notif_uri)
    assert await client.notify() == 204
    status = await asyncio.wait_for(training.wait(0.05), 20)
    assert status.state == "COMPLETED"
    assert [(record.participants, record.samples) for record in status.history] == [(1, 7)]
    await eventually(lambda: client.operations[-1]["servOpMode"] == "STOP")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_a_plain_client_keeps_its_subscription(
    tmp_path: Path, mongo_url: str, database: Database, how: str
) -> None:
    """Whoever goes on asks in the subscription that is there, and withdraws it in the end."""
    async with (
        running(tmp_path, mongo_url, database, AIMLE_HFL_LEASE="0.5") as server,
        participants(server.url, "ue-1") as (client,),
        ValServer(server.url) as val,
    ):
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1))
        await client.asked()
        before = client.notif_uri
        if how == "SIGTERM":
            assert await server.stop() == 0
        else:
            await eventually(lambda: granted_is_written(database))
            await server.kill()
        await server.start()
        await client.asked(2)
        assert client.notif_uri != before
        await report(client, before, client.notif_uri)
        await ended_after_one_round(training, client)
        await eventually(lambda: not client.subscriptions)
        assert len(client.granted) == 1


class Unheard(Participant):
    """It grants its first subscription, and its answer arrives nowhere."""

    async def _subscribe(self, request: web.Request) -> web.Response:
        response = await super()._subscribe(request)
        if len(self.granted) == 1:
            await asyncio.Event().wait()
        return response


async def test_a_plain_client_with_two_subscriptions_counts_once(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """One that no server ever heard of is served by the client beside the other: no harm, and STOP ends both."""
    async with (
        running(tmp_path, mongo_url, database, AIMLE_HFL_LEASE="0.5") as server,
        by_hand(Unheard, server.url) as client,
        ValServer(server.url) as val,
    ):
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1))
        await client.asked()
        before = client.notif_uri
        await server.kill()
        await server.start()
        await client.asked(2)
        assert client.notif_uri != before
        await report(client, before, client.notif_uri)
        await ended_after_one_round(training, client)
        await eventually(lambda: list(client.subscriptions) == client.granted[:1])


@contextlib.asynccontextmanager
async def sending_an_update(
    server: Server, client: Participant, body: HeldBody
) -> AsyncIterator[asyncio.Task[int]]:
    """The status of a PUT whose first half has arrived."""

    async def put() -> int:
        length = {"Content-Length": str(len(body.content))}
        async with client.session.put(client.update_url, data=body, headers=length) as answer:
            return answer.status

    task = asyncio.create_task(put())
    await eventually(lambda: len(list((server.folder / "data").glob("spool/updates/*.part"))) == 1)
    yield task
    task.cancel()


async def test_an_update_that_comes_in_too_late(tmp_path: Path, mongo_url: str, database: Database) -> None:
    """It is not taken for a training that was handed over meanwhile, and its sender is told to come again."""
    async with (
        running(tmp_path, mongo_url, database) as server,
        participants(server.url, "ue-1") as (client,),
        ValServer(server.url) as val,
    ):
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1))
        await client.asked()
        body = HeldBody(UPDATE)
        async with sending_an_update(server, client, body) as status:
            server.terminate()
            await eventually(lambda: refuses(server))
            body.go_on.set()
            assert await status == 503
        assert await server.stop() == 0
        await server.start()
        await client.asked(2)
        await report(client, client.notif_uri)
        await ended_after_one_round(training, client)


async def test_an_update_that_is_cut_is_taken_up_again(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """The round is asked again, and of an update only that part is sent which had not arrived."""
    async with (
        running(tmp_path, mongo_url, database, AIMLE_SERVER_SHUTDOWN_TIMEOUT="0.3") as server,
        participants(server.url, "ue-1") as (client,),
        ValServer(server.url) as val,
    ):
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1))
        await client.asked()
        body = HeldBody(UPDATE)
        async with sending_an_update(server, client, body) as status:
            assert await server.stop() == 0
            with pytest.raises(aiohttp.ClientError):
                await status
        await server.start()
        await client.asked(2)
        here = (await client.call("HEAD", client.update_url))[2]["Upload-Offset"]
        assert here == str(body.half)
        rest = {"Content-Range": f"bytes {here}-{len(UPDATE) - 1}/{len(UPDATE)}"}
        assert (await client.put(UPDATE[body.half :], **rest))[0] == 204
        assert await client.notify() == 204
        await ended_after_one_round(training, client)
