"""Whom the server finds for a task, when and by which way (TS 23.482 8.6.2.1), and the record it keeps of that."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aimle_client.testing import RunningServer
from aimle_client.val import member_criteria
from ml_repository.database import Database
from ml_repository.task_transfers import (
    KEPT,
    TRANSITIONS,
    TaskTransfer,
    TaskTransfers,
    TransferState,
)
from tests.support import START as NOW
from tests.support import ManualClock
from tests.support_participant import Participant, participants
from tests.support_task_transfer import walking
from tests.support_training import SERVICE, serving, val_server

PREMIUM = {"clientCap": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "PREMIUM_RESOURCE_USAGE"}}
LIMITED = {"clientCap": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "LIMITED_RESOURCE_USAGE"}}


def hours(start: str, end: str) -> dict[str, Any]:
    """Of a profile: available daily from one time to another."""
    return {"availTimeSchedCfgs": [{"timeOfDayStart": start, "timeOfDayEnd": end}]}


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """A server at whose place it is midnight."""
    async with serving(mongo_url, database, clock=ManualClock()) as running:
        yield running


async def plainly(source: Participant, **changes: Any) -> Any:
    """The answer to a request as the standard has it, without anything of ours."""
    body = {
        "requestorId": {"valUeId": source.name},
        "aimlTaskType": "MODEL_TRAINING",
        "aimlInfoType": "INTERMEDIATE_AIML_OP_RESULTS",
        "valServiceId": SERVICE,
    } | changes
    url = f"{source.server}/aimles-task-transfer/v1/assist-tt"
    return (await source.call("POST", url, json={k: v for k, v in body.items() if v is not None}))[1]


def names(answer: Any) -> list[str]:
    """The targets of an answer; none if it is a refusal."""
    return sorted(target["valUeId"] for target in answer.get("targetAimlIds", []))


async def test_the_standard_alone(server: RunningServer) -> None:
    """Whoever serves the VAL service and does the operation is asked; nothing of ours is needed for the answer."""
    async with participants(server.url, "ue-1", "ue-2", "ue-3") as [source, able, other]:
        able.takes = other.takes = True
        await other.register(aimlOperations=["MODEL_INFERENCE"])
        answer = await plainly(source)
        assert (names(answer), answer["transferMode"]) == (["ue-2"], "SERVER_CONTROLLED")
        assert answer["assistanceTime"] == {
            "startTime": "2030-01-01T00:00:00.000Z",
            "stopTime": "2030-01-01T00:10:00.000Z",
        }
        assert names(await plainly(source, aimlTaskType="MODEL_INFERENCE")) == ["ue-3"]
        assert names(await plainly(source, valServiceId=None)) == ["ue-2"]
        assert (await plainly(source, valServiceId="another"))["cause"] == "NO_TARGET"
        assert [body["sourceAimlId"] for body in able.offered] == [{"valUeId": "ue-1"}] * 2


async def test_users_are_clients_too(server: RunningServer) -> None:
    """A client that goes by a VAL user's identity is named by it, whether it is the source or the target."""
    async with participants(server.url, "user-1", "user-2") as both:
        for each in both:
            await each.deregister()
            each.kind, each.takes = "valUserId", True
            await each.register()
        answer = await plainly(both[0], requestorId={"valUserId": "user-1"})
        assert answer["targetAimlIds"] == [{"valUserId": "user-2"}]
        assert both[1].offered[0]["sourceAimlId"] == {"valUserId": "user-1"}


@pytest.mark.parametrize(
    ("resource", "found"),
    [
        ("LIMITED_RESOURCE_USAGE", ["ue-2", "ue-3"]),
        ("STANDARD_RESOURCE_USAGE", ["ue-2"]),
        ("PREMIUM_RESOURCE_USAGE", ["ue-2"]),
        ("HIGH_COMPUTE_CAPABILITY", ["ue-3"]),
        ("4 GiB of memory", ["ue-2", "ue-3"]),
    ],
)
async def test_required_resources(server: RunningServer, resource: str, found: list[str]) -> None:
    """A usage level is a least one, a task capability has to be stated, other words are the clients' to judge."""
    async with participants(server.url, "ue-1", "ue-2", "ue-3") as [source, premium, limited]:
        premium.takes = limited.takes = True
        await premium.register(**PREMIUM)
        await limited.register(**LIMITED, taskCaps=["HIGH_COMPUTE_CAPABILITY"])
        assert names(await plainly(source, aimlRmngTrainReq={"reqRmngTrainResorce": resource})) == found


async def test_targets_have_a_window_in_common(server: RunningServer) -> None:
    """The answer's window suits all of its targets; whoever has no time within it is not one of them."""
    async with participants(server.url, "ue-1", "ue-2", "ue-3", "ue-4") as [source, late, early, never]:
        late.takes = early.takes = never.takes = True
        await late.register(**hours("00:05:00Z", "02:00:00Z"))
        await early.register(**hours("23:00:00Z", "00:08:00Z"))
        await never.register(**hours("23:00:00Z", "00:00:00Z"))
        answer = await plainly(source)
        assert names(answer) == ["ue-2", "ue-3"]
        assert answer["assistanceTime"] == {
            "startTime": "2030-01-01T00:05:00.000Z",
            "stopTime": "2030-01-01T00:08:00.000Z",
        }
        assert never.offered == []


