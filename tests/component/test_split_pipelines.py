"""Split operation pipelines at a whole server (TS 23.482 8.14.2.3, 8.14.2.6, 8.14.2.7)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ml_repository.database import Database
from ml_repository.split_pipelines import KEPT
from tests.support import eventually
from tests.support_split_pipelines import (
    OTHER,
    PATCH,
    PIPELINES,
    VAL,
    Json,
    SplitWorld,
    split_world,
    stage,
    valid,
)


@pytest.fixture
async def world(mongo_url: str, database: Database, tmp_path: Path) -> AsyncIterator[SplitWorld]:
    """A model for everybody; no node is there yet."""
    async with split_world(mongo_url, database, tmp_path / "key.pem") as opened:
        await opened.store()
        yield opened


def request(*stages: Json, uri: str = "http://127.0.0.1:9/", **wanted: Any) -> Json:
    """A SplitOpPipelineCreateReq."""
    return {
        "requestorId": "ue-1",
        "notifUri": uri,
        "splitOpRequirements": {"stageInfo": list(stages), **wanted},
    }


def patch_of(profile: Json, **changes: Any) -> Json:
    """A SplitOpPipelinePatch that changes attributes of the profile."""
    return {
        "notifUri": "http://127.0.0.1:9/",
        "splitOpPipelineId": profile["splitOpPipelineId"],
        "splitOpPipelineInfo": {"splitOpProfile": {**profile, **changes}},
    }


async def test_making_a_pipeline(world: SplitWorld) -> None:
    """The profile has the stages as they were asked for, their ends as its own, and each node is told its part."""
    ue, edge, cloud = [await world.add_node(name) for name in ("ue", "edge", "cloud")]
    await world.store("second")
    await world.add_node("other", model="second")
    stages = stage(ue, edge), stage(world.nodes["other"].url("/other"), model="second", stage_id="2")
    profile, location = await world.create(
        *stages, usageInfo={"inputFreq": 5}, notificationTarget={"fqdn": "val.example"}
    )
    pipeline = profile["splitOpPipelineId"]
    assert location == f"{world.server.url}{PIPELINES}/{pipeline}"
    assert profile == {
        "splitOpPipelineId": pipeline,
        "stageInfo": list(stages),
        "usageInfo": {"inputFreq": 5},
        "headEp": {"uri": ue},
        "tailEp": {"uri": world.nodes["other"].url("/other")},
        "aimle": {"state": "READY", "version": 1, "notificationTarget": {"fqdn": "val.example"}},
    }
    for name in ("ue", "edge", "other"):
        await world.until_node_told(name, "CREATED")
        [told] = world.nodes[name].bodies
        assert told["splitOpEventId"] == "SPLIT_OP_PIPELINE_INFO"
        assert told["splitOpPipelineInfo"]["splitOpProfile"] == profile
    assert world.nodes["cloud"].bodies == []
    assert cloud not in str(profile)


async def test_nodes_hear_of_every_change(world: SplitWorld) -> None:
    """One that comes in, one that stays and one that is left out, by PUT, by PATCH, and when the pipeline ends."""
    ue, edge, cloud = [await world.add_node(name) for name in ("ue", "edge", "cloud")]
    profile, location = await world.create(stage(ue, edge))
    status, answer, _ = await world.call("PUT", location, request(stage(ue, cloud)))
    assert (status, answer["splitOpProfile"]["stageInfo"]) == (200, [stage(ue, cloud)])
    assert answer["splitOpProfile"]["aimle"] == {"state": "READY", "version": 2}
    body = patch_of(profile, stageInfo=[stage(cloud)], headEp={"uri": cloud}, tailEp={"uri": cloud})
    status, answer, _ = await world.call("PATCH", location, body, headers=PATCH)
    assert (status, answer["splitOpProfile"]["stageInfo"]) == (200, [stage(cloud)])
    assert (await world.call("DELETE", location))[0] == 204
    await world.until_node_told("ue", "CREATED", "UPDATED", "DELETED")
    await world.until_node_told("edge", "CREATED", "DELETED")
    await world.until_node_told("cloud", "CREATED", "UPDATED", "DELETED")
    left = world.nodes["edge"].bodies[-1]["splitOpPipelineInfo"]["splitOpProfile"]
    assert cloud not in str(left), "who is out does not hear who is in"
    for method, again in (("PUT", request(stage(ue))), ("PATCH", body), ("DELETE", None)):
        headers = PATCH if method == "PATCH" else {}
        assert (await world.call(method, location, again, headers=headers))[0] == 404


async def test_a_patch_changes_what_it_names(world: SplitWorld) -> None:
    """null removes, what is not named stays, and the requestor's address is the new one."""
    ue, edge = await world.add_node("ue"), await world.add_node("edge")
    profile, location = await world.create(stage(ue), usageInfo={"inputFreq": 1, "inputSize": 7})
    body = patch_of(profile, usageInfo={"inputFreq": None}, aimle={"multiClient": True})
    body["notifUri"] = world.val.url("/elsewhere")
    _, answer, _ = await world.call("PATCH", location, body, headers=PATCH)
    assert answer["splitOpProfile"]["usageInfo"] == {"inputSize": 7}
    assert answer["splitOpProfile"]["aimle"] == {"state": "READY", "version": 2, "multiClient": True}
    updated = ("UPDATED", profile["splitOpPipelineId"], "READY")
    await world.until_told(updated, path="/elsewhere")
    only = {**body, "splitOpPipelineInfo": {}}
    _, same, _ = await world.call("PATCH", location, only, headers=PATCH)
    assert same["splitOpProfile"]["usageInfo"] == {"inputSize": 7}
    await world.until_told(updated, updated, path="/elsewhere")
    assert world.told("/own") == []
    for wrong, param in (
        ({**body, "splitOpPipelineId": "another"}, "/splitOpPipelineId"),
        (
            patch_of(profile, splitOpPipelineId="another"),
            "/splitOpPipelineInfo/splitOpProfile/splitOpPipelineId",
        ),
        (patch_of(profile, headEp={"uri": edge}), "/splitOpPipelineInfo/splitOpProfile/headEp"),
        ({**body, "splitOpPipelineInfo": {"splitOpProfile": None}}, "/splitOpPipelineInfo/splitOpProfile"),
        (
            patch_of(profile, stageInfo=[stage(ue, model="none")]),
            "/splitOpPipelineInfo/splitOpProfile/stageInfo/0/mlModelId",
        ),
    ):
        status, problem, _ = await world.call("PATCH", location, wrong, headers=PATCH)
        assert (status, problem.get("invalidParams", [{}])[0].get("param")) == (400, param), problem


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"nodeOrder": [{"uri": "http://127.0.0.1:9/nobody"}]}, "nodeOrder/0"),
        ({"nodeOrder": [{"fqdn": "node.example"}]}, "nodeOrder/0"),
        ({"nodeOrder": [{"ipv4Addrs": ["192.0.2.1"]}]}, "nodeOrder/0"),
        ({"mlModelId": "of-somebody-else"}, "mlModelId"),
        ({"mlModelId": "not-stored"}, "mlModelId"),
        ({"numNodes": "2"}, "numNodes"),
    ],
)
async def test_what_cannot_be_run_is_refused_by_name(world: SplitWorld, change: Json, param: str) -> None:
    """Nodes that are not registered for the model, models that are not there for the caller, wrong numbers."""
    await world.store("of-somebody-else", caller=OTHER, storeDiscReqs={"duration": 3600})
    ue = await world.add_node("ue", "*")
    _, location = await world.create(stage(ue))
    for method, path in (("POST", PIPELINES), ("PUT", location)):
        status, problem, _ = await world.call(method, path, request(stage(ue, **change)))
        assert status == 400
        assert f"/splitOpRequirements/stageInfo/0/{param}" in {
            one["param"] for one in problem["invalidParams"]
        }
    await world.until_node_told("ue", "CREATED")


