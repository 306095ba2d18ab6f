"""The VAL server's client against a real AIMLE server: clients, storages, models, profiles, tokens."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from aimle_client.errors import (
    Conflict,
    Forbidden,
    NotFound,
    RequestRefused,
    ServerUnavailable,
    TransferFailed,
    Unauthorized,
    UnexpectedAnswer,
)
from aimle_client.http import RetryPolicy
from aimle_client.testing import RunningServer, running_server
from aimle_client.val import (
    ClientCredentials,
    OperationInfo,
    StopWhen,
    TrainingProfile,
    ValServer,
    discovery_criteria,
    fl_member,
    model_criteria,
)
from ml_repository.database import Database
from tests.support import Listener, ManualClock
from tests.support_val import PARAMETERS, SERVICE, criteria, serving, ues, val_server

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """The AIMLE server."""
    async with serving(mongo_url, database) as running:
        yield running


@pytest.fixture
async def val(server: RunningServer) -> AsyncIterator[ValServer]:
    """The first VAL server."""
    async with val_server(server) as client:
        yield client


# Clients


async def test_discovery_finds_who_fulfils_the_criteria(server: RunningServer, val: ValServer) -> None:
    """Clients with the data are found, as many as wanted, and nobody for data that nobody has."""
    async with ues(server, "ue-1", "ue-2"):
        assert set((await val.discover(criteria())).clients) == {"ue-1", "ue-2"}
        assert len((await val.discover(criteria(), number=1)).clients) == 1
        other = discovery_criteria(SERVICE, datasets=["letters"])
        assert (await val.discover(other)).clients == ()


async def test_selection_by_criteria_forms_a_set(server: RunningServer, val: ValServer) -> None:
    """Clients that agree are in the set, and know its identity."""
    async with ues(server, "ue-1", "ue-2") as clients:
        chosen = await val.select(criteria(), req_num=2, min_num=2)
        assert set(chosen.clients) == {"ue-1", "ue-2"}
        assert all(client.status.client_sets == {chosen.client_set} for client in clients)


async def test_selection_of_named_clients(server: RunningServer, val: ValServer) -> None:
    """Only those that are named are asked."""
    async with ues(server, "ue-1", "ue-2") as (_, other):
        chosen = await val.select(clients=["ue-1"], service=SERVICE)
        assert chosen.clients == ("ue-1",)
        assert not other.status.client_sets


async def test_too_few_clients_make_no_set(server: RunningServer, val: ValServer) -> None:
    """Fewer than the minimum is a refusal with its cause."""
    async with ues(server, "ue-1"):
        with pytest.raises(Forbidden) as caught:
            await val.select(criteria(), req_num=3, min_num=2)
    assert caught.value.cause == "NOT_ENOUGH_CLIENTS"


async def test_wrong_criteria_are_named(val: ValServer) -> None:
    """A refusal says which attribute is wrong."""
    with pytest.raises(RequestRefused) as caught:
        await val.discover({"serviceReq": {"valServId": SERVICE}, "aimlOpers": ["MODEL_TRAINING"]})
    assert caught.value.status == 400
    assert [wrong.param for wrong in caught.value.invalid_params] == ["filt-criteria/clientAppCap"]


async def test_a_task_is_started_and_stopped_at_clients(server: RunningServer, val: ValServer) -> None:
    """START carries the task's addresses to the client and names it; STOP ends it, and may be repeated."""
    info = OperationInfo("image", "http://models.example/m", "http://models.example/up", 60)
    async with ues(server, "ue-1") as (client,):
        started = await val.start_operation(clients=["ue-1"], info=info, stop_when=[StopWhen(accuracy=90)])
        assert started.mode == "START"
        assert started.task_id
        [operation] = client.status.operations
        assert operation.startswith(f"{started.task_id}.")
        for _ in range(2):
            stopped = await val.stop_operation(clients=["ue-1"], task_id=started.task_id)
            assert (stopped.mode, stopped.task_id) == ("STOP", started.task_id)
        assert client.status.operations == ()


