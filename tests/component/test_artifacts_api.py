"""AIMLE_ModelArtifacts over HTTP: a model's bytes, up and down (TS 23.482 8.11.2, 8.2)."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ml_repository.database import Database
from sbi.auth import Caller
from sbi.errors import Conflict, NotFound
from tests.support import eventually
from tests.support_models import PUBLIC, Repository, profile, repository, safetensors, token


@pytest.fixture
async def repo(database: Database, tmp_path: Path) -> AsyncIterator[Repository]:
    """A running repository."""
    async with repository(database, tmp_path) as running:
        yield running


def url(model_id: str) -> str:
    """The path of a model's bytes."""
    return f"/aimle-artifacts/v1/models/{model_id}"


def digest(content: bytes) -> str:
    """Repr-Digest of these bytes."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


async def download(repo: Repository, model_id: str, **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and bytes of the owner's download."""
    async with repo.session.get(repo.root + url(model_id), headers=token("owner") | headers) as response:
        return response.status, response.headers, await response.read()


async def head(repo: Repository, model_id: str, subject: str = "owner") -> tuple[int, Any]:
    """Status and headers of a HEAD."""
    status, headers, _ = await repo.call("HEAD", url(model_id), subject=subject)
    return status, headers


async def test_bytes_come_back_as_they_went(repo: Repository) -> None:
    """What an owner puts is got back byte for byte, with its digest as entity tag and as Repr-Digest."""
    await repo.store(profile("m1"))
    content = safetensors(1_500_000)
    status, _, _ = await repo.put_bytes("m1", content, headers={"Repr-Digest": digest(content)})
    assert status == 204
    status, headers, got = await download(repo, "m1")
    assert (status, got) == (200, content)
    assert headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert headers["Repr-Digest"] == digest(content)
    assert headers["Accept-Ranges"] == "bytes"


async def test_a_part_can_be_asked_for(repo: Repository) -> None:
    """A download goes on where it stopped, if the model is still the same."""
    await repo.store(profile("m1"))
    content = safetensors(1_500_000)
    await repo.put_bytes("m1", content)
    _, headers, _ = await download(repo, "m1")
    half = len(content) // 2
    rest = await download(repo, "m1", Range=f"bytes={half}-", **{"If-Range": headers["ETag"]})
    assert (rest[0], rest[2]) == (206, content[half:])
    assert rest[1]["Content-Range"] == f"bytes {half}-{len(content) - 1}/{len(content)}"
    outdated = await download(repo, "m1", Range=f"bytes={half}-", **{"If-Range": '"something else"'})
    assert (outdated[0], outdated[2]) == (200, content)
    beyond = await download(repo, "m1", Range=f"bytes={len(content)}-")
    assert beyond[0] == 416


async def test_head_of_stored_bytes(repo: Repository) -> None:
    """HEAD tells size and entity tag of the bytes that are here."""
    await repo.store(profile("m1"))
    content = safetensors()
    await repo.put_bytes("m1", content)
    status, headers = await head(repo, "m1")
    assert (status, headers["Content-Length"]) == (200, str(len(content)))
    assert headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert "Upload-Offset" not in headers


async def test_an_upload_goes_on_where_it_was_cut(repo: Repository) -> None:
    """After a cut, HEAD says to the owner how much is here, and a PUT with Content-Range completes the file."""
    await repo.store(profile("m1"))
    content = safetensors(1_500_000)
    half = len(content) // 2
    assert (await head(repo, "m1"))[1]["Upload-Offset"] == "0"

    async def cut() -> AsyncIterator[bytes]:
        yield content[:half]
        await eventually(lambda: arrived(repo, "m1"))
        raise ConnectionResetError("cut")

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await repo.put_bytes("m1", cut(), headers={"Content-Length": str(len(content))})
    assert (await repo.get_bytes("m1"))[0] == 404
    wrong = {"Content-Range": f"bytes {half + 1}-{len(content) - 1}/{len(content)}"}
    status, answer, _ = await repo.put_bytes("m1", content[half + 1 :], headers=wrong)
    offset = int(answer["Upload-Offset"])
    assert status == 416
    assert 0 < offset <= half
    assert await arrived(repo, "m1") == offset
    headers = {
        "Content-Range": f"bytes {offset}-{len(content) - 1}/{len(content)}",
        "Repr-Digest": digest(content),
    }
    assert (await repo.put_bytes("m1", content[offset:], headers=headers))[0] == 204
    assert await repo.get_bytes("m1") == (200, content)


