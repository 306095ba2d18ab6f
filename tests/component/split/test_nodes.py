"""What the server makes of nodes: measurements are kept, and a node that misbehaves costs itself only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.split.emulation import Emulation
from aimle_server.split.aim import Aim
from aimle_server.split.cutting import CutPoint, CuttableModel, spread
from aimle_server.split.joining import StageModel, join
from aimle_server.split.nodes import LoadedStage, NodeClient, NodeRefused, NodeUnreachable
from aimle_server.split.planner import NoPlan, Stage
from aimle_server.split.survey import Profiles, Survey, differs
from sbi.outbound import Outbound, TargetPolicy
from tests.support import Listener
from tests.support_onnx import back, chain
from tests.support_split import a_node
from tests.support_split import nodes as some_nodes

pytestmark = pytest.mark.split

STAGE = {"stageId": "s", "state": "RUNNING", "frames": 0}


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    """Calls to loopback."""
    made = Outbound(TargetPolicy(allow=(ip_network("127.0.0.0/8"),)))
    yield made
    await made.close()


def survey(profiles: Profiles, batch: int = 4) -> Survey:
    """Of a small model with two cuts."""
    return Survey(CuttableModel(chain()), profiles, Aim(batch=batch, most_cuts=2))


@asynccontextmanager
async def refusing() -> AsyncIterator[tuple[str, list[str]]]:
    """The URI of a node that refuses everything, and the paths that it was asked at."""
    asked = []

    async def refuse(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=400)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app) as server:
        yield str(server.make_url("")), asked


async def test_parts_are_measured_once(outbound: Outbound) -> None:
    """What a node has measured for one pipeline is known to the next one, even when the node is gone."""
    profiles = Profiles()
    async with a_node() as node:
        nodes = {"a": NodeClient(outbound, node.uri)}
        first = await survey(profiles).best(nodes)
    assert first.stages == (Stage("a", 0, 3),)
    assert await survey(profiles).best(nodes) == first
    with pytest.raises(NoPlan):
        await survey(profiles, batch=5).best(nodes)
    profiles.forget(nodes["a"])
    with pytest.raises(NoPlan):
        await survey(profiles).best(nodes)


def test_what_crosses_is_counted_for_a_frame() -> None:
    """Sizes are those of all samples of a frame: the inputs', what crosses each cut, the results'."""
    assert survey(Profiles()).sizes == [4 * 4 * 6, 4 * 4 * 8, 4 * 4 * 8, 4 * 4 * 3]


async def test_a_node_that_cannot_run_a_part(outbound: Outbound) -> None:
    """A part that a node refuses is not planned for it, and it is not asked again."""
    async with refusing() as (uri, asked):
        nodes = {"a": NodeClient(outbound, uri)}
        profiles = Profiles()
        for _ in range(2):
            with pytest.raises(NoPlan):
                await survey(profiles).best(nodes)
    assert len(asked) == 1


async def test_nodes_that_run_only_in_one_order(outbound: Outbound) -> None:
    """Whoever fixes the order has all of the nodes run, also where one alone would be faster."""
    async with a_node() as one, a_node() as two:
        nodes = {"one": NodeClient(outbound, one.uri), "two": NodeClient(outbound, two.uri)}
        for order in (["one", "two"], ["two", "one"]):
            fixed = Survey(CuttableModel(chain()), Profiles(), Aim(workers=[order], in_order=True))
            assert [stage.node for stage in (await fixed.best(nodes)).stages] == order


async def test_a_stage_of_few_nodes_is_not_forgotten(
    outbound: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are more nodes than are planned with, those are planned with that all stages need."""
    monkeypatch.setattr("aimle_server.split.survey.MOST_NODES", 2)
    model = join([StageModel("a", chain()), StageModel("b", back())])
    async with some_nodes(2) as fast, a_node(emulation=Emulation(slowdown=100.0)) as slow:
        clients = {node.uri: NodeClient(outbound, node.uri) for node in (*fast, slow)}
        *many, only = clients
        found = await Survey(model, Profiles(), Aim(workers=[many, [only]])).best(clients)
    assert found.stages[-1].node == only
    assert found.stages[0].node in many


async def test_an_origin_that_runs_nothing(outbound: Outbound) -> None:
    """Inputs may come from a node that is not to run parts; its ways count."""
    async with a_node() as one, a_node() as two:
        nodes = {"one": NodeClient(outbound, one.uri), "two": NodeClient(outbound, two.uri)}
        aim, profiles = Aim(origin="one", workers=[["two"]]), Profiles()
        found = await Survey(CuttableModel(chain()), profiles, aim).best(nodes)
        alone = await Survey(CuttableModel(chain()), profiles, Aim(workers=[["two"]])).best(nodes)
    assert [stage.node for stage in found.stages] == ["two"]
    assert found.latency_s > alone.latency_s


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
    async with a_node() as one, a_node() as two, refusing() as (deaf, _):
        uris = {"one": one.uri, "two": two.uri, "deaf": deaf}
        nodes = {name: NodeClient(outbound, uri) for name, uri in uris.items()}
        found = await survey(Profiles()).predict(nodes, [Stage("one", 0, 1), Stage("two", 1, 3)])
        assert 0 < found.latency_s < 1
        with pytest.raises(NoPlan):
            await survey(Profiles()).predict(nodes, [Stage("one", 0, 1), Stage("deaf", 1, 3)])


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
