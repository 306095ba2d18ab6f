"""Campaigns against a whole system: requests made from the documents, damaged valid ones, and lives of resources.

Each run of the tests makes the same requests; `make fuzz` makes many more, and other ones each time.
"""

import functools
import json
import uuid
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import requests
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test
from schemathesis import Response
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, response_headers_conformance

from tests.contract.support_damage import damaged
from tests.contract.support_endpoints import BY_NAME, ENDPOINTS, MAKERS, WITH_BODY, Endpoint, each
from tests.contract.support_fuzz import LOOPBACK_ONLY, OPERATIONS, System, examples, fenced, in_thread, judge
from tests.contract.support_queries import ANY_MODEL, CRITERIA, OWNER, STRANGER
from tests.contract.support_surface import world

pytestmark = [
    # hypothesis looks whether drawing used the process' random numbers, which the server's thread does meanwhile
    pytest.mark.filterwarnings(
        "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
    )
]

MAX_QUERY = 4000
"""Characters of a query that fit into a request line, percent-encoded: longer ones are no HTTP to the server."""


@pytest.fixture(scope="module")
def system(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that calls nobody outside of this machine, and is well after whatever was done to it."""
    changes = {**LOOPBACK_ONLY, "hfl.participation_timeout": 5.0}
    running = world(mongo_url, f"test_{uuid.uuid4().hex}", tmp_path_factory.mktemp("keys"), changes)
    with fenced(), in_thread(running) as (made, run), requests.Session() as session:
        made_system = System(made, run, session)
        yield made_system
        for name in (
            "GetMLModelsStorages",
            "RegAimleClient",
            "CreateMLModelsStorage",
            "MLR_FLMember.RegisterFLMember",
            "RequestTrain",
            "Select",
        ):
            answer = made_system.ask(BY_NAME[name], made_system.world.body(name))
            assert answer.status_code in BY_NAME[name].operation.answers, answer.text


@functools.cache
def from_document(name: str, mode: GenerationMode) -> st.SearchStrategy[Any]:
    """Requests that the operation's document allows, or that it does not, in one place."""
    return OPERATIONS[name].as_strategy(generation_mode=mode)


@each(ENDPOINTS)
@examples(4)
@given(data=st.data())
def test_requests_from_the_documents(system: System, endpoint: Endpoint, data: st.DataObject) -> None:
    """What the document allows, and what it just does not, is answered as it says; nothing without a token."""
    operation = endpoint.operation
    modes = list(GenerationMode) if operation.body or operation.query else [GenerationMode.POSITIVE]
    case = data.draw(st.sampled_from(modes).flatmap(lambda mode: from_document(endpoint.name, mode)))
    assume(sum(len(str(value)) for value in (case.query or {}).values()) < MAX_QUERY)
    if not operation.capability:
        assert system.send(endpoint, case, None).status_code == 401
    answer = system.send(endpoint, case)
    event(f"{endpoint.name} {answer.status_code}")
    judge(endpoint, answer)
    case.validate_response(answer, checks=[negative_data_rejection, response_headers_conformance])


@each(WITH_BODY)
@examples(25)
@given(data=st.data())
def test_damaged_bodies(system: System, endpoint: Endpoint, data: st.DataObject) -> None:
    """However a valid body is damaged, the answer is below 500, one of the document, and the server is well."""
    answer = system.ask(endpoint, data.draw(damaged(system.world.body(endpoint.name))))
    event(f"{endpoint.name} {answer.status_code}")
    judge(endpoint, answer)
    assert system.is_ready()


@each([BY_NAME["GetAimleClients"], BY_NAME["GetMlModelInfo"]])
@examples(25)
@given(data=st.data())
def test_damaged_criteria(system: System, endpoint: Endpoint, data: st.DataObject) -> None:
    """The same for criteria in a query."""
    model = system.world.body("CreateMLModelsStorage")["mlModels"][0]["mlModelInfo"]
    valid = {"GetAimleClients": [CRITERIA], "GetMlModelInfo": [ANY_MODEL, model]}[endpoint.name]
    criteria = json.dumps(data.draw(st.sampled_from(valid).flatmap(damaged)))
    assume(len(requests.utils.quote(criteria)) < MAX_QUERY)
    answer = system.ask(endpoint, query={"filt-criteria": criteria})
    event(f"{endpoint.name} {answer.status_code}")
    judge(endpoint, answer)
    assert system.is_ready()


OF_ONE = {
    variable: [
        endpoint.name
        for endpoint in ENDPOINTS
        if endpoint.variables == [variable] and not endpoint.operation.capability
    ]
    for variable in (*MAKERS, "mlModelId", "trainingId")
}
REMOVING = {
    "DelAimleClientReg",
    "DeleteIndMLModelsStorage",
    "DeleteHFLTraningSubs",
    "UnsubscribeAimleClSelSubscription",
    "UnsubscribeAimleMLModelRetrievalSubscription",
    "AIMLES_FLMember.DeleteFLMember",
    "MLR_FLMember.DeleteFLMember",
    "DeleteFLEvents",
}
OF_THE_CALLER = {"PutTrainingProfile"}
"""Stored for whoever calls, for whatever model: not a resource of the model's owner."""


class Lives(RuleBasedStateMachine):
    """What OWNER makes is his while it lives: whatever is sent to it by him, by a stranger or by nobody."""

    system: ClassVar[System]
    alive = Bundle("alive")

    @rule(target=alive, variable=st.sampled_from(sorted(OF_ONE)))
    def make(self, variable: str) -> tuple[str, str]:
        """A new resource, by its owner."""
        return variable, self.system.run(self.system.world.fresh(variable))

    @rule(made=alive, data=st.data())
    def attack(self, made: tuple[str, str], data: st.DataObject) -> None:
        """Who has no token or another's is refused, and the resource is as it was."""
        name = data.draw(st.sampled_from(OF_ONE[made[0]]))
        body = self.body(name, made, data)
        before = self.look(made)
        assert self.ask(name, made, body, None).status_code == 401
        if name not in OF_THE_CALLER:
            assert self.ask(name, made, body, STRANGER).status_code in (400, 404, 413)
        assert self.look(made) == before

    @rule(made=alive, data=st.data())
    def use(self, made: tuple[str, str], data: st.DataObject) -> None:
        """The owner's own requests, right or damaged, are answered."""
        name = data.draw(st.sampled_from([name for name in OF_ONE[made[0]] if name not in REMOVING]))
        answer = self.ask(name, made, self.body(name, made, data))
        event(f"{name} {answer.status_code}")

    @rule(made=alive)
    def list_as_stranger(self, made: tuple[str, str]) -> None:
        """Nothing of it is in what others are told that there is."""
        for name in ("GetMLModelsStorages", "ListTrainings"):
            answer = self.system.ask(BY_NAME[name], subject=STRANGER)
            assert answer.status_code == 200
            assert made[1] not in answer.text

    @rule(made=consumes(alive), data=st.data())
    def remove(self, made: tuple[str, str], data: st.DataObject) -> None:
        """Once removed, by one of the ways that there are, it is gone for everything."""
        removing = sorted(REMOVING.intersection(OF_ONE[made[0]]))
        if removing:
            assert self.ask(data.draw(st.sampled_from(removing)), made).status_code == 204
            for other in OF_ONE[made[0]]:
                body = self.system.world.body(other, dict([made]))
                assert self.ask(other, made, body).status_code == 404

    def ask(
        self, name: str, made: tuple[str, str], body: Any = None, subject: str | None = OWNER
    ) -> Response:
        """An operation on it, whose answer keeps all promises."""
        answer = self.system.ask(BY_NAME[name], body, ids=dict([made]), subject=subject)
        judge(BY_NAME[name], answer)
        return answer

    def body(self, name: str, made: tuple[str, str], data: st.DataObject) -> Any:
        """A valid body, or a damaged one; None where there is none."""
        valid = self.system.world.body(name, dict([made]))
        return valid if valid is None else data.draw(st.just(valid) | damaged(valid))

    def look(self, made: tuple[str, str]) -> list[tuple[int, str]]:
        """What its owner reads of it; a training goes on meanwhile."""
        reading = [name for name in OF_ONE[made[0]] if BY_NAME[name].operation.method == "GET"]
        answers = [self.ask(name, made) for name in reading]
        return [(answer.status_code, answer.text if made[0] != "trainingId" else "") for answer in answers]


def test_lives_of_resources(system: System) -> None:
    """Resources live through whatever is sent to them, are seen by their owner only, and end when removed."""
    Lives.system = system
    run_state_machine_as_test(Lives, settings=settings(examples(8), stateful_step_count=12))
