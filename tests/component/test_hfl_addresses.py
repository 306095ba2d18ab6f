"""What participants may do at their addresses, and what not (TS 23.482 8.12), by raw HTTP."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimle_client.val import Objective, Training, TrainingProfile, ValServer
from ml_repository.database import Database
from tests.support import eventually
from tests.support_participant import Participant, all_asked, participants, update
from tests.support_training import begin, events_of, serving, val_server

ONES = np.ones(4, np.float32)


@dataclass
class Round:
    """A running first round of two clients by hand, in a training of two rounds and an evaluation."""

    val: ValServer
    training: Training
    first: Participant
    second: Participant
    data: Path

    async def finish(self) -> dict[str, Any]:
        """Let the rest of the training run, without updates from here; the result's tensors."""
        await self.training.cancel()
        last = (await events_of(self.training))[-1]
        return await self.val.download_model(str(last.output_model_id))

    async def committed(self, number: int = 1) -> None:
        """Return when a round is committed."""
        await all_asked([self.first, self.second], number + 1)


@pytest.fixture
async def round_one(
    mongo_url: str, database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Round]:
    """The round, in which both clients have been asked; a parameter is its quorum, else it needs both."""
    quorum = getattr(request, "param", 1.0)
    settings = {"server.data_dir": str(tmp_path), "hfl.max_offences": 100}
    async with (
        serving(mongo_url, database, settings) as server,
        val_server(server) as val,
        participants(server.url, "ue-1", "ue-2") as found,
    ):
        training = await begin(
            val,
            members=["ue-1", "ue-2"],
            objective=Objective(max_epochs=2),
            profile=TrainingProfile(min_reports=quorum, round_timeout=20),
        )
        await all_asked(found)
        yield Round(val, training, *found, tmp_path)
        await training.cancel()


def test_addresses_are_not_guessed(round_one: Round) -> None:
    """Each participant has a key of its own, of at least 128 bits."""
    keys = {participant.notif_uri.split("/")[-4] for participant in (round_one.first, round_one.second)}
    assert len(keys) == 2
    assert all(len(key) >= 22 for key in keys)


async def test_the_model_of_a_round(round_one: Round) -> None:
    """The model comes with training, round and profile in its metadata, and says where its update goes."""
    client = round_one.first
    status, content, headers = await client.call("GET", client.model_url)
    assert status == 200
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert metadata["aimle.training"] == round_one.training.id
    assert metadata["aimle.round"] == "1"
    assert json.loads(metadata["aimle.config"]) == {
        "localEpochs": 1, "batchSize": 32, "learningRate": 0.01, "seed": 0,
    }  # fmt: skip
    assert headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert 'rel="aggregation"' in headers["Link"]
    assert client.update_url.endswith(headers["Link"].split(">")[0].lstrip("<"))
    starts = [body["servOpInfo"]["mlMdlUri"] for body in client.operations]
    assert (await client.call("GET", starts[0]))[1] == content
    part = await client.call("GET", client.model_url, headers={"Range": "bytes=8-"})
    assert (part[0], part[1]) == (206, content[8:])


WRONG_TENSORS = [
    (update(np.ones(3, np.float32)), "'w' is F32 [3], the global model's is F32 [4]"),
    (update(np.ones((2, 2), np.float32)), "'w' is F32 [2, 2], the global model's is F32 [4]"),
    (update(np.ones(4, np.float64)), "'w' is F64 [4], the global model's is F32 [4]"),
    (update(ONES, extra=ONES), "'extra' is not in the global model"),
    (update(np.array([1, np.nan, 1, 1], np.float32)), "'w' has values that are not finite"),
    (update(np.array([1, 1, 1, -np.inf], np.float32)), "'w' has values that are not finite"),
    (update(ONES)[:-1], "not a valid safetensors file"),
    (update(ONES)[:6], "shorter than a safetensors header"),
    (update(ONES) + b"more", "not a valid safetensors file"),
    (b"\xff" * 100, "the header says"),
    (b"", "shorter than a safetensors header"),
]


async def test_a_file_that_is_no_update(round_one: Round) -> None:
    """400 names the tensor and what is wrong with it; the client may send a better one in the same round."""
    for content, words in WRONG_TENSORS:
        status, problem, headers = await round_one.first.put(content)
        assert (status, headers["Content-Type"]) == (400, "application/problem+json")
        assert words in problem["detail"]
        assert problem["cause"] == "INVALID_UPDATE"
        assert str(round_one.data) not in json.dumps(problem)
    assert not [path for path in (round_one.data / "spool").rglob("*") if path.is_file()]
    await asyncio.gather(*(c.participate(update(ONES)) for c in (round_one.first, round_one.second)))
    await round_one.committed()
    np.testing.assert_array_equal((await round_one.finish())["w"], ONES)


