"""Gathering participants where the source of candidates itself gives trouble."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from aimle_server.procedures.client_participation import gather_participants, participation_request
from aimle_server.procedures.matching import Candidate
from sbi.errors import Unavailable


class Village:
    """Clients that all agree, and a diary of who was asked what."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    async def participation(self, uri: str, body: Mapping[str, Any]) -> bool:
        self.told.append((uri, body["clientSetPart"]))
        return True


def make_body(candidate: Candidate, part: str) -> Mapping[str, Any]:
    return participation_request(
        requester_id="val",
        client_set_id="set-1",
        part=part,
        operations=["MODEL_TRAINING"],
        service={"valServId": "s"},
    )


def candidate(name: str) -> Candidate:
    return Candidate(client_id=name, uri=name, profile={}, registration_id=name)


async def failing_source() -> AsyncGenerator[Candidate, None]:
    yield candidate("ue-1")
    await asyncio.sleep(0.01)  # ue-1 answers meanwhile
    raise Unavailable("the database does not answer")


async def test_source_that_fails() -> None:
    """When the search for candidates fails, that error is raised, and whoever had joined is let go."""
    village = Village()
    with pytest.raises(Unavailable):
        await gather_participants(village, failing_source(), 2, make_body, timeout=5, patience=5)
    assert village.told == [("ue-1", "JOIN"), ("ue-1", "DEPART")]


async def test_source_is_closed() -> None:
    """A search that could go on is ended when enough clients have joined."""
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[Candidate, None]:
        try:
            for number in range(1_000_000):
                yield candidate(f"ue-{number}")
        finally:
            closed.set()

    found = await gather_participants(Village(), endless(), 2, make_body, timeout=5, patience=5)
    assert [member.client_id for member in found] == ["ue-0", "ue-1"]
    assert closed.is_set()


def test_each_operation_at_each_time() -> None:
    """Several operations with several schedules: each operation with each schedule."""
    nights, weekends = {"timeOfDayStart": "22:00:00Z"}, {"daysOfWeek": [6, 7]}
    body = participation_request(
        requester_id="val",
        client_set_id="set-1",
        part="JOIN",
        operations=["MODEL_TRAINING", "MODEL_SPLIT"],
        service={"valServId": "s"},
        schedules=[nights, weekends],
    )
    assert body["schedAimlOperations"] == [
        {"aimlOperation": "MODEL_TRAINING", "aimlOperSched": nights},
        {"aimlOperation": "MODEL_TRAINING", "aimlOperSched": weekends},
        {"aimlOperation": "MODEL_SPLIT", "aimlOperSched": nights},
        {"aimlOperation": "MODEL_SPLIT", "aimlOperSched": weekends},
    ]