async def test_two_stages_of_one_name(world: SplitWorld) -> None:
    """A stageId is that of one stage."""
    ue = await world.add_node("ue")
    status, problem, _ = await world.call("POST", PIPELINES, request(stage(ue), stage(ue)))
    assert (status, problem["invalidParams"][0]["param"]) == (400, "/splitOpRequirements/stageInfo/1/stageId")


async def test_what_a_node_takes(world: SplitWorld) -> None:
    """A node is only used for the model, and as much as, it was registered for; what it does not say has no limit."""
    capability = {"modelInfo": {"modelId": "model", "modelVersion": "1", "suppOperation": ["INFERENCE"]}}
    ue = await world.add_node("ue", sonRegCapability={**capability, "usageInfo": {"inputFreq": 10}})
    other = await world.add_node("other", model="another")
    await world.create(stage(ue), usageInfo={"inputFreq": 10, "outputSize": 10**6})
    for wrong in (request(stage(ue), usageInfo={"inputFreq": 11}), request(stage(other))):
        status, problem, _ = await world.call("POST", PIPELINES, wrong)
        assert (status, problem["invalidParams"][0]["param"]) == (
            400,
            "/splitOpRequirements/stageInfo/0/nodeOrder/0",
        )


async def test_nodes_by_ip_address(world: SplitWorld) -> None:
    """A node that registers an IP address is named by it, one of several; it is not told, it has no URI."""
    await world.made("/aimles-sonreg/v1/configurations", _by_address("192.0.2.1"))
    place = {"ipv4Addrs": ["192.0.2.9", "192.0.2.1"]}
    profile, _ = await world.create(
        {"stageId": "1", "headEp": place, "tailEp": place, "nodeOrder": [place], "mlModelId": "model"}
    )
    assert profile["aimle"]["state"] == "READY"


