"""Updates that are smaller on the way (`updateDtype`, `updateDelta`, `updateCompression`), through server and SDK."""

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zstandard

from aimle_client.runtime.report import RoundReport
from aimle_client.testing import RunningServer
from aimle_client.transfer import deliver
from aimle_client.val import Objective, Training, TrainingProfile, ValServer
from aimle_server.metrics import UPDATE_BYTES
from ml_repository.database import Database
from sbi.clock import Clock
from sbi.tensors import MAX_HEADER, TensorFile, describe
from tests.support import eventually
from tests.support_bfloat16 import bfloat16_file, nearest_bfloat16
from tests.support_participant import Participant, all_asked, participants, update
from tests.support_proxy import Fault, proxy_to
from tests.support_training import START, Pull, Vector, begin, events_of, serving, ues, val_server

MIB = 2**20
ONES = np.ones(4, np.float32)
Rounding = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]


def exactly(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """As they are."""
    return values.astype(np.float64)


def to_float16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """As NumPy rounds."""
    return values.astype(np.float16).astype(np.float64)


OPTIONS: list[tuple[dict[str, Any], str, bool, Rounding]] = [
    ({"update_dtype": "FLOAT16"}, "F16", False, to_float16),
    ({"update_dtype": "BFLOAT16"}, "BF16", False, nearest_bfloat16),
    ({"update_delta": True}, "F32", True, exactly),
    ({"update_compression": "ZSTD"}, "F32", False, exactly),
    ({"update_dtype": "FLOAT16", "update_delta": True}, "F16", True, to_float16),
    (
        {"update_dtype": "BFLOAT16", "update_delta": True, "update_compression": "ZSTD"},
        "BF16",
        True,
        nearest_bfloat16,
    ),
]


def mean_of_round(
    trainers: Mapping[str, Pull], w: Vector, number: int, delta: bool, rounding: Rounding
) -> npt.NDArray[np.float64]:
    """What FedAvg makes of updates that were rounded so, by plain NumPy in float64."""
    config = {"learningRate": 0.5, "seed": 3, "round": number}
    steps = [trainer.step(w, config) for trainer in trainers.values()]
    updates = [w + rounding(step - w) if delta else rounding(step) for step in steps]
    return np.average(updates, axis=0, weights=[trainer.samples for trainer in trainers.values()])


def update_files(data: Path) -> list[TensorFile]:
    """The updates of running rounds that the server has taken."""
    return [describe(path) for path in data.rglob("update-*.safetensors")]


def taken_bytes() -> float:
    """Bytes of complete uploads so far, as they came."""
    return next(sample.value for sample in UPDATE_BYTES.collect()[0].samples)


@pytest.mark.parametrize(("options", "dtype", "delta", "rounding"), OPTIONS)
async def test_a_training_with_reduced_updates(
    mongo_url: str,
    database: Database,
    tmp_path: Path,
    options: dict[str, Any],
    dtype: str,
    delta: bool,
    rounding: Rounding,
) -> None:
    """The clients send what is asked for, and after two rounds the model is the one that NumPy makes of it."""
    trainers = {"ue-1": Pull(0.9, 5), "ue-2": Pull(1.0, 10), "ue-3": Pull(1.1, 40)}
    trainers["ue-3"].gate.clear()
    profile = TrainingProfile(learning_rate=0.5, seed=3, round_timeout=20, **options)
    before = taken_bytes()
    async with (
        serving(mongo_url, database, {"server.data_dir": str(tmp_path)}) as server,
        val_server(server) as val,
        ues(server, trainers) as clients,
    ):
        done: list[RoundReport] = []
        for client in clients.values():
            client.on_round(done.append)
        training = await begin(
            val, members=list(trainers), objective=Objective(max_epochs=2), profile=profile
        )
        await eventually(lambda: len(done) == 2)
        files = update_files(tmp_path)
        assert len(files) == 2
        assert {file.tensors["w"].dtype for file in files} == {dtype}
        assert {file.metadata.get("aimle.delta") for file in files} == {"true" if delta else None}
        size = sum(file.path.stat().st_size for file in files)
        assert (taken_bytes() - before < size) == ("update_compression" in options)
        trainers["ue-3"].gate.set()
        last = (await events_of(training))[-1]
        result = await val.download_model(str(last.output_model_id))
    first = mean_of_round(trainers, START, 1, delta, rounding).astype(np.float32)
    expected = mean_of_round(trainers, first, 2, delta, rounding)
    assert result["w"].dtype == np.float32
    np.testing.assert_allclose(result["w"], expected, rtol=1e-6)


async def test_beside_clients_that_know_nothing_of_it(
    mongo_url: str, database: Database, tmp_path: Path
) -> None:
    """A client of the standard only sends whole models; they count by their weights like the others' differences."""
    trainers = {"ue-1": Pull(0.9, 5), "ue-2": Pull(1.1, 40)}
    profile = TrainingProfile(
        learning_rate=0.5, seed=3, round_timeout=20, update_dtype="BFLOAT16", update_delta=True
    )
    whole, samples, before = np.array([1, -2, 0.3, 4], np.float32), 15, START
    async with (
        serving(mongo_url, database, {"server.data_dir": str(tmp_path)}) as server,
        val_server(server) as val,
        participants(server.url, "ue-3") as (plain,),
        ues(server, trainers),
    ):
        members = [*trainers, "ue-3"]
        training = await begin(val, members=members, objective=Objective(max_epochs=2), profile=profile)
        for number in (1, 2):
            await plain.asked(number)
            await plain.participate(update(number * whole, {"aimle.num_samples": str(samples)}))
            ours = mean_of_round(trainers, before, number, True, nearest_bfloat16)
            before = np.average([ours, number * whole], axis=0, weights=[45, samples]).astype(np.float32)
        await plain.asked(3)
        assert await plain.notify() == 204
        last = (await events_of(training))[-1]
        result = await val.download_model(str(last.output_model_id))
    np.testing.assert_allclose(result["w"], before, rtol=1e-6)


async def test_values_that_float16_does_not_have(mongo_url: str, database: Database) -> None:
    """The client sends no infinity: its round fails, and the VAL server reads why."""
    trainers = {"ue-1": Pull(1e6), "ue-2": Pull(1.0)}
    profile = TrainingProfile(learning_rate=0.5, min_reports=0.5, update_dtype="FLOAT16")
    async with (
        serving(mongo_url, database) as server,
        val_server(server) as val,
        ues(server, trainers),
    ):
        trainers["ue-2"].gate.clear()
        training = await begin(
            val, members=list(trainers), objective=Objective(max_epochs=1), profile=profile
        )
        await eventually(lambda: _reason(training, "ue-1"))
        assert await _reason(training, "ue-1") == "tensor 'w' has values that are not finite in F16"
        trainers["ue-2"].gate.set()
        last = (await events_of(training))[-1]
        result = await val.download_model(str(last.output_model_id))
    step = trainers["ue-2"].step(START, {"learningRate": 0.5, "round": 1})
    np.testing.assert_array_equal(result["w"], step.astype(np.float16).astype(np.float32))


async def _reason(training: Training, client: str) -> str | None:
    status = await training.status()
    return next(part.reason for part in status.participants if part.client_id == client)


@dataclass
class Round:
    """The running first round of a client by hand, which needs nobody else."""

    server: RunningServer
    val: ValServer
    training: Training
    client: Participant
    database: Database
    data: Path

    async def result(self) -> npt.NDArray[np.float32]:
        """`w` after this round, once the client has reported it."""
        assert await self.client.notify() == 204
        await self.client.asked(2)
        await self.training.cancel()
        last = (await events_of(self.training))[-1]
        result: npt.NDArray[np.float32] = (await self.val.download_model(str(last.output_model_id)))["w"]
        return result

    async def offences(self) -> int:
        """How many are in the client's record."""
        record = await self.database["registrations"].find_one({"_id": "ue-1"})
        assert record is not None
        return int(record["_stats"].get("offences", 0))

    def spooled(self) -> list[Path]:
        """Files of uploads."""
        return [path for path in (self.data / "spool").rglob("*") if path.is_file()]


Begin = Callable[..., Any]


@pytest.fixture
def round_one(mongo_url: str, database: Database, tmp_path: Path) -> Begin:
    """Begins the round of a training with these options of its profile."""

    @asynccontextmanager
    async def begins(w: Vector = START, **options: Any) -> AsyncIterator[Round]:
        settings = {"server.data_dir": str(tmp_path), "hfl.max_offences": 100}
        async with (
            serving(mongo_url, database, settings) as server,
            val_server(server) as val,
            participants(server.url, "ue-1") as (client,),
        ):
            await val.store_model("first", {"w": w}, services=["val-vision"], access="PUBLICLY_AVAILABLE")
            training = await val.train(
                model_id="first",
                dataset_ids=["digits"],
                members=["ue-1"],
                objective=Objective(max_epochs=5),
                profile=TrainingProfile(round_timeout=20, **options),
            )
            await all_asked([client])
            yield Round(server, val, training, client, database, tmp_path)
            await training.cancel()

    return begins


ZSTD = {"Content-Encoding": "zstd"}


def digest(content: bytes) -> str:
    """`Repr-Digest`."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


async def test_what_was_not_asked_for_is_refused(round_one: Begin) -> None:
    """Without the options: a content coding is 415, another dtype and a difference are 400 with the reason."""
    async with round_one() as it:
        status, problem, _ = await it.client.put(zstandard.compress(update(ONES)), **ZSTD)
        assert (status, problem["cause"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        for content, words in (
            (update(ONES.astype(np.float16)), "'w' is F16 [4], the global model's is F32 [4]"),
            (bfloat16_file({"w": ONES}), "'w' is BF16 [4], the global model's is F32 [4]"),
            (update(ONES, {"aimle.delta": "true"}), "this training takes whole models"),
        ):
            status, problem, _ = await it.client.put(content)
            assert (status, problem["cause"]) == (400, "INVALID_UPDATE")
            assert words in problem["detail"]
        assert (await it.client.put(update(ONES)))[0] == 204
        np.testing.assert_array_equal(await it.result(), ONES)


async def test_what_is_wrong_with_a_reduced_update(round_one: Begin) -> None:
    """Each is refused with 400 or 415 and the reason, is an offence where it is 400, and leaves nothing behind."""
    options = {"update_dtype": "BFLOAT16", "update_delta": True, "update_compression": "ZSTD"}
    packed = zstandard.compress(update(ONES))
    infinite = bfloat16_file({"w": ONES}).replace(b"\x80\x3f", b"\x80\x7f")
    wrong = [
        (bfloat16_file({"w": np.ones(3, np.float32)}), {}, "'w' is BF16 [3]"),
        (update(ONES.astype(np.float16)), {}, "'w' is F16 [4]"),
        (infinite, {}, "'w' has values that are not finite"),
        (update(ONES, {"aimle.delta": "perhaps"}), {}, "aimle.delta is neither true nor false"),
        (update(ONES), ZSTD, "not in its Content-Encoding"),
        (packed, {}, "the header says"),
        (packed + packed, ZSTD, "not a valid safetensors file"),
        (packed[:-10], ZSTD, "safetensors"),
        (zstandard.compress(update(np.ones(5, np.float32))), ZSTD, "'w' is F32 [5]"),
    ]
    async with round_one(**options) as it:
        for content, headers, words in wrong:
            status, problem, _ = await it.client.put(content, **headers)
            assert (status, words in problem["detail"]) == (400, True), problem
        assert (await it.client.put(zlib.compress(update(ONES)), **{"Content-Encoding": "deflate"}))[0] == 415
        assert await it.offences() == len(wrong)
        assert it.spooled() == []
        assert (await it.client.put(packed, **ZSTD, **{"Repr-Digest": digest(packed)}))[0] == 204
        np.testing.assert_array_equal(await it.result(), ONES)


async def test_a_decompression_bomb(round_one: Begin) -> None:
    """What unpacks to more than an update can have is 413 and an offence, however small it comes."""
    async with round_one(update_compression="ZSTD") as it:
        packing = zstandard.ZstdCompressor().compressobj()
        bomb = b"".join(packing.compress(bytes(MIB)) for _ in range(300)) + packing.flush()
        assert len(bomb) < 100_000
        status, problem, _ = await it.client.put(bomb, **ZSTD)
        assert (status, problem["cause"]) == (413, "PAYLOAD_TOO_LARGE")
        assert await it.offences() == 1
        assert it.spooled() == []
        just_too_long = zstandard.compress(bytes(MAX_HEADER + len(update(START)) + 1000))
        assert (await it.client.put(just_too_long, **ZSTD))[0] == 413
        assert (await it.client.put(zstandard.compress(update(ONES)), **ZSTD))[0] == 204
        np.testing.assert_array_equal(await it.result(), ONES)


async def test_a_packed_update_in_two_parts(round_one: Begin) -> None:
    """Offsets, total and digest are those of the packed bytes."""
    async with round_one(update_compression="ZSTD") as it:
        content = zstandard.compress(update(7 * ONES))
        total, half = len(content), len(content) // 2
        first = {"Content-Range": f"bytes 0-{half - 1}/{total}", "Repr-Digest": digest(content)}
        assert (await it.client.put(content[:half], **ZSTD, **first))[0] == 204
        status, _, headers = await it.client.call("HEAD", it.client.update_url)
        assert (status, headers["Upload-Offset"]) == (200, str(half))
        rest = {"Content-Range": f"bytes {half}-{total - 1}/{total}"}
        wrong = {"Repr-Digest": digest(update(7 * ONES))}
        assert (await it.client.put(content[half:], **ZSTD, **rest, **wrong))[0] == 400
        assert (await it.client.put(content[:half], **ZSTD, **first))[0] == 204
        assert (await it.client.put(content[half:], **ZSTD, **rest, **{"Repr-Digest": digest(content)}))[
            0
        ] == 204
        np.testing.assert_array_equal(await it.result(), 7 * ONES)


async def test_an_interrupted_packed_upload_goes_on(round_one: Begin) -> None:
    """The SDK sends the rest of the packed bytes after the connection broke, and the server unpacks the whole."""
    w = np.random.default_rng(1).normal(size=4 * MIB).astype(np.float32)
    packed = zstandard.compress(update(w))
    async with round_one(np.zeros_like(w), update_compression="ZSTD") as it:
        async with proxy_to(int(it.server.url.rpartition(":")[2])) as proxy:
            proxy.up.append(Fault(cut=10 * MIB))
            url = it.client.update_url.replace(it.server.url, proxy.url)
            await deliver(it.client.session, url, [packed], Clock(), "zstd")
            assert sum(proxy.sent_up) < len(packed) + 6 * MIB
            assert len(proxy.sent_up) > 1
        np.testing.assert_array_equal(await it.result(), w)