# Storages


def profile(model_id: str, **info: Any) -> dict[str, Any]:
    """An MLModelProfile."""
    return {"mlModelInfo": {"mlModelId": model_id, "phaseInfo": {"phase": "NOT_TRAINED"}, **info}}


async def test_storages_live_from_create_to_delete(val: ValServer) -> None:
    """A storage is made, read, replaced, changed in part, listed and deleted."""
    made = await val.create_storage({"mlModels": [profile("m/1")]})
    assert (await val.get_storage(made.storage_id)).content == made.content
    replaced = await val.replace_storage(made.storage_id, {"mlModels": [profile("m/1"), profile("m/2")]})
    assert [entry["mlModelInfo"]["mlModelId"] for entry in replaced.content["mlModels"]] == ["m/1", "m/2"]
    patch = {"mlModels": [profile("m/2", domain="SPEECH_RECOGNITION")]}
    changed = await val.modify_storage(made.storage_id, patch)
    assert changed.content["mlModels"][0]["mlModelInfo"]["domain"] == "SPEECH_RECOGNITION"
    assert await val.list_storages() == [changed.content]
    assert await val.list_storages(storage_ids=["another"]) == []
    await val.delete_storage(made.storage_id)
    with pytest.raises(NotFound):
        await val.get_storage(made.storage_id)


async def test_a_foreign_storage_is_not_there(server: RunningServer, val: ValServer) -> None:
    """Another VAL server's storage can neither be read nor deleted."""
    made = await val.create_storage({"mlModels": [profile("m-1")]})
    async with val_server(server, "val-2") as other:
        for attempt in (other.get_storage, other.delete_storage):
            with pytest.raises(NotFound):
                await attempt(made.storage_id)
        assert await other.list_storages() == []


async def test_a_storage_that_breaks_a_rule(val: ValServer) -> None:
    """The refusal points into the document; a used identifier is a conflict."""
    with pytest.raises(RequestRefused) as caught:
        await val.create_storage({"mlModels": [profile("m-1", customDomain="cats")]})
    assert [wrong.param for wrong in caught.value.invalid_params] == ["/mlModels/0/mlModelInfo/customDomain"]
    await val.create_storage({"mlModels": [profile("m-1")]})
    with pytest.raises(Conflict):
        await val.create_storage({"mlModels": [profile("m-1")]})


# FL members


async def test_fl_members_live_from_registration_to_deregistration(val: ValServer) -> None:
    """A member registers, is read, states something else, changes a part of that and leaves."""
    weekends = [{"daysOfWeek": [6, 7]}]
    until = (datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC))
    stated = fl_member("val-1", group="vision", available=weekends, models=["digits"], valid=until)
    made = await val.register_fl_member(stated)
    assert made.content == stated
    assert await val.get_fl_member(made.configuration_id) == made
    server = fl_member("val-1", group="vision", role="FL_SERVER", resources="PREMIUM_RESOURCE_USAGE")
    assert (await val.replace_fl_member(made.configuration_id, server)).content == server
    patch = {"flMbrId": "val-1", "supMlModelId": ["letters"]}
    assert (await val.modify_fl_member(made.configuration_id, patch)).content == server | patch
    await val.deregister_fl_member(made.configuration_id)
    with pytest.raises(NotFound):
        await val.get_fl_member(made.configuration_id)


async def test_an_fl_member_of_another_val_server(server: RunningServer, val: ValServer) -> None:
    """It is not there for others, and its identity is taken."""
    made = await val.register_fl_member(fl_member("member", group="vision"))
    async with val_server(server, "val-2") as other:
        with pytest.raises(NotFound):
            await other.get_fl_member(made.configuration_id)
        with pytest.raises(Forbidden) as caught:
            await other.register_fl_member(fl_member("member", group="vision"))
    assert caught.value.cause == "FL_MEMBER_ID_IN_USE"


