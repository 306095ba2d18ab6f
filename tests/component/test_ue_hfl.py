"""An AIMLE client's part in HFL, round by round, on real sockets (TS 23.482 8.12, 8.20)."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimle_client.runtime.report import Outcome, RoundReport
from aimle_client.ue import AimleClient
from sbi.api import MERGE_PATCH
from schemas.hfl_training import HflTrngNotify, HflTrngSub
from tests.support import ManualClock, eventually
from tests.support_ue import PROFILE, Adder, MiniServer

SUBSCRIPTIONS = "/aimlec-hfl-trng/v1/subscriptions"
PERFORM = "/aimlec-serv-ops/v1/perform"


@pytest.fixture
def clock() -> ManualClock:
    """The time of both sides."""
    return ManualClock()


@pytest.fixture
async def server(clock: ManualClock, tmp_path: Path) -> AsyncIterator[MiniServer]:
    """The AIMLE server."""
    async with MiniServer(tmp_path, clock) as running:
        yield running


@pytest.fixture
def trainer() -> Adder:
    """What the client trains with."""
    return Adder()


@pytest.fixture
async def client(server: MiniServer, trainer: Adder) -> AsyncIterator[AimleClient]:
    """A registered client."""
    async with server.client(trainer) as running:
        yield running
        trainer.gate.set()


@pytest.fixture
def reports(client: AimleClient) -> list[RoundReport]:
    """What the application hears of rounds."""
    heard: list[RoundReport] = []
    client.on_round(heard.append)
    return heard


async def subscribe(server: MiniServer, client: AimleClient, number: int = 1, **changes: Any) -> str:
    """Subscribe to a round; returns the path of the subscription."""
    status, answer, headers = await server.call(
        client, "POST", SUBSCRIPTIONS, server.subscription(number, **changes)
    )
    assert status == 201, answer
    return headers["Location"].removeprefix(client.status.uri)


def next_round(server: MiniServer, number: int, **changes: Any) -> dict[str, Any]:
    """The merge patch that points a subscription at another round."""
    body = server.subscription(number)
    return {"notifUri": body["notifUri"], "aimlMdlInfo": body["aimlMdlInfo"]} | changes


async def test_a_round_from_model_to_notification(
    server: MiniServer, client: AimleClient, trainer: Adder, reports: list[RoundReport]
) -> None:
    """The update is the trained model with its weight and metrics; then the notification tells the same."""
    await subscribe(server, client)
    (body,) = await eventually(lambda: server.notified(1))
    values, metadata = server.update(1)
    assert values == [2.0, 3.0]
    assert metadata["aimle.training"] == "t-1"
    assert metadata["aimle.round"] == "1"
    assert (metadata["aimle.num_samples"], metadata["aimle.num_eval_samples"]) == ("7", "3")
    measured = json.loads(metadata["aimle.metrics"])
    assert measured == {"accuracy": 0.987, "loss": 0.25, "latency": measured["latency"]}
    assert 0 < measured["latency"] < 1
    assert json.loads(metadata["aimle.fit_metrics"]) == {"loss": 0.125}
    assert trainer.configs == [{**PROFILE, "round": 1, "noDataSamp": 100}]
    assert not HflTrngNotify().validate(body)
    assert body == {
        "vaSrvId": "val-vision",
        "hflTrngOut": {"modelAccuracy": 99},
        "timestamp": "2030-01-01T00:00:00.000Z",
        "aimle": {
            "round": 1,
            "numSamples": 7,
            "numEvalSamples": 3,
            "metrics": measured,
            "load": body["aimle"]["load"],
        },
    }
    assert 0 <= body["aimle"]["load"] <= 100
    await eventually(lambda: reports)
    assert (reports[0].outcome, reports[0].round, reports[0].num_samples) == (Outcome.TRAINED, 1, 7)
    assert not client.status.busy


async def test_all_metrics_of_the_standard_are_told(server: MiniServer, trainer: Adder) -> None:
    """Each name of ours that PerfParams has an attribute for fills it."""
    trainer.metrics = {"precision": 0.5, "recall": 0.25, "f1": 0.75, "mse": 2.5, "mae": 1.5, "accuracy": 1.0}
    async with server.client(trainer) as client:
        await subscribe(server, client)
        (body,) = await eventually(lambda: server.notified(1))
    assert body["hflTrngOut"] == {
        "modelAccuracy": 100,
        "modelPrecision": 0.5,
        "modelRecall": 0.25,
        "modelF1score": 0.75,
        "errorMeanSquare": 2.5,
        "errorMeanAbs": 1.5,
    }


async def test_a_subscription_can_be_read_back(server: MiniServer, client: AimleClient) -> None:
    """201 has Location and the document with its identifier, and GET shows the same to its owner only."""
    status, made, headers = await server.call(client, "POST", SUBSCRIPTIONS, server.subscription())
    assert status == 201
    assert not HflTrngSub().validate(made)
    assert headers["Location"] == f"{client.status.uri}{SUBSCRIPTIONS}/{made['subId']}"
    path = f"{SUBSCRIPTIONS}/{made['subId']}"
    assert (await server.call(client, "GET", path))[:2] == (200, made)
    for method, body in (("GET", None), ("PUT", server.subscription()), ("DELETE", None)):
        assert (await server.call(client, method, path, body, subject="another"))[0] == 404


async def test_another_model_address_is_the_next_round(
    server: MiniServer, client: AimleClient, trainer: Adder
) -> None:
    """PATCH and PUT begin a round where they change the address, and only there."""
    path = await subscribe(server, client)
    await eventually(lambda: server.notified(1))
    status, changed, _ = await server.call(
        client, "PATCH", path, next_round(server, 2), content_type=MERGE_PATCH
    )
    assert status == 200
    assert changed["notifUri"].endswith("/rounds/2/notifications")
    await eventually(lambda: server.notified(2))
    assert server.update(2)[0] == [3.0, 5.0]
    await eventually(lambda: not client.status.busy)
    for method, body, kind in (
        ("PUT", server.subscription(2, noDataSamp=50), "application/json"),
        ("PATCH", {"noDataSamp": 60}, MERGE_PATCH),
    ):
        assert (await server.call(client, method, path, body, content_type=kind))[0] == 200
        assert not client.status.busy
    await server.call(client, "PUT", path, server.subscription(3))
    await eventually(lambda: server.notified(3))
    assert [config["round"] for config in trainer.configs] == [1, 2, 3]
    assert trainer.configs[2]["noDataSamp"] == 100


async def test_a_round_of_evaluation_only(
    server: MiniServer, client: AimleClient, trainer: Adder, reports: list[RoundReport]
) -> None:
    """`noDataSamp` 0: metrics of the received model, no training, no update."""
    await subscribe(server, client, noDataSamp=0)
    (body,) = await eventually(lambda: server.notified(1))
    assert body["aimle"]["metrics"].keys() == {"accuracy", "loss", "latency"}
    assert (body["aimle"]["numSamples"], body["aimle"]["numEvalSamples"]) == (0, 3)
    assert not trainer.configs
    assert not server.updates
    await eventually(lambda: [report.outcome for report in reports] == [Outcome.EVALUATED])


async def test_a_trainer_that_fails_is_reported(
    server: MiniServer, client: AimleClient, trainer: Adder, reports: list[RoundReport]
) -> None:
    """The server hears of an error and gets no update, the application hears which, and the next round works."""
    trainer.error = FloatingPointError("diverged")
    path = await subscribe(server, client)
    (body,) = await eventually(lambda: server.notified(1))
    assert body["hflTrngErr"] == "PERFORMANCE_ERRORS"
    assert body["hflTrngOut"] == {}
    assert body["aimle"]["round"] == 1
    assert not server.updates
    await eventually(lambda: reports)
    assert (reports[0].outcome, reports[0].reason) == (Outcome.FAILED, "FloatingPointError: diverged")
    trainer.error = None
    await server.call(client, "PATCH", path, next_round(server, 2), content_type=MERGE_PATCH)
    (body,) = await eventually(lambda: server.notified(2))
    assert "hflTrngErr" not in body


async def test_a_model_that_cannot_be_had_is_reported(server: MiniServer, client: AimleClient) -> None:
    """Neither a missing nor a damaged model leaves the server waiting."""
    missing = {"mlModelLoc": {"uri": f"{server.url}/own/rounds/9/model"}}
    await subscribe(server, client, aimlMdlInfo=missing)
    (body,) = await eventually(lambda: server.notified(1))
    assert body["hflTrngErr"] == "PERFORMANCE_ERRORS"
    assert "round" not in body["aimle"]
    damaged = server.subscription(2)
    (server.folder / "model-2").write_bytes(b"not a model")
    await server.call(client, "POST", SUBSCRIPTIONS, damaged)
    (body,) = await eventually(lambda: server.notified(2))
    assert body["hflTrngErr"] == "PERFORMANCE_ERRORS"


async def test_without_a_link_the_update_goes_where_the_operation_said(
    server: MiniServer, client: AimleClient
) -> None:
    """A server that knows only the standard names the addresses of update and model by START (8.20)."""
    server.link = False
    body = server.subscription()
    model_url = body["aimlMdlInfo"].pop("mlModelLoc")["uri"]
    await server.call(client, "POST", PERFORM, start("op-1", f"{server.url}/own/aggregate", model_url))
    await server.call(client, "POST", SUBSCRIPTIONS, body)
    await eventually(lambda: server.notified(1))
    assert list(server.updates) == ["/own/aggregate"]


async def test_without_any_address_for_updates_nothing_is_trained(
    server: MiniServer, client: AimleClient, trainer: Adder
) -> None:
    """A training whose result could go nowhere is refused with an error notification."""
    server.link = False
    await subscribe(server, client)
    (body,) = await eventually(lambda: server.notified(1))
    assert body["hflTrngErr"] == "PERFORMANCE_ERRORS"
    assert not trainer.configs


def start(identifier: str, aggregation: str, model: str | None = None) -> dict[str, Any]:
    """An AimleClientServOpReq that starts an operation with these addresses."""
    info = {"mlMdAggregUri": aggregation} | ({"mlMdlUri": model} if model else {})
    return {"aimleServerId": "server-1", "servOpId": identifier, "servOpMode": "START", "servOpInfo": info}


async def test_stop_discards_the_running_round_of_its_training_only(
    server: MiniServer, client: AimleClient, trainer: Adder, reports: list[RoundReport]
) -> None:
    """After STOP nothing of the round is sent and its subscription is gone; another training goes on."""
    trainer.gate.clear()
    await server.call(client, "POST", PERFORM, start("op-1", f"{server.url}/own/rounds/1/update"))
    await server.call(client, "POST", PERFORM, start("op-2", f"{server.url}/own/rounds/2/update"))
    path = await subscribe(server, client, 1)
    await eventually(trainer.fitting.is_set)
    other = await subscribe(server, client, 2)
    stop = {"aimleServerId": "server-1", "servOpId": "op-1", "servOpMode": "STOP"}
    assert (await server.call(client, "POST", PERFORM, stop))[0] == 200
    assert (await server.call(client, "GET", path))[0] == 404
    assert (await server.call(client, "GET", other))[0] == 200
    trainer.gate.set()
    await eventually(lambda: server.notified(2))
    assert not server.notified(1)
    assert list(server.updates) == ["/own/rounds/2/update"]
    assert reports[0].outcome is Outcome.DISCARDED


async def test_unsubscribing_discards_the_running_round(
    server: MiniServer, client: AimleClient, trainer: Adder, reports: list[RoundReport]
) -> None:
    """DELETE during training: 204, and nothing is sent when it ends."""
    trainer.gate.clear()
    path = await subscribe(server, client)
    await eventually(trainer.fitting.is_set)
    assert (await server.call(client, "DELETE", path))[0] == 204
    await eventually(lambda: reports)
    assert reports[0].outcome is Outcome.DISCARDED
    trainer.gate.set()
    await subscribe(server, client, 2)
    await eventually(lambda: server.notified(2))
    assert not server.notified(1)
    assert list(server.updates) == ["/own/rounds/2/update"]


async def test_a_newer_round_makes_the_older_one_obsolete(
    server: MiniServer, client: AimleClient, trainer: Adder
) -> None:
    """Only the newest round is answered, and no two ever train at the same time."""
    trainer.gate.clear()
    path = await subscribe(server, client)
    await eventually(trainer.fitting.is_set)
    await server.call(client, "PATCH", path, next_round(server, 2), content_type=MERGE_PATCH)
    await server.call(client, "PATCH", path, next_round(server, 3), content_type=MERGE_PATCH)
    await eventually(lambda: "3" in server.fetched)
    for _ in range(20):  # as many chances for a second training to begin
        await server.call(client, "GET", path)
    trainer.gate.set()
    await eventually(lambda: server.notified(3))
    assert not server.notified(1)
    assert not server.notified(2)
    assert list(server.updates) == ["/own/rounds/3/update"]
    assert trainer.most == 1


async def test_requests_are_answered_during_training(
    server: MiniServer, client: AimleClient, trainer: Adder
) -> None:
    """Training does not block the event loop."""
    trainer.gate.clear()
    path = await subscribe(server, client)
    await eventually(trainer.fitting.is_set)
    async with asyncio.timeout(5):
        assert (await server.call(client, "GET", path))[0] == 200
    assert client.status.busy
    assert not trainer.gate.is_set()


async def test_training_waits_for_its_schedule(
    server: MiniServer, client: AimleClient, trainer: Adder, clock: ManualClock
) -> None:
    """Outside of `operSched` nothing is fetched or trained; when it opens, the round begins."""
    waiting = len(clock._sleepers)
    await subscribe(server, client, operSched={"timeOfDayStart": "06:00:00", "timeOfDayEnd": "08:00:00"})
    await eventually(lambda: len(clock._sleepers) > waiting)
    clock.advance(6 * 3600 - 1)
    assert client.status.busy
    assert not trainer.configs
    clock.advance(1)
    await eventually(lambda: server.notified(1))


async def test_leaving_during_training(server: MiniServer, trainer: Adder) -> None:
    """A client that ends does not wait for its trainer, sends nothing of the round and deregisters."""
    trainer.gate.clear()
    async with server.client(trainer) as client:
        await subscribe(server, client)
        await eventually(trainer.fitting.is_set)
    assert not server.registrations
    trainer.gate.set()
    assert not server.updates
    assert not server.notifications


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"dataId": "letters"}, "/dataId"),
        ({"noDataSamp": -1}, "/noDataSamp"),
        ({"noDataSamp": "7"}, "/noDataSamp"),
        ({"aimlMdlInfo": {"mlModelLoc": {"fqdn": "models.example.com"}}}, "/aimlMdlInfo/mlModelLoc/uri"),
        ({"aimlMdlInfo": {"mlModelId": "m"}}, "/aimlMdlInfo/mlModelLoc/uri"),
        ({"notifUri": "not a uri"}, "/notifUri"),
    ],
)
async def test_a_subscription_that_cannot_be_served_is_refused(
    server: MiniServer, client: AimleClient, trainer: Adder, changes: dict[str, Any], param: str
) -> None:
    """400 names the attribute, on POST as on PUT, and nothing changes or begins."""
    body = server.subscription() | changes
    status, answer, _ = await server.call(client, "POST", SUBSCRIPTIONS, body)
    assert (status, answer["invalidParams"][0]["param"]) == (400, param)
    assert client.status.subscriptions == ()
    path = await subscribe(server, client)
    await eventually(lambda: server.notified(1))
    assert (await server.call(client, "PUT", path, body))[0] == 400
    assert (await server.call(client, "GET", path))[1]["dataId"] == "digits"
    assert len(trainer.configs) == 1


async def test_a_patch_that_removes_what_is_needed_is_refused(
    server: MiniServer, client: AimleClient
) -> None:
    """`null` for a required attribute is 400 naming it; `null` for an optional one removes it."""
    path = await subscribe(server, client, suppFeat="0", operSched={"daysOfWeek": [1, 2]})
    status, answer, _ = await server.call(client, "PATCH", path, {"dataId": None}, content_type=MERGE_PATCH)
    assert (status, answer["invalidParams"][0]["param"]) == (400, "/dataId")
    status, answer, _ = await server.call(
        client, "PATCH", path, {"operSched": None}, content_type=MERGE_PATCH
    )
    assert status == 200
    assert "operSched" not in answer
