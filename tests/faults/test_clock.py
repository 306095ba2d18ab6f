"""The clock is set an hour ahead or back while a server works: what lasts seconds lasts seconds all the same.

The server is in the test's process with a clock that the test sets; sockets and database are real.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from aimle_client.testing import RunningServer
from aimle_client.val import Objective, TrainingProfile
from ml_repository.database import Database
from ml_repository.outbox import Message, Outbox
from tests import support_val
from tests.support import JumpingClock, Listener, eventually
from tests.support_participant import Participant, all_asked, participants, update
from tests.support_training import Pull, begin, events_of, serving, ue, val_server

pytestmark = pytest.mark.faults

HOUR = timedelta(hours=1)
JUMPS = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "back"])
ONES = np.ones(4, np.float32)
ROUND = 3
"""Seconds until a round's deadline."""
JOIN = 3.0
"""Seconds for which a training looks for clients."""


@pytest.fixture
def clock() -> JumpingClock:
    """The server's clock."""
    return JumpingClock()


@pytest.fixture
async def server(mongo_url: str, database: Database, clock: JumpingClock) -> AsyncIterator[RunningServer]:
    """A server that takes every request."""
    async with serving(mongo_url, database, {"hfl.join_timeout": JOIN}, clock=clock) as found:
        yield found


async def finish_together(found: list[Participant], first: int) -> None:
    """A round with the participants' updates, and the evaluation after it."""
    await all_asked(found, first)
    await asyncio.gather(*(participant.participate(update(ONES)) for participant in found))
    await all_asked(found, first + 1)
    await asyncio.gather(*(participant.notify() for participant in found))


@JUMPS
async def test_in_a_round(server: RunningServer, clock: JumpingClock, jump: timedelta) -> None:
    """A round goes on for as long as it should: who reports after the jump counts, and who does not is waited for."""
    async with val_server(server) as val, participants(server.url, "ue-1", "ue-2") as found:
        training = await begin(
            val,
            members=["ue-1", "ue-2"],
            objective=Objective(max_epochs=1),
            profile=TrainingProfile(min_reports=0.5, round_timeout=ROUND),
        )
        await all_asked(found)
        await found[0].participate(update(ONES))
        clock.ahead = jump
        await found[1].participate(update(3 * ONES))
        await all_asked(found, 2)
        began = time.monotonic()
        clock.ahead = timedelta()
        assert await found[0].notify() == 204
        end = (await events_of(training))[-1]
        assert ROUND - 0.5 < time.monotonic() - began < ROUND + 2, "the other one had its time, and no more"
        assert end.state == "COMPLETED"
        (record,) = (await training.status()).history
        assert record.participants == 2
        result = await val.download_model(str(end.output_model_id))
        np.testing.assert_array_equal(result["w"], 2 * ONES)


@JUMPS
async def test_while_it_looks_for_clients(
    server: RunningServer, clock: JumpingClock, jump: timedelta
) -> None:
    """A training that nobody joins is given up after the time for that, not at once and not an hour later."""
    no = Listener(default=web.json_response({"clientStatus": False}))
    async with val_server(server) as val, no, aiohttp.ClientSession() as session:
        await Participant(server.url, "ue-1", session, uri=no.url()).register()
        training = await begin(val, members=["ue-1"])
        await eventually(lambda: no.received)
        began = time.monotonic()
        clock.ahead = jump
        end = (await events_of(training))[-1]
        assert (end.state, (await training.status()).reason) == ("FAILED", "0 clients take part, 1 needed")
        assert JOIN - 0.5 < time.monotonic() - began < JOIN + 4