async def test_an_fl_member_that_makes_no_sense(val: ValServer) -> None:
    """The refusal points into the document; misspelt values are refused before anything is sent."""
    over = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
    with pytest.raises(RequestRefused) as caught:
        await val.register_fl_member(fl_member("val-1", group="vision", valid=over))
    assert [wrong.param for wrong in caught.value.invalid_params] == ["/timeValidity/stopTime"]
    with pytest.raises(ValueError, match="FL_CLEINT"):
        fl_member("val-1", group="vision", role="FL_CLEINT")


# Models and their bytes


async def test_what_is_stored_is_what_is_downloaded(val: ValServer, tmp_path: Path) -> None:
    """Tensors come back bit by bit, the file can be kept, and the model knows its size."""
    stored = await val.store_model("digits", PARAMETERS, domain="IMAGE_RECOGNITION", metadata={"a": "b"})
    assert (stored.model_id, stored.phase) == ("digits", "NOT_TRAINED")
    kept = tmp_path / "kept.safetensors"
    parameters = await val.download_model("digits", kept)
    assert parameters.keys() == PARAMETERS.keys()
    assert all((parameters[name] == PARAMETERS[name]).all() for name in PARAMETERS)
    (found,) = await val.find_models(model_criteria("digits"))
    assert found.size == kept.stat().st_size
    assert found.uri == stored.uri
    assert b'"a":"b"' in kept.read_bytes()


async def test_progress_is_told_both_ways(val: ValServer) -> None:
    """`progress` counts up to the size of the file, and no further."""
    big = {"weight": np.random.default_rng(0).random(2_000_000)}
    up: list[tuple[int, int | None]] = []
    down: list[tuple[int, int | None]] = []
    await val.store_model("big", big, progress=lambda done, total: up.append((done, total)))
    parameters = await val.download_model("big", progress=lambda done, total: down.append((done, total)))
    assert (parameters["weight"] == big["weight"]).all()
    for seen in (up, down):
        size = seen[-1][1]
        assert seen[-1] == (size, size)
        assert len(seen) > 2
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


async def test_a_file_goes_up_as_it_is(val: ValServer, tmp_path: Path) -> None:
    """A safetensors file can be stored, and replaced by another, without being read into memory."""
    await val.store_model("one", PARAMETERS)
    file = await val.download_file("one", tmp_path / "one.safetensors")
    await val.store_model("two", file)
    again = await val.download_file("two", tmp_path / "two.safetensors")
    assert again.read_bytes() == file.read_bytes()
    await val.upload_model("two", {"weight": np.ones(1, np.float32)})
    assert (await val.download_model("two"))["weight"] == 1


async def test_bytes_that_are_no_model_leave_nothing_behind(val: ValServer, tmp_path: Path) -> None:
    """A failed upload takes the new storage with it, so that the identifier is free again."""
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model")
    with pytest.raises(RequestRefused) as caught:
        await val.store_model("digits", broken)
    assert caught.value.cause == "INVALID_ML_MODEL"
    assert await val.list_storages() == []
    await val.store_model("digits", PARAMETERS)


async def test_a_private_model_is_nobody_elses(server: RunningServer, val: ValServer, tmp_path: Path) -> None:
    """Another VAL server neither finds nor downloads nor overwrites it; a public one it may have."""
    await val.store_model("mine", PARAMETERS, access="PRIVATE_USE_ONLY")
    await val.store_model("ours", PARAMETERS, access="PUBLICLY_AVAILABLE")
    async with val_server(server, "val-2") as other:
        assert [model.model_id for model in await other.find_models(model_criteria())] == ["ours"]
        with pytest.raises(NotFound) as caught:
            await other.download_model("mine", tmp_path / "mine")
        assert caught.value.cause == "ML_MODEL_NOT_FOUND"
        assert caught.value.detail
        assert not (tmp_path / "mine").exists()
        with pytest.raises(NotFound):
            await other.upload_model("mine", PARAMETERS)
        with pytest.raises(Forbidden):
            await other.upload_model("ours", PARAMETERS)
        assert (await other.download_model("ours")).keys() == PARAMETERS.keys()