NO_COUNTS = (
    "-1",
    "0",
    "000",
    "",
    "x",
    "1.5",
    "1e3",
    "\u0663",
    "+7",
    " 7",
    str(2**31),
    "1" * 5000,
    "0" * 19 + "9" * 400,
)


async def test_a_weight_that_is_no_count(round_one: Round) -> None:
    """`aimle.num_samples` must be a number from 1 to 2^31-1; nobody gets a weight beyond."""
    for samples in NO_COUNTS:
        status, problem, _ = await round_one.first.put(update(ONES, {"aimle.num_samples": samples}))
        assert (status, problem["invalidParams"][0]["param"]) == (400, "aimle.num_samples"), samples
    await round_one.first.participate(update(ONES, {"aimle.num_samples": "1"}))
    await round_one.second.participate(update(5 * ONES, {"aimle.num_samples": "3"}))
    await round_one.committed()
    np.testing.assert_array_equal((await round_one.finish())["w"], 4 * ONES)


async def test_a_round_that_is_over(round_one: Round) -> None:
    """Model, update and its offset answer 409 ROUND_IS_OVER after a client's report, and after the round."""
    client = round_one.first
    addresses = [("GET", client.model_url), ("PUT", client.update_url), ("PUT", client.aggregation_uri)]
    await client.participate(update(ONES))

    async def closed() -> list[tuple[int, Any]]:
        answers = [await client.call(method, url, data=update(ONES)) for method, url in addresses]
        return [(status, body.get("cause")) for status, body, _ in answers]

    await eventually(lambda: _is_over(client))
    assert await closed() == [(409, "ROUND_IS_OVER")] * 3
    old = client.notif_uri
    await round_one.second.participate(update(ONES))
    await round_one.committed()
    addresses.pop()  # this one is that of the second round now
    assert await closed() == [(409, "ROUND_IS_OVER")] * 2
    assert (await client.call("HEAD", old.replace("notifications", "update")))[0] == 409
    assert await client.notify(old, hflTrngErr="PERFORMANCE_ERRORS") == 204
    status = await round_one.training.status()
    assert {part.state for part in status.participants} == {"TRAINING"}


async def _is_over(client: Participant) -> bool:
    """Whether the report has been counted: it is taken before."""
    status, _, _ = await client.call("HEAD", client.update_url)
    return status == 409


@pytest.mark.parametrize("round_one", [0.5], indirect=True)
async def test_an_upload_that_outlives_its_round(round_one: Round) -> None:
    """An update that was begun in one round does not become one of the next, and leaves nothing behind."""
    client, content = round_one.first, update(9 * ONES)
    goes_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield content[:50]
        await goes_on.wait()
        yield content[50:]

    late = asyncio.create_task(client.call("PUT", client.aggregation_uri, data=slowly()))
    await eventually(lambda: list((round_one.data / "spool").rglob("*.part")))
    assert await client.notify() == 204
    await round_one.second.participate(update(ONES))
    await round_one.committed()
    goes_on.set()
    status, problem, _ = await late
    assert (status, problem["cause"]) == (409, "ROUND_IS_OVER")
    assert not [path for path in (round_one.data / "spool").rglob("*") if path.is_file()]
    for each in (client, round_one.second):
        await each.participate(update(2 * ONES))
    await round_one.committed(2)
    np.testing.assert_array_equal((await round_one.finish())["w"], 2 * ONES)


async def test_an_unknown_key(round_one: Round) -> None:
    """Whoever guesses is told 404, the same for each address and method, and nothing about any training."""
    client = round_one.first
    key = client.notif_uri.split("/")[-4]
    wrong = [
        ("GET", client.model_url.replace(key, key[::-1])),
        ("PUT", client.update_url.replace(key, key[:-1])),
        ("PUT", client.aggregation_uri.replace(key, key + "x")),
        ("POST", client.notif_uri.replace(key, "x")),
    ]
    answers = []
    for method, url in wrong:
        body = {"json": {"vaSrvId": "v", "hflTrngOut": {}}} if method == "POST" else {"data": b"x"}
        answers.append(await client.call(method, url, **body))
    assert {status for status, _, _ in answers} == {404}
    assert len({json.dumps(problem, sort_keys=True) for _, problem, _ in answers}) == 1
    assert round_one.training.id not in json.dumps(answers[0][1])
    for number in ("2", "0", "x", "99999999999999999999", "1%2e"):
        url = client.update_url.replace("rounds/1", f"rounds/{number}")
        assert (await client.put(update(ONES), url))[0] in (400, 404, 409)