async def arrived(repo: Repository, model_id: str) -> int:
    """How much of an upload is here."""
    return int((await head(repo, model_id))[1]["Upload-Offset"])


async def test_an_upload_in_two_parts_over_an_older_file(repo: Repository) -> None:
    """The old file is handed out until the new one is complete."""
    await repo.store(profile("m1"))
    old, new = safetensors(fill=0.1), safetensors(fill=0.2)
    await repo.put_bytes("m1", old)
    half = len(new) // 2
    first = {"Content-Range": f"bytes 0-{half - 1}/{len(new)}"}
    assert (await repo.put_bytes("m1", new[:half], headers=first))[0] == 204
    assert await arrived(repo, "m1") == half
    assert await repo.get_bytes("m1") == (200, old)
    second = {"Content-Range": f"bytes {half}-{len(new) - 1}/{len(new)}"}
    assert (await repo.put_bytes("m1", new[half:], headers=second))[0] == 204
    assert await repo.get_bytes("m1") == (200, new)
    assert await repo.artifact_count() == 1


async def test_an_upload_from_one_machine_to_another(database: Database, tmp_path: Path) -> None:
    """Where the first part is not, the second is refused with the offset that is, and the whole is taken."""
    content = safetensors(fill=0.1)
    half = len(content) // 2
    first = {"Content-Range": f"bytes 0-{half - 1}/{len(content)}"}
    second = {"Content-Range": f"bytes {half}-{len(content) - 1}/{len(content)}"}
    async with repository(database, tmp_path / "1") as here, repository(database, tmp_path / "2") as there:
        await here.store(profile("m1"))
        assert (await here.put_bytes("m1", content[:half], headers=first))[0] == 204
        assert await arrived(there, "m1") == 0
        status, answer, _ = await there.put_bytes("m1", content[half:], headers=second)
        assert (status, answer["Upload-Offset"]) == (416, "0")
        assert (await there.get_bytes("m1"))[0] == 404
        assert (await there.put_bytes("m1", content))[0] == 204
        assert await here.get_bytes("m1") == (200, content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "shorter"),
        (b"\x80\x04K*.", "shorter"),
        (safetensors()[:-1], "safetensors"),
        (safetensors() + b"x", "safetensors"),
        (b"PK\x03\x04" + bytes(200), "header"),
    ],
)
async def test_a_file_that_is_no_model_is_refused(repo: Repository, content: bytes, reason: str) -> None:
    """Bytes that are not one whole safetensors file are refused with the reason, and nothing is kept."""
    await repo.store(profile("m1"))
    status, _, problem = await repo.put_bytes("m1", content)
    assert (status, problem["cause"]) == (400, "INVALID_ML_MODEL")
    assert reason in problem["detail"]
    assert (await repo.get_bytes("m1"))[0] == 404
    assert (await head(repo, "m1"))[1]["Upload-Offset"] == "0"
    assert await repo.artifact_count() == 0


async def test_a_wrong_digest_is_refused(repo: Repository) -> None:
    """Bytes that are not those of the Repr-Digest are dropped."""
    await repo.store(profile("m1"))
    status, _, _ = await repo.put_bytes("m1", safetensors(), headers={"Repr-Digest": digest(b"other")})
    assert status == 400
    assert (await repo.get_bytes("m1"))[0] == 404


async def test_who_gets_and_who_puts(repo: Repository) -> None:
    """The bytes are for those who may have the model; only its owner puts them."""
    await repo.store(profile("m1"), profile("m2", storeDiscReqs=PUBLIC))
    content = safetensors()
    for name in ("m1", "m2"):
        await repo.put_bytes(name, content)
    assert (await repo.get_bytes("m1", subject="other"))[0] == 404
    assert (await head(repo, "m1", subject="other"))[0] == 404
    assert (await repo.put_bytes("m1", content, subject="other"))[0] == 404
    assert await repo.get_bytes("m2", subject="other") == (200, content)
    assert (await repo.put_bytes("m2", content, subject="other"))[0] == 403
    assert (await repo.get_bytes("m3"))[0] == 404