async def test_a_model_for_some(server: RunningServer, val: ValServer) -> None:
    """Who is named may have a restricted model, and nobody else."""
    await val.store_model("ours", PARAMETERS, val_servers=["val-2"])
    await val.store_model("theirs", PARAMETERS, access="RESTRICTED", val_clients=["ue-1"])
    async with val_server(server, "val-2") as other, val_server(server, "ue-1") as client:
        assert (await other.download_model("ours")).keys() == PARAMETERS.keys()
        assert (await client.download_model("theirs")).keys() == PARAMETERS.keys()
        with pytest.raises(NotFound):
            await other.download_model("theirs")
        with pytest.raises(NotFound):
            await client.download_model("ours")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"access": "PUBLIC"}, "access: 'PUBLIC' is none of PUBLICLY_AVAILABLE, RESTRICTED"),
        ({"access": "RESTRICTED"}, "access: RESTRICTED needs val_servers"),
        ({"access": "PRIVATE_USE_ONLY", "val_servers": ["val-2"]}, "not with PRIVATE_USE_ONLY"),
        ({"access": {"accessReq": "RESTRICTED"}, "val_clients": ["ue-1"]}, "^access: "),
        ({"phase": "NEW"}, "phase: 'NEW' is none of NOT_TRAINED"),
        ({"usages": ["TRAIN"]}, "usages: 'TRAIN' is none of TRAINING, INFERENCE"),
        ({"domain": "CATS"}, "domain: 'CATS' is none of"),
        ({"duration": -1}, "duration: -1 is not at least 0"),
    ],
)
async def test_a_model_that_makes_no_sense_is_not_stored(wrong: dict[str, Any], reason: str) -> None:
    """A misspelt value is named, with those that there are, before anything is sent."""
    async with ValServer("http://127.0.0.1:1", retry=ONCE) as val:
        with pytest.raises(ValueError, match=reason):
            await val.store_model("digits", **wrong)


async def test_a_selection_that_makes_no_sense_is_not_sent() -> None:
    """Either criteria or names say who is asked, and a number goes with criteria only."""
    async with ValServer("http://127.0.0.1:1", retry=ONCE) as val:
        for wrong in ({}, {"criteria": criteria(), "clients": ["ue-1"]}, {"clients": ["ue-1"], "req_num": 1}):
            with pytest.raises(ValueError, match="criteria"):
                await val.select(**wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="clients"):
            await val.select(clients="ue-1")


async def test_retrieval_gives_addresses(val: ValServer) -> None:
    """What can be downloaded is named with its address; where nothing can, that is NotFound."""
    with pytest.raises(NotFound) as caught:
        await val.retrieve_models()
    assert caught.value.cause == "ML_MODEL_NOT_FOUND"
    stored = await val.store_model("digits", PARAMETERS, services=[SERVICE], usages=["TRAINING"])
    (found,) = await val.retrieve_models(model_criteria(services=[SERVICE], usages=["TRAINING"]))
    assert (found.model_id, found.uri) == ("digits", stored.uri)


async def test_finding_nothing_is_an_empty_list(val: ValServer) -> None:
    """No model is no error."""
    await val.store_model("digits", PARAMETERS)
    assert await val.find_models(model_criteria(phase="TRAINED")) == []


async def test_a_model_that_nothing_replaces(val: ValServer) -> None:
    """Without a better one, and without a way to make one, an update is a conflict with its cause."""
    await val.store_model("digits", PARAMETERS)
    with pytest.raises(Conflict) as caught:
        await val.update_model("digits", accuracy=50, precision=50, recall=50)
    assert caught.value.cause == "NO_UPDATE_AVAILABLE"
    with pytest.raises(ValueError, match="all three"):
        await val.update_model("digits", accuracy=50)