async def test_an_update_in_two_parts(round_one: Round) -> None:
    """An interrupted update goes on at `Upload-Offset`, and counts when it is whole and has its digest."""
    client, content = round_one.first, update(7 * ONES)
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    total, half = len(content), len(content) // 2
    assert (await client.call("HEAD", client.update_url))[2]["Upload-Offset"] == "0"
    first = {"Content-Range": f"bytes 0-{half - 1}/{total}"}
    assert (await client.put(content[:half], **first))[0] == 204
    assert (await client.call("HEAD", client.update_url))[2]["Upload-Offset"] == str(half)
    wrong = {"Content-Range": f"bytes {half + 1}-{total - 1}/{total}"}
    status, _, headers = await client.put(content[half + 1 :], **wrong)
    assert (status, headers["Upload-Offset"]) == (416, str(half))
    rest = {"Content-Range": f"bytes {half}-{total - 1}/{total}", "Repr-Digest": f"sha-256=:{digest}:"}
    assert (await client.put(content[half:], **rest))[0] == 204
    assert await client.notify() == 204
    await round_one.second.participate(content)
    await round_one.committed()
    np.testing.assert_array_equal((await round_one.finish())["w"], 7 * ONES)


@pytest.mark.parametrize("round_one", [0.5], indirect=True)
async def test_half_an_update_of_the_round_before(round_one: Round) -> None:
    """What is left of an upload that never ended goes when the client sends the next round's update."""
    client, content = round_one.first, update(ONES)
    half = {"Content-Range": f"bytes 0-9/{len(content)}"}
    assert (await client.put(content[:10], **half))[0] == 204
    assert await client.notify() == 204
    await round_one.second.participate(content)
    await round_one.committed()
    assert len(list((round_one.data / "spool").rglob("*.part"))) == 1
    assert (await client.put(content))[0] == 204
    assert not list((round_one.data / "spool").rglob("*.part"))


async def test_bytes_that_changed_on_the_way(round_one: Round) -> None:
    """An update with another digest than announced is refused and does not count."""
    client, content = round_one.first, update(ONES)
    digest = base64.b64encode(hashlib.sha256(update(2 * ONES)).digest()).decode()
    status, problem, _ = await client.put(content, **{"Repr-Digest": f"sha-256=:{digest}:"})
    assert status == 400
    assert "digest" in json.dumps(problem)
    assert (await client.call("HEAD", client.update_url))[2]["Upload-Offset"] == "0"


async def test_a_report_counts_once(round_one: Round) -> None:
    """A notification that comes twice, and a contradicting one after it, change nothing."""
    await round_one.first.participate(update(ONES, {"aimle.num_samples": "3"}))
    assert await round_one.first.notify() == 204
    assert await round_one.first.notify(hflTrngErr="PERFORMANCE_ERRORS") == 204
    assert (await round_one.training.status()).round == 0
    await round_one.second.participate(update(5 * ONES, {"aimle.num_samples": "1"}))
    await round_one.committed()
    (entry,) = (await round_one.training.status()).history
    assert (entry.participants, entry.samples) == (2, 4)
    np.testing.assert_array_equal((await round_one.finish())["w"], 2 * ONES)


async def test_the_latest_update_before_the_report_counts(round_one: Round) -> None:
    """A client may send its update again until it reports; the last one is taken."""
    assert (await round_one.first.put(update(9 * ONES)))[0] == 204
    await round_one.first.participate(update(ONES))
    await round_one.second.participate(update(ONES))
    await round_one.committed()
    np.testing.assert_array_equal((await round_one.finish())["w"], ONES)


async def test_a_client_of_the_standard_only(round_one: Round) -> None:
    """Without our metadata and member `aimle`, with `mlMdAggregUri` and PerfParams, a client takes part fully."""
    for number in (1, 2):
        for client, value in ((round_one.first, 1), (round_one.second, 3)):
            assert (await client.put(update(number * value * ONES), client.aggregation_uri))[0] == 204
            output = {"modelAccuracy": 10 * value * number, "modelPrecision": 0.25, "errorMeanSquare": 2.5}
            assert await client.notify(hflTrngOut=output) == 204
        await round_one.committed(number)
    assert round_one.first.subscription is not None
    assert round_one.first.subscription["noDataSamp"] == 0
    for client in (round_one.first, round_one.second):
        assert await client.notify(hflTrngOut={"modelAccuracy": 90}) == 204
    events = await events_of(round_one.training)
    assert events[0].output == {"modelAccuracy": 20, "modelPrecision": 0.25, "errorMeanSquare": 2.5}
    assert [event.metrics["accuracy"] for event in events] == pytest.approx([0.2, 0.4, 0.9])
    result = await round_one.val.download_model(str(events[-1].output_model_id))
    np.testing.assert_array_equal(result["w"], 4 * ONES)
    clients = (round_one.first, round_one.second)
    await eventually(lambda: all(client.subscription is None for client in clients))
    await eventually(lambda: all(client.operations[-1]["servOpMode"] == "STOP" for client in clients))


