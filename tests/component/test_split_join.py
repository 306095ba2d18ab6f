"""Joining a split operation pipeline at a whole server (TS 23.482 8.14.2.8)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ml_repository.database import Database
from tests.support_split_pipelines import OTHER, VAL, Json, SplitWorld, split_world, stage

THIRD = "val-3"


@pytest.fixture
async def world(mongo_url: str, database: Database, tmp_path: Path) -> AsyncIterator[SplitWorld]:
    """A model for everybody; no node is there yet."""
    async with split_world(mongo_url, database, tmp_path / "key.pem") as opened:
        await opened.store()
        yield opened


async def call(world: SplitWorld, method: str, profile: Json, caller: str) -> tuple[int, Any]:
    """Status and body of joining (PUT) or leaving (DELETE)."""
    path = f"/aimle-split-join/v1/pipelines/{profile['splitOpPipelineId']}/client"
    body = {"requestorId": caller} if method == "PUT" else None
    status, answer, _ = await world.call(method, path, body, caller)
    return status, answer


async def test_joining_and_leaving(world: SplitWorld) -> None:
    """Who joins learns head, tail and how many use it, once however often it asks; others hear that it has changed."""
    ue = await world.add_node("ue")
    profile, _ = await world.create(stage(ue), aimle={"multiClient": True})
    for _ in range(2):
        status, answer = await call(world, "PUT", profile, OTHER)
        assert status == 200
        assert answer["splitOpProfile"]["headEp"] == {"uri": ue}
        assert answer["splitOpProfile"]["aimle"] == {
            "state": "READY", "version": 2, "multiClient": True, "clients": 2
        }  # fmt: skip
    updated = ("UPDATED", profile["splitOpPipelineId"], "READY")
    await world.until_told(updated, path="/own")
    assert (await call(world, "DELETE", profile, OTHER))[0] == 204
    await world.until_told(updated, updated, path="/own")
    assert "clients" not in (await call(world, "PUT", profile, VAL))[1]["splitOpProfile"]["aimle"]


async def test_whom_it_is_for(world: SplitWorld) -> None:
    """One for a single client cannot be joined; of one that may not be known of, nobody learns that it exists."""
    ue = await world.add_node("ue", "*", caller=OTHER)
    await world.store("private", storeDiscReqs={"duration": 3600})
    single, _ = await world.create(stage(ue))
    private, _ = await world.create(stage(ue, model="private"), aimle={"multiClient": True})
    status, problem = await call(world, "PUT", single, OTHER)
    assert (status, problem["cause"]) == (409, "SPLIT_OP_PIPELINE_FOR_ONE")
    for profile in (single, private, {"splitOpPipelineId": "none"}):
        assert (await call(world, "PUT", profile, THIRD))[0] == 404


async def test_as_many_as_there_is_room_for(world: SplitWorld) -> None:
    """Nodes that take 25 inputs have room for two clients of 10, also when several come together."""
    capability = {"modelInfo": {"modelId": "model", "modelVersion": "1", "suppOperation": ["INFERENCE"]}}
    ue = await world.add_node("ue", sonRegCapability={**capability, "usageInfo": {"inputFreq": 25}})
    profile, _ = await world.create(stage(ue), usageInfo={"inputFreq": 10}, aimle={"multiClient": True})
    answers = await asyncio.gather(*(call(world, "PUT", profile, caller) for caller in (OTHER, THIRD)))
    assert sorted(status for status, _ in answers) == [200, 409]
    [problem] = [answer for status, answer in answers if status == 409]
    assert problem["cause"] == "SPLIT_OP_PIPELINE_FULL"
    [joined] = [caller for caller, (status, _) in zip((OTHER, THIRD), answers, strict=True) if status == 200]
    [waiting] = {OTHER, THIRD} - {joined}
    assert (await call(world, "DELETE", profile, joined))[0] == 204
    assert (await call(world, "PUT", profile, waiting))[0] == 200


async def test_a_pipeline_that_is_for_one_again(world: SplitWorld) -> None:
    """Its owner may close it: those who have joined are out."""
    ue = await world.add_node("ue")
    profile, location = await world.create(stage(ue), aimle={"multiClient": True})
    assert (await call(world, "PUT", profile, OTHER))[0] == 200
    body = {
        "requestorId": VAL,
        "notifUri": world.val.url("/own"),
        "splitOpRequirements": {"stageInfo": [stage(ue)]},
    }
    status, answer, _ = await world.call("PUT", location, body)
    assert (status, answer["splitOpProfile"]["aimle"]) == (200, {"state": "READY", "version": 3})
    assert (await call(world, "DELETE", profile, OTHER))[0] == 404
