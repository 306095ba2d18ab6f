"""What the server makes of nodes: measurements are kept, and a node that misbehaves costs itself only."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_server.split.cutting import CutPoint, CuttableModel
from aimle_server.split.nodes import LoadedStage, NodeClient, NodeRefused, NodeUnreachable
from aimle_server.split.planner import Link
from aimle_server.split.survey import Profiles, Survey, differs, spread
from sbi.outbound import Outbound, TargetPolicy
from tests.support import Listener
from tests.support_onnx import chain
from tests.support_split import a_node

pytestmark = pytest.mark.split

STAGE = {"stageId": "s", "state": "RUNNING", "frames": 0}


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    """Calls to loopback."""
    made = Outbound(TargetPolicy(allow=(ip_network("127.0.0.0/8"),)))
    yield made
    await made.close()


def survey(profiles: Profiles, batch: int = 4) -> Survey:
    """Of a small model."""
    return Survey(CuttableModel(chain()), profiles, batch=batch, most_cuts=2, origin=None)


async def test_parts_are_measured_once(outbound: Outbound) -> None:
    """What a node has measured for one pipeline is known to the next one, even when the node is gone."""
    profiles = Profiles()
    async with a_node() as node:
        client = NodeClient(outbound, node.uri)
        first = await survey(profiles).problem({"a": client})
    assert set(first.times["a"]) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert (await survey(profiles).problem({"a": client})).times == first.times
    assert (await survey(profiles, batch=5).problem({"a": client})).times == {}
    profiles.forget(client)
    assert (await survey(profiles).problem({"a": client})).times == {}


async def test_what_crosses_is_counted_for_a_frame(outbound: Outbound) -> None:
    """Sizes are those of all samples of a frame: the inputs', what crosses each cut, the results'."""
    async with a_node() as node:
        problem = await survey(Profiles()).problem({"a": NodeClient(outbound, node.uri)})
    assert problem.sizes == [4 * 4 * 6, 4 * 4 * 8, 4 * 4 * 8, 4 * 4 * 3]


async def test_a_node_that_cannot_run_a_part(outbound: Outbound) -> None:
    """A part that a node refuses is not planned for it, and it is not asked again."""
    asked = []

    async def refuse(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=400)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app) as server:
        client = NodeClient(outbound, str(server.make_url("")))
        profiles = Profiles()
        assert (await survey(profiles).problem({"a": client})).times == {"a": {}}
        assert (await survey(profiles).problem({"a": client})).times == {"a": {}}
    assert len(asked) == 6


async def test_addresses_of_a_node_are_its_own(outbound: Outbound) -> None:
    """A node cannot have others send their tensors elsewhere, or call whomever it likes."""
    foreign = {**STAGE, "inputUri": "http://10.0.0.1/x", "resultsUri": "http://10.0.0.1/x"}
    answers = [web.json_response(foreign, status=201), web.json_response({"uri": "http://10.0.0.1/x"})]
    async with Listener(answers=answers) as liar:
        client = NodeClient(outbound, liar.url(""))
        with pytest.raises(NodeRefused, match="not its own"):
            await client.load("http://127.0.0.1/part", "00", 1)
        with pytest.raises(NodeRefused, match="not its own"):
            await client.measure_link(client)


@pytest.mark.parametrize("answer", [{}, [], {"stages": [{}]}, {"stages": "none"}, "text"])
async def test_answers_of_a_node_are_checked(outbound: Outbound, answer: Any) -> None:
    """Something that the API does not have is no answer."""
    async with Listener(answers=[web.json_response(answer)]) as node:
        with pytest.raises(NodeRefused, match="does not have"):
            await NodeClient(outbound, node.url("")).look()


async def test_a_node_that_is_not_there(outbound: Outbound) -> None:
    """No answer, and an error of the node's own, are one thing to who plans; what is gone is unloaded."""
    stage = LoadedStage("s", "", "")
    with pytest.raises(NodeUnreachable):
        await NodeClient(outbound, "http://127.0.0.1:1").look()
    async with Listener(answers=[500, 404]) as node:
        client = NodeClient(outbound, node.url(""))
        with pytest.raises(NodeUnreachable):
            await client.look()
        await client.unload(stage)


async def test_links_that_cannot_be_measured_are_not_there(outbound: Outbound) -> None:
    """A way between two nodes that does not answer is not planned with; others are."""
    async with a_node() as one, a_node() as two:
        nodes = {"one": NodeClient(outbound, one.uri), "two": NodeClient(outbound, two.uri)}
        problem = await survey(Profiles()).problem(nodes)
        assert problem.links.keys() == {("one", "two"), ("two", "one")}
        assert all(isinstance(link, Link) and link.bytes_per_s > 1e6 for link in problem.links.values())
    async with a_node() as one, Listener(default=400) as deaf:
        nodes = {"one": NodeClient(outbound, one.uri), "deaf": NodeClient(outbound, deaf.url(""))}
        assert (await survey(Profiles()).problem(nodes)).links == {}


def test_cuts_along_the_whole_graph() -> None:
    """Of each stretch of the graph the cut that fewest bytes cross; all of them where there are few."""
    points = [CutPoint(n, (str(n),), size) for n, size in enumerate([9, 3, 8, 7, 7, 1, 2, 5], 1)]
    assert [point.position for point in spread(points, 4)] == [2, 4, 6, 7]
    assert spread(points, 20) == points
    assert spread([], 4) == []


def test_what_counts_as_a_change() -> None:
    """More than the margin, in either direction."""
    assert [differs(now, 10.0, 0.25) for now in (7.4, 7.6, 10.0, 12.4, 12.6)] == [
        True,
        False,
        False,
        False,
        True,
    ]