async def test_a_report_without_an_update(round_one: Round) -> None:
    """It is legal, and is not an update: with a quorum of all the round is asked again, at new addresses."""
    before = round_one.first.notif_uri
    assert await round_one.first.notify(hflTrngOut={"modelAccuracy": 50}) == 204
    await round_one.second.participate(update(3 * ONES))
    await all_asked([round_one.first, round_one.second], 2)
    assert round_one.first.notif_uri != before
    for client in (round_one.first, round_one.second):
        await client.participate(update(ONES))
    await round_one.committed(2)
    np.testing.assert_array_equal((await round_one.finish())["w"], ONES)


@pytest.mark.parametrize(
    "changes",
    [
        {"hflTrngOut": {"modelPrecision": 5, "modelAccuracy": 50}},
        {"hflTrngOut": {"modelAccuracy": 50}, "aimle": {"metrics": {"f1": 3.5, "loss": 1e300, "mse": -1}}},
        {
            "hflTrngOut": {"modelAccuracy": 50, "errorMeanSquare": 1e308},
            "aimle": {"numEvalSamples": 2**31 - 1},
        },
    ],
)
async def test_figures_that_nothing_can_have(round_one: Round, changes: dict[str, Any]) -> None:
    """A score above 1, a negative error or an overflow is left out: no client decides alone how good a model is."""
    for client in (round_one.first, round_one.second):
        assert (await client.put(update(ONES)))[0] == 204
        assert await client.notify(**changes) == 204
    await round_one.committed()
    (event,) = [event async for event in _first_event(round_one.training)]
    assert set(event.metrics) == {"accuracy"}
    assert event.metrics["accuracy"] == 0.5


async def _first_event(training: Training) -> AsyncIterator[Any]:
    async for event in training.events():
        yield event
        return


async def test_a_report_that_is_malformed(round_one: Round) -> None:
    """400 names the attribute, and the report does not count."""
    for changes, param in (
        ({"hflTrngOut": {"modelAccuracy": 101}}, "/hflTrngOut/modelAccuracy"),
        ({"hflTrngOut": None}, "/hflTrngOut"),
        ({"aimle": {"numEvalSamples": -1}}, "/aimle/numEvalSamples"),
        ({"aimle": {"metrics": {"accuracy": "high"}}}, "/aimle/metrics/accuracy"),
    ):
        body = {"vaSrvId": "v", "hflTrngOut": {}} | changes
        status, problem, _ = await round_one.first.call("POST", round_one.first.notif_uri, json=body)
        assert (status, problem["invalidParams"][0]["param"]) == (400, param)
    assert not await _is_over(round_one.first)


async def test_an_aggregate_that_is_not_finite(round_one: Round) -> None:
    """Updates that are fine one by one and have no finite aggregate fail the training with a stated reason."""
    val, client = round_one.val, round_one.first
    await val.store_model("half", {"w": np.full(4, 65000, np.float16)}, services=["val-vision"])
    profile = TrainingProfile(strategy="FEDADAM", server_learning_rate=1000)
    asked = client.rounds
    training = await val.train(model_id="half", members=["ue-1"], dataset_ids=["digits"], profile=profile)
    await client.asked(asked + 1)
    await client.participate(update(np.full(4, 65500, np.float16)))
    last = (await events_of(training))[-1]
    assert last.state == "FAILED"
    assert last.reason == "round 1 cannot be aggregated: the aggregate of tensor 'w' is not finite"


async def test_a_client_that_keeps_offending(mongo_url: str, database: Database) -> None:
    """After two refused updates a client is excluded: told to stop, named in the status, noted in its record."""
    async with (
        serving(mongo_url, database, {"hfl.max_offences": 2}) as server,
        val_server(server) as val,
        participants(server.url, "ue-1", "ue-2") as (good, bad),
    ):
        profile = TrainingProfile(min_reports=0.5)
        members = ["ue-1", "ue-2"]
        training = await begin(val, members=members, objective=Objective(max_epochs=2), profile=profile)
        await all_asked([good, bad])
        address = bad.update_url
        for _ in range(2):
            status, problem, _ = await bad.put(update(np.full(4, np.nan, np.float32)))
            assert (status, problem["cause"]) == (400, "INVALID_UPDATE")
        await eventually(lambda: bad.operations[-1]["servOpMode"] == "STOP")
        assert (await bad.put(update(ONES), address))[0] == 404
        assert [p.client_id for p in (await training.status()).participants] == ["ue-1"]
        await good.participate(update(ONES))
        await all_asked([good], 2)
        assert bad.rounds == 1
        record = await database["registrations"].find_one({"_id": "ue-2"})
        assert record is not None
        assert record["_stats"]["offences"] == 2
        await training.cancel()