async def test_of_one_server_of_two(mongo_url: str, database: Database) -> None:
    """A server whose clock jumps ahead may take over a training; then it alone drives it, and no round counts twice."""
    clock = JumpingClock()
    quick = {"hfl.lease": 1.5}
    async with (
        serving(mongo_url, database, quick) as first,
        serving(mongo_url, database, quick, clock=clock),
        val_server(first) as val,
        participants(first.url, "ue-1", "ue-2") as found,
    ):
        training = await begin(
            val,
            members=["ue-1", "ue-2"],
            objective=Objective(max_epochs=1),
            profile=TrainingProfile(min_reports=1.0),
        )
        await all_asked(found)
        old = found[0].notif_uri
        clock.ahead = HOUR
        await all_asked(found, 2)
        assert found[0].notif_uri != old, "it is asked again, by the other server"
        for _ in range(
            2
        ):  # whoever still reports to the first server reports for nothing, or to the other one
            await found[0].notify(old)
        await finish_together(found, 2)
        events = await events_of(training)
        assert [event.state for event in events] == [None, "COMPLETED"]
        (record,) = (await training.status()).history
        assert (record.round, record.participants) == (1, 2)


async def test_before_a_server_starts_again(mongo_url: str, database: Database) -> None:
    """A server that was killed before the clock was set back leaves leases for an hour, and nobody waits for that."""
    quick = {"hfl.lease": 0.5}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(mongo_url, database, quick))
        async with participants(first.url, "ue-1") as found, val_server(first) as val:
            training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1))
            await all_asked(found)
            await stack.aclose()
            late = datetime.now(UTC) + HOUR
            await database["trainings"].update_one({}, {"$set": {"_lease_until": late}})
            async with serving(mongo_url, database, quick):
                await finish_together(found, 2)
                assert (await events_of(training))[-1].state == "COMPLETED"


@JUMPS
async def test_in_the_pause_of_a_notification(
    mongo_url: str, database: Database, clock: JumpingClock, jump: timedelta
) -> None:
    """A notification that waits for its next attempt does not wait for an hour: it is tried soon after the jump."""
    pause = {"outbox.backoff": 300.0, "outbox.backoff_max": 300.0}
    async with Listener(answers=[500]) as listener, serving(mongo_url, database, pause, clock=clock):
        outbox = Outbox(database, clock)
        await outbox.enqueue([Message("stream", 0, listener.url(), {"n": 0})])

        async def has_failed() -> bool:
            head = await outbox.head("stream")
            return head is not None and head.attempts == 1

        await eventually(has_failed)
        clock.ahead = jump
        await eventually(lambda: len(listener.received) == 2)


@JUMPS
async def test_of_a_registration(
    mongo_url: str, database: Database, clock: JumpingClock, jump: timedelta
) -> None:
    """A client is registered again as soon as it renews its registration, and not lost for longer."""
    life = {"registration.default_lifetime": 3.0, "registration.max_lifetime": 3.0}
    trainer = Pull(1.0)
    async with (
        serving(mongo_url, database, life, clock=clock) as server,
        val_server(server) as val,
        ue(server.url, "ue-1", trainer),
    ):
        clock.ahead = jump
        await asyncio.sleep(2.5)  # renewed after two seconds
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1))
        assert (await events_of(training))[-1].state == "COMPLETED"


@JUMPS
async def test_of_tokens(mongo_url: str, database: Database, clock: JumpingClock, jump: timedelta) -> None:
    """Tokens from before the jump are replaced on all sides without anybody's doing, also where they seem valid."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(support_val.serving(mongo_url, database, clock=clock))
        val = await stack.enter_async_context(support_val.val_server(server))
        trainer = support_val.Approaching()
        client = ue(
            server.url,
            "ue-1",
            trainer,
            credentials=server.credentials["ue-1"],
            insecure_no_auth=False,
            clock=clock,
        )
        await stack.enter_async_context(client)
        await val.store_model("digits", {"w": 0 * ONES}, services=[support_val.SERVICE])
        for ahead in (timedelta(), jump):
            clock.ahead = ahead
            training = await val.train(
                model_id="digits", dataset_ids=["digits"], members=["ue-1"], objective=Objective(max_epochs=1)
            )
            assert (await events_of(training))[-1].state == "COMPLETED"