async def test_others_do_not_see_an_unfinished_upload(repo: Repository) -> None:
    """Upload-Offset is for the owner; for others a model without bytes has none."""
    await repo.store(profile("m1", storeDiscReqs=PUBLIC))
    status, headers = await head(repo, "m1", subject="other")
    assert status == 404
    assert "Upload-Offset" not in headers


@pytest.mark.parametrize("phase", ["IN_TRAINING", "IN_RETRAINING"])
async def test_a_model_in_training_is_neither_handed_out_nor_overwritten(
    repo: Repository, phase: str
) -> None:
    """While a model is in training GET and PUT are refused, and the cause says why (TS 23.482 8.11.3)."""
    await repo.store(profile("m1"))
    content = safetensors()
    await repo.put_bytes("m1", content)
    await repo.models.set_phase("m1", phase)
    for method in ("GET", "PUT"):
        status, _, problem = await repo.call(method, url("m1"), data=content if method == "PUT" else None)
        assert (status, problem["cause"]) == (409, "MODEL_IN_TRAINING")
    await repo.models.set_phase("m1", "TRAINED")
    assert await repo.get_bytes("m1") == (200, content)


async def test_bytes_that_arrive_when_training_has_begun_are_dropped(
    repo: Repository, tmp_path: Path
) -> None:
    """A file that was on its way when the model went into training does not become the model's."""
    await repo.store(profile("m1"))
    model = await repo.artifacts.writable(Caller("owner"), "m1")
    await repo.models.set_phase("m1", "IN_TRAINING")
    with pytest.raises(Conflict) as refused:
        await repo.artifacts.put(model, *saved(tmp_path, safetensors()))
    assert refused.value.cause == "MODEL_IN_TRAINING"
    repo.clock.advance(3599)  # for all that the janitor knows, it is being written
    await repo.models.remove_expired(repo.clock.now())
    assert await repo.artifact_count() == 1
    repo.clock.advance(1)
    await repo.models.remove_expired(repo.clock.now())
    assert await repo.artifact_count() == 0


async def test_bytes_for_a_deleted_model_do_not_become_its_successors(
    repo: Repository, tmp_path: Path
) -> None:
    """A file that was on its way when its model was deleted is not given to a new model with the same id."""
    storage_id, _ = await repo.store(profile("m1"))
    model = await repo.artifacts.writable(Caller("owner"), "m1")
    await repo.call("DELETE", f"/mlr-mlmm/v1/storages/{storage_id}")
    await repo.store(profile("m1"), subject="somebody else")
    with pytest.raises(NotFound):
        await repo.artifacts.put(model, *saved(tmp_path, safetensors()))
    assert (await repo.get_bytes("m1", subject="somebody else"))[0] == 404


async def test_the_janitor_leaves_stored_bytes_alone(repo: Repository) -> None:
    """What was once uploaded is there as long as its model."""
    await repo.store(profile("m1"))
    content = safetensors()
    await repo.put_bytes("m1", content)
    repo.clock.advance(10**8)
    await repo.models.remove_expired(repo.clock.now())
    assert await repo.get_bytes("m1") == (200, content)


def saved(directory: Path, content: bytes) -> tuple[Path, str]:
    """These bytes as a file, and their SHA-256."""
    path = directory / "model.safetensors"
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


async def test_an_upload_that_is_too_large_is_refused(repo: Repository) -> None:
    """No more is taken than the spool is for."""
    await repo.store(profile("m1"))
    assert (await repo.put_bytes("m1", bytes((8 << 20) + 1)))[0] == 413


async def test_any_model_id_fits_into_the_address(repo: Repository) -> None:
    """The address in mlModelUri leads to the bytes, whatever characters the mlModelId has."""
    _, body = await repo.store(profile("a/b c?%#ü"))
    address = body["mlModels"][0]["mlModelUri"]["uri"]
    content = safetensors()
    assert (await repo.call("PUT", address, data=content))[0] == 204
    async with repo.session.get(address, headers=token("owner")) as response:
        assert await response.read() == content


