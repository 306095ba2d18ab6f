"""Campaigns against a node of split operation pipelines: damaged requests, damaged models, damaged frames.

Each run of the tests makes the same requests; `make fuzz` makes many more, and other ones each time.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import requests
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.apis.split_node import API
from aimle_client.split.frames import pack_tensors
from sbi.api import Operation
from tests.contract.support_damage import damaged
from tests.contract.support_fuzz import examples, fenced, in_thread
from tests.support_onnx import chain, inputs
from tests.support_split import BASE, a_node, serving_files

pytestmark = [
    pytest.mark.split,
    pytest.mark.filterwarnings(
        "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
    ),
]

STREAM = "00112233445566778899aabbccddeeff"
OPERATIONS = {operation.operation_id: operation for operation in API.operations}


class Site:
    """A node with a stage, and valid requests to it.

    Attributes:
        root: of its API.
        bodies: valid ones, by operation.
    """

    def __init__(self, uri: str, model: str) -> None:
        self.root = uri + BASE
        self.session = requests.Session()
        load = {"modelUri": model}
        self.stage, self.connected = (
            self.session.post(f"{self.root}/stages", json=load).json() for _ in range(2)
        )
        probe = self.session.post(f"{self.root}/probes").json()
        ends = {"headUri": self.stage["inputUri"], "tailUri": self.stage["resultsUri"]}
        tensor = {"name": "x", "dtype": "float32", "shape": [3, 6]}
        self.bodies: dict[str, Any] = {
            "LoadStage": {"modelUri": model, "sha256": "0" * 64, "batch": 3},
            "ConnectStage": {"uri": self.stage["inputUri"]},
            "MeasureLink": probe,
            "MeasurePipeline": {"pipeline": ends, "tensors": [tensor], "frames": 1},
        }

    def ask(self, operation: Operation, *, body: Any = None, **content: Any) -> requests.Response:
        """The answer to a request; `body` is sent as JSON, also if it has numbers that JSON has not."""
        if body is not None:
            content = {"data": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        stage = self.connected if operation.operation_id == "ConnectStage" else self.stage
        places = {"{stageId}": stage["stageId"], "{streamId}": STREAM, "{sequence:[0-9]+}": "7"}
        path = operation.path
        for variable, value in places.items():
            path = path.replace(variable, value)
        return self.session.request(operation.method, self.root + path, **content)


@asynccontextmanager
async def _running() -> AsyncIterator[tuple[str, str]]:
    """The URI of a node, and the URL of a model."""
    async with serving_files() as files, a_node() as node:
        yield node.uri, files.put(chain())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One for all tests, which is well after whatever was done to it."""
    with fenced(), in_thread(_running()) as ((uri, model), _):
        made = Site(uri, model)
        yield made
        stages = made.session.get(f"{made.root}/stages").json()["stages"]
        assert made.stage["stageId"] in [stage["stageId"] for stage in stages]
        profiled = made.session.post(f"{made.root}/profiles", data=chain(), params={"batch": "4"})
        assert profiled.status_code == 200, profiled.text
        made.session.close()


def judge(operation: Operation, answer: requests.Response) -> None:
    """A success of the operation, or a refusal that says why."""
    if answer.status_code < 400:
        assert answer.status_code in operation.answers or answer.status_code == 204
        return
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json()["status"] == answer.status_code


@pytest.mark.parametrize("name", ["LoadStage", "ConnectStage", "MeasureLink"])
@examples(25)
@given(data=st.data())
def test_damaged_bodies(site: Site, name: str, data: st.DataObject) -> None:
    """However a valid body is damaged, it is done or refused."""
    judge(OPERATIONS[name], site.ask(OPERATIONS[name], body=data.draw(damaged(site.bodies[name]))))


@examples(25)
@given(data=st.data())
def test_damaged_measurements(site: Site, data: st.DataObject) -> None:
    """What is no measurement is refused; one of a pipeline that does not answer takes a minute, so none is sent."""
    operation = OPERATIONS["MeasurePipeline"]
    body = data.draw(damaged(site.bodies["MeasurePipeline"]))
    same_ends = isinstance(body, dict) and body.get("pipeline") == site.bodies["MeasurePipeline"]["pipeline"]
    assume(same_ends or operation.body.validate(body))
    judge(operation, site.ask(operation, body=body))


@st.composite
def flipped(draw: st.DrawFn, content: bytes) -> bytes:
    """These bytes with a few others among them, or cut short."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)))]) if draw(st.booleans()) else bytes(changed)


@examples(60)
@given(data=st.data())
def test_damaged_models(site: Site, data: st.DataObject) -> None:
    """A model that is none is refused, and the node goes on."""
    content = data.draw(flipped(chain()))
    judge(OPERATIONS["ProfilePart"], site.ask(OPERATIONS["ProfilePart"], data=content, params={"batch": "2"}))


@examples(40)
@given(data=st.data())
def test_damaged_frames(site: Site, data: st.DataObject) -> None:
    """Whatever a frame holds, its result says what came of it."""
    content = data.draw(flipped(pack_tensors(inputs(chain()))))
    answer = site.ask(OPERATIONS["PutInput"], data=content)
    judge(OPERATIONS["PutInput"], answer)
    if answer.status_code < 400:
        judge(OPERATIONS["GetResult"], site.ask(OPERATIONS["GetResult"]))