async def test_there_are_three_targets_at_most(server: RunningServer) -> None:
    """More are not asked."""
    async with participants(server.url, "ue-1", *"abcde") as [source, *others]:
        for other in others:
            other.takes = True
        assert len(names(await plainly(source))) == 3
        assert sum(len(other.offered) for other in others) == 3


@pytest.mark.parametrize(
    ("able", "direct", "mode"),
    [(True, None, "DIRECT"), (True, False, "SERVER_CONTROLLED"), (False, True, "SERVER_CONTROLLED")],
)
async def test_the_mode(server: RunningServer, able: bool, direct: bool | None, mode: str) -> None:
    """DIRECT needs both sides; a target that may be reached comes before one that may not."""
    async with (
        val_server(server) as val,
        participants(server.url, "ue-1", "ue-2", "ue-3") as [source, far, near],
    ):
        far.takes = near.takes = True
        near.direct = able
        training = await walking(val, "ue-1")
        await source.asked()
        reference = {"trainingId": training.id} | ({} if direct is None else {"direct": direct})
        _, answer, _ = await source.ask_for_help(training.id, aimle=reference)
        assert answer["transferMode"] == mode
        assert names(answer) == ["ue-2", "ue-3"]
        if able:
            assert answer["targetAimlIds"][0] == {"valUeId": "ue-3"}
        where = [(target["clientId"], target["uri"]) for target in answer["aimle"]["targets"]]
        assert sorted(where) == [("ue-2", far.uri), ("ue-3", near.uri)]


async def test_targets_fulfil_what_the_training_asks(server: RunningServer) -> None:
    """The training's criteria, data set and service hold for whoever takes a task of it over, and nobody has two."""
    async with (
        val_server(server) as val,
        participants(server.url, "ue-1", "ue-2", "ue-3", "ue-4") as [*members, weak, elsewhere],
    ):
        for each in members:
            await each.register(**PREMIUM)
        weak.takes = elsewhere.takes = members[1].takes = True
        await elsewhere.register(**PREMIUM, dataSetAvail={"dataSetIds": ["flows"]})
        criteria = member_criteria(resources="PREMIUM_RESOURCE_USAGE")
        training = await walking(val, "ue-1", "ue-2", criteria=criteria)
        await members[0].asked()
        assert (await members[0].ask_for_help(training.id))[1]["cause"] == "NO_TARGET"
        assert (weak.offered, elsewhere.offered, members[1].offered) == ([], [], [])
        await weak.register(**PREMIUM)
        assert names((await members[0].ask_for_help(training.id))[1]) == ["ue-3"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"aimlRmngTrainReq": {"reqRmngTrainIterNum": -1}}, "/aimlRmngTrainReq/reqRmngTrainIterNum"),
        ({"aimlImdInfo": {"usedTrainIterNum": -1}}, "/aimlImdInfo/usedTrainIterNum"),
        (
            {"timeValidity": {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2020-01-02T00:00:00Z"}},
            "/timeValidity",
        ),
        (
            {
                "aimlRmngTrainReq": {"reqRmngTrainIterNum": 2**62},
                "aimlImdInfo": {
                    "usedTrainIterNum": 1,
                    "aimlUsedTrainTime": {
                        "startTime": "2020-01-01T00:00:00Z",
                        "stopTime": "2020-01-02T00:00:00Z",
                    },
                },
            },
            "/aimlRmngTrainReq/reqRmngTrainIterNum",
        ),
    ],
)
async def test_figures_that_cannot_be(server: RunningServer, changes: dict[str, Any], named: str) -> None:
    """A number below zero, a time that is over, a rest that takes longer than time itself: 400 names it."""
    async with participants(server.url, "ue-1") as [source]:
        answer = await plainly(source, **changes)
        assert (answer["status"], [each["param"] for each in answer["invalidParams"]]) == (400, [named])


def a_transfer() -> TaskTransfer:
    """A new one."""
    return TaskTransfer("x", "owner", "ue-1", "t", NOW)


async def test_a_transfer_goes_one_way(database: Database) -> None:
    """Each state is entered once, by one writer, and from a state that allows it; the history has them all."""
    store = TaskTransfers(database)
    requested = await store.add(a_transfer(), "asked")
    agreed = await store.advance(requested, TransferState.AGREED, NOW, "yes", targets=("ue-2",))
    assert agreed is not None
    assert await store.advance(requested, TransferState.FAILED, NOW) is None
    done = await store.advance(agreed, TransferState.HANDED_OVER, NOW, taken_by="ue-2")
    assert await store.advance(agreed, TransferState.EXPIRED, NOW) is None
    assert await store.find("x") == done
    assert done is not None
    assert [(entry["state"], entry["reason"]) for entry in done.history] == [
        ("REQUESTED", "asked"),
        ("AGREED", "yes"),
        ("HANDED_OVER", ""),
    ]
    with pytest.raises(ValueError, match="HANDED_OVER -> FAILED"):
        await store.advance(done, TransferState.FAILED, NOW)
    assert {state for state, later in TRANSITIONS.items() if not later} == {
        TransferState.HANDED_OVER,
        TransferState.FAILED,
        TransferState.EXPIRED,
    }


async def test_transfers_are_forgotten(database: Database) -> None:
    """After their time, and not before."""
    store = TaskTransfers(database)
    await store.add(a_transfer(), "asked")
    await store.remove_expired(NOW + KEPT - timedelta(seconds=1))
    assert await store.find("x") is not None
    await store.remove_expired(NOW + KEPT)
    assert await store.find("x") is None
