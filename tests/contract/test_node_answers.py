"""A whole story over every operation of a node: each answer is what the document says."""

from pathlib import Path

import aiohttp
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.apis import NODE_APIS
from aimle_client.split.frames import pack_tensors
from sbi.clock import Clock
from sbi.issuer import TokenIssuer, load_or_create_key
from tests.contract.support_answers import Caller, Judge
from tests.support_onnx import chain, inputs
from tests.support_split import BASE, a_node, serving_files

pytestmark = pytest.mark.split

STREAM = "00112233445566778899aabbccddeeff"


async def test_every_operation_of_a_node_answers_as_documented(tmp_path: Path) -> None:
    """A part is profiled, loaded, connected, used in both ways, measured and unloaded."""
    issuer = TokenIssuer(load_or_create_key(tmp_path / "key.pem"), "aimle", "aimle", 3600, Clock())
    async with aiohttp.ClientSession() as session, serving_files() as files, a_node() as node:
        caller = Caller(Judge.of_all_documents(), session, issuer)
        root, judge = node.uri + BASE, caller.judge
        await caller.call("POST", f"{root}/profiles", data=chain(), params={"batch": "4"})
        body = {"modelUri": files.put(chain()), "batch": 3}
        stage, headers = await caller.call("POST", f"{root}/stages", body)
        other, _ = await caller.call("POST", f"{root}/stages", body)
        assert len((await caller.call("GET", f"{root}/stages"))[0]["stages"]) == 2
        path = stage["inputUri"]
        await caller.call("PUT", f"{path}/{STREAM}/0", data=pack_tensors(inputs(chain())))
        await caller.call("GET", f"{stage['resultsUri']}/{STREAM}/0")
        assert (await caller.call("GET", headers["Location"]))[0]["frames"] == 1
        for uri, name in (
            (path, "StreamInputs"),
            (f"{stage['resultsUri']}?stream={STREAM}", "StreamResults"),
        ):
            async with session.ws_connect(uri):
                judge.answer(name, 101, None)
        ends = {"headUri": path, "tailUri": stage["resultsUri"]}
        tensor = {"name": "x", "dtype": "float32", "shape": [3, 6]}
        await caller.call("POST", f"{root}/measurements", {"pipeline": ends, "tensors": [tensor]})
        probe, _ = await caller.call("POST", f"{root}/probes")
        await caller.call("POST", f"{root}/links", probe)
        async with session.ws_connect(probe["uri"]):
            judge.answer("AnswerProbe", 101, None)
        await caller.call("PUT", f"{headers['Location']}/next", {"uri": other["inputUri"]})
        await caller.call("DELETE", headers["Location"])
    assert judge.seen == {operation.operation_id for api in NODE_APIS for operation in api.operations}