async def test_a_training_fills_the_place_that_it_reserved(repo: Repository, tmp_path: Path) -> None:
    """The result of a training is a model of its own, with its base, for those whom the base was for."""
    await repo.store(profile("base", storeDiscReqs=PUBLIC, domain="IMAGE_RECOGNITION", vendors=["acme"]))
    await repo.artifacts.reserve("owner", await repo.models.get("base"), "result")
    assert (await repo.get_bytes("result"))[0] == 409
    content = safetensors()
    path, sha256 = saved(tmp_path, content)
    for _ in range(2):
        await repo.artifacts.complete(
            "result",
            path,
            sha256,
            observed_perf={"resourceAddr": 90},
            training_info={"baseModelId": "base", "dataSources": "d1"},
        )
    found = await repo.models.accessible(Caller("other", vendor="acme"), "result")
    assert (found.owner, found.info["domain"], found.info["vendors"]) == (
        "owner",
        "IMAGE_RECOGNITION",
        ["acme"],
    )
    assert found.info["phaseInfo"] == {
        "phase": "TRAINED",
        "observedPerf": {"resourceAddr": 90},
        "trainingInfo": {"baseModelId": "base", "dataSources": "d1"},
    }
    assert await repo.get_bytes("result") == (200, content)
    assert await repo.artifact_count() == 1


async def test_the_result_on_somebody_elses_model_is_private(repo: Repository, tmp_path: Path) -> None:
    """Whoever trains another owner's model does not publish it by that."""
    await repo.store(profile("base", storeDiscReqs=PUBLIC))
    await repo.artifacts.reserve("trainer", await repo.models.get("base"), "result")
    await repo.artifacts.complete("result", *saved(tmp_path, safetensors()))
    assert (await repo.get_bytes("result", subject="trainer"))[0] == 200
    assert (await repo.get_bytes("result", subject="owner"))[0] == 404


async def test_a_training_that_fails_leaves_no_model(repo: Repository, tmp_path: Path) -> None:
    """An abandoned place is gone with its storage; a model that is complete is not touched."""
    await repo.artifacts.reserve("owner", None, "failed")
    await repo.artifacts.abandon("failed")
    await repo.artifacts.abandon("failed")
    assert await repo.models.get("failed") is None
    assert (await repo.call("GET", "/mlr-mlmm/v1/storages"))[2] == []
    with pytest.raises(NotFound):
        await repo.artifacts.complete("failed", *saved(tmp_path, safetensors()))
    await repo.artifacts.reserve("owner", None, "made")
    await repo.artifacts.complete("made", *saved(tmp_path, safetensors()))
    await repo.artifacts.abandon("made")
    assert (await repo.get_bytes("made"))[0] == 200


async def test_two_uploads_at_once_leave_one_whole_file(repo: Repository) -> None:
    """Of two files put at the same time for one model, one is kept, whole."""
    await repo.store(profile("m1"))
    files = [safetensors(fill=0.1), safetensors(fill=0.2)]
    answers = await asyncio.gather(*(repo.put_bytes("m1", file) for file in files), return_exceptions=True)
    assert any(isinstance(answer, tuple) and answer[0] == 204 for answer in answers)
    assert (await repo.get_bytes("m1"))[1] in files


async def test_onnx_models(repo: Repository) -> None:
    """Where interopInfo is ONNX the file is an ONNX model, and no other; everywhere else it is none."""
    onnx = bytes([0x08, 10, 0x3A, 3]) + b"\x0a\x01g"
    await repo.store(profile("onnx", interopInfo="ONNX"), profile("other", interopInfo="safetensors"))
    assert (await repo.put_bytes("onnx", onnx))[0] == 204
    assert (await download(repo, "onnx"))[2] == onnx
    for model, content in (("onnx", safetensors(10)), ("other", onnx)):
        status, _, problem = await repo.put_bytes(model, content)
        assert (status, problem["cause"]) == (400, "INVALID_ML_MODEL")