# Training profiles


async def test_a_training_profile_is_kept_until_it_is_deleted(val: ValServer) -> None:
    """What is left open gets the server's default; after deletion there is none."""
    put = await val.put_training_profile("a/b", TrainingProfile(strategy="FEDPROX", proximal_mu=0.1))
    assert (put.strategy, put.proximal_mu, put.local_epochs) == ("FEDPROX", 0.1, 1)
    assert await val.get_training_profile("a/b") == put
    await val.delete_training_profile("a/b")
    with pytest.raises(NotFound):
        await val.get_training_profile("a/b")


async def test_a_training_profile_out_of_range(val: ValServer) -> None:
    """The refusal names the attribute of the wire."""
    with pytest.raises(RequestRefused) as caught:
        await val.put_training_profile("digits", TrainingProfile(min_reports=2))
    assert [wrong.param for wrong in caught.value.invalid_params] == ["/minReports"]


# Tokens and refusals


async def test_an_expired_token_is_renewed(mongo_url: str, database: Database) -> None:
    """A VAL server that was idle for longer than its tokens live just goes on."""
    clock = ManualClock()
    settings = {"auth.token_lifetime": 60}
    async with (
        serving(mongo_url, database, ("val-1",), settings=settings, clock=clock) as server,
        ValServer(server.url, server.credentials["val-1"]) as val,  # whose own clock stands still
    ):
        await val.store_model("digits", PARAMETERS)
        clock.advance(3600)
        assert (await val.find_models(model_criteria("digits")))[0].model_id == "digits"
        clock.advance(3600)
        assert (await val.download_model("digits")).keys() == PARAMETERS.keys()


async def test_wrong_credentials(server: RunningServer) -> None:
    """Who has the wrong secret gets nowhere, and who has no token either."""
    async with ValServer(server.url, ClientCredentials("val-1", "guess")) as val:
        with pytest.raises(Unauthorized) as caught:
            await val.list_storages()
    assert caught.value.cause == "invalid_client"
    async with ValServer(server.url) as val:
        with pytest.raises(Unauthorized):
            await val.list_storages()


async def test_a_server_that_is_not_there() -> None:
    """Nobody at the address: a request is ServerUnavailable, a transfer has failed."""
    async with ValServer("http://127.0.0.1:1", retry=ONCE) as val:
        with pytest.raises(ServerUnavailable):
            await val.discover(criteria())
        with pytest.raises(TransferFailed):
            await val.download_model("digits")


async def test_nothing_works_outside_of_its_block(server: RunningServer) -> None:
    """Before and after `async with` an operation says what is missing."""
    val = val_server(server)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="async with"):
            await val.list_storages()
        async with val:
            assert await val.list_storages() == []


async def test_something_that_is_no_aimle_server() -> None:
    """An answer that the API does not have is UnexpectedAnswer, and names what is wrong with it."""
    async with Listener() as listener, ValServer(listener.url("")) as val:
        listener.answers = [web.json_response({"clients": "all"}), web.json_response({"clients": ["ue-1"]})]
        with pytest.raises(UnexpectedAnswer, match="clients"):
            await val.discover(criteria())
        with pytest.raises(UnexpectedAnswer, match="client set"):
            await val.select(criteria())


# The server for applications' tests


async def test_a_server_without_further_ado() -> None:
    """With no arguments `running_server` brings its own database and takes every request."""
    async with running_server() as server, ValServer(server.url) as val:
        assert server.credentials == {}
        await val.store_model("digits", PARAMETERS)
        assert (await val.download_model("digits")).keys() == PARAMETERS.keys()


async def test_a_setting_that_does_not_exist() -> None:
    """A misspelt setting is an error and not ignored."""
    with pytest.raises(TypeError, match=r"hfl\.timeout"):
        async with running_server({"hfl.timeout": 5}):
            pass