def _by_address(address: str) -> Json:
    capability = {"modelInfo": {"modelId": "*", "modelVersion": "1", "suppOperation": ["INFERENCE"]}}
    return {"nodeInfo": {"ipv4Addr": address, "port": 8080}, "sonRegCapability": capability}


async def test_a_node_that_does_not_count_yet(world: SplitWorld) -> None:
    """Before its time has come, and after it, a node cannot be used."""
    ue = await world.add_node("ue", timeValidity=valid(1, 2))
    assert (await world.call("POST", PIPELINES, request(stage(ue))))[0] == 400
    world.clock.advance(3600)
    await world.create(stage(ue))
    world.clock.advance(3600)
    assert (await world.call("POST", PIPELINES, request(stage(ue))))[0] == 400


async def test_a_node_that_expires_degrades_its_pipelines(world: SplitWorld) -> None:
    """The requestor is told at its address which node is missing, and when it is there again."""
    ue, edge = await world.add_node("ue"), await world.add_node("edge", timeValidity=valid(0, 1))
    profile, _ = await world.create(stage(ue, edge))
    pipeline = profile["splitOpPipelineId"]
    world.clock.advance(3601)
    await world.until_told(("UPDATED", pipeline, "DEGRADED"), path="/own")
    told = world.val.bodies[-1]["splitOpPipelineInfo"]["splitOpProfile"]
    assert told["aimle"] == {"state": "DEGRADED", "version": 1, "missing": [edge]}
    await world.made("/aimles-sonreg/v1/configurations", _again(edge))
    await world.until_told(("UPDATED", pipeline, "DEGRADED"), ("UPDATED", pipeline, "READY"), path="/own")
    await world.call("DELETE", world.registrations["ue"])
    await eventually(lambda: world.told("/own")[-1] == ("UPDATED", pipeline, "DEGRADED"))


def _again(uri: str) -> Json:
    return _by_address("192.0.2.1") | {"nodeInfo": {"uri": uri}}


async def test_others_do_not_have_a_pipeline(world: SplitWorld) -> None:
    """Somebody else's is as unknown as one that does not exist, also for who registered its nodes."""
    ue = await world.add_node("ue", caller=OTHER)
    profile, location = await world.create(stage(ue))
    for method, body in (("PUT", request(stage(ue))), ("PATCH", patch_of(profile)), ("DELETE", None)):
        headers = PATCH if method == "PATCH" else {}
        assert (await world.call(method, location, body, OTHER, headers))[0] == 404
    assert (await world.call("DELETE", location, caller=VAL))[0] == 204


async def test_changes_at_the_same_moment(world: SplitWorld) -> None:
    """Changes that come together all count, one after the other, and the node hears of each."""
    ue = await world.add_node("ue")
    _, location = await world.create(stage(ue))
    bodies = [request(stage(ue), usageInfo={"inputFreq": number}) for number in range(3)]
    answers = await asyncio.gather(*(world.call("PUT", location, body) for body in bodies))
    assert [status for status, _, _ in answers] == [200, 200, 200]
    assert {answer["splitOpProfile"]["aimle"]["version"] for _, answer, _ in answers} == {2, 3, 4}
    await world.until_node_told("ue", "CREATED", "UPDATED", "UPDATED", "UPDATED")


async def test_deleted_pipelines_are_cleaned_up(world: SplitWorld, database: Database) -> None:
    """What has ended is removed once nobody follows it any more; with it, its requestor's watch has ended."""
    ue = await world.add_node("ue")
    _, location = await world.create(stage(ue))
    assert await database["subscriptions"].count_documents({}) == 1
    await world.call("DELETE", location)
    assert await database["subscriptions"].count_documents({}) == 0
    assert await database["split_pipelines"].count_documents({}) == 1
    world.clock.advance(KEPT.total_seconds() + 60)
    await eventually(lambda: _count(database))


async def _count(database: Database) -> bool:
    return await database["split_pipelines"].count_documents({}) == 0
