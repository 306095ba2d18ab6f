"""What holds for every operation of every API; a test file derives a class from each that its API needs.

The documents say which operations there are. What a file adds is one right request of each.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from support.consumer import NoToken, Request, unknown, wire
from support.documents import FEATURES, METHODS, Operation, Path
from support.exchange import Exchange
from support.world import World

Json = Any

GRANTED = {*FEATURES, "expTime"}
"""Attributes in which a server answers with what it grants instead of what was asked for."""

SHORT = timedelta(seconds=3)
"""How long something is to last whose end a test waits for."""

APPLICABLE: Mapping[str, Callable[[Operation], Any]] = {
    "operation": lambda operation: True,
    "with_body": lambda operation: operation.content_type,
    "with_resource": lambda operation: operation.variables,
    "with_parameters": lambda operation: operation.required_query,
    "with_features": lambda operation: operation.features_in,
}
"""Names under which a test asks for an operation, and which operations it then gets."""

_DECISIONS = (403, 404, 409, 501, 503)


class ApiTests:
    """The base of a file's classes.

    Attributes:
        api: name of the API; its tests are run for each operation of it.
        may_be_refused: operationIds whose right requests a server may refuse, by a decision of its own.
    """

    api: str
    may_be_refused: Collection[str] = ()

    def request(self, name: str, world: World) -> Request:
        """A request of the operation with this operationId that the server has to fulfil, new each time."""
        raise NotImplementedError


class EveryOperation(ApiTests):
    """Right requests are fulfilled, wrong ones are refused (TS 29.122 5.2.6, TS 29.501 4.8).

    A test is run for each `operation`, or for those `with_...` what it is about (`APPLICABLE`).
    """

    def test_right_request(self, operation: Operation, world: World) -> None:
        """It is answered with a documented success."""
        answer = world.val.do(operation, self._right_request(operation, world))
        self._assert_done(answer)

    def test_unknown_attributes_are_ignored(self, with_body: Operation, world: World) -> None:
        """An attribute of a later version does no harm (TS 29.500 6.6.2)."""
        request = self._right_request(with_body, world)
        body = {**request.body, "x-conformance-unknown": {"a": [1]}}
        answer = world.val.do(with_body, Request(body, request.query, request.variables))
        self._assert_done(answer)

    def test_without_token(self, operation: Operation, world: World) -> None:
        """Nobody gets in without a token, or with one that is none: 401."""
        _need_authentication(world)
        for token in ("", "nonsense", "e30.e30.e30"):
            answer = world.val.do(operation, self._anything(operation), token=token)
            assert answer.status == 401, answer

    def test_token_for_another_api(self, operation: Operation, world: World) -> None:
        """A token whose scope is another API's opens nothing: 403 (RFC 6750 3.1)."""
        _need_authentication(world)
        assert world.val.tokens is not None
        own = operation.base.split("/")[1]
        another = next(scope for scope in ("mlr-mid", "aimles-disc") if scope != own)
        try:
            token = world.val.tokens.get(another)
        except NoToken as error:
            pytest.skip(f"not run: no token with the scope {another} only: {error}")
        answer = world.val.do(operation, self._anything(operation), token=token)
        assert answer.status == 403, answer

    def test_unknown_resource(self, with_resource: Operation, world: World) -> None:
        """An identifier that was never given away: 404."""
        right = self._right_request(with_resource, world)
        answer = world.val.do(with_resource, Request(right.body, right.query, _unknown(with_resource)))
        assert answer.status == 404, answer

    def test_resource_of_somebody_else(self, with_resource: Operation, world: World) -> None:
        """A consumer that may not touch it neither sees nor changes nor deletes it: 403, or 404 as for unknown ones."""
        other = world.other
        request = self._right_request(with_resource, world)
        answer = other.do(with_resource, request)
        assert answer.status in (403, 404), answer
        mine = world.val.do(with_resource, request)
        self._assert_done(mine)

    def test_body_that_is_no_json_object(self, with_body: Operation, world: World) -> None:
        """400."""
        request = self._right_request(with_body, world)
        for data in (b"", b"{", b'{"a": 1,}', b"nonsense", b"\xff\xfe", b"[]", b"7"):
            answer = world.val.do(with_body, request, data=data)
            assert answer.status == 400, answer

    def test_mandatory_attributes(self, with_body: Operation, world: World) -> None:
        """Whichever is missing, or of another type than the document has: 400."""
        request = self._right_request(with_body, world)
        for paths in with_body.required(request.body):
            for body in (_without(request.body, paths), _with_other_type(request.body, paths[0])):
                answer = world.val.do(with_body, Request(body, request.query, request.variables))
                assert answer.status == 400, answer

    def test_mandatory_parameters(self, with_parameters: Operation, world: World) -> None:
        """Whichever is missing from the query: 400."""
        request = self._right_request(with_parameters, world)
        for name in with_parameters.required_query:
            query = {key: value for key, value in request.query.items() if key != name}
            answer = world.val.do(with_parameters, Request(None, query, request.variables))
            assert answer.status == 400, answer
            if request.query[name].startswith("{"):
                answer = world.val.do(with_parameters, Request(None, {**query, name: "{"}, request.variables))
                assert answer.status == 400, answer

    def test_other_media_type(self, with_body: Operation, world: World) -> None:
        """A body that comes as something else than the documented type: 415."""
        request = self._right_request(with_body, world)
        for content_type in ("text/plain", "application/xml"):
            answer = world.val.do(with_body, request, content_type=content_type)
            assert answer.status == 415, answer

    def test_other_methods(self, path: Operation, world: World) -> None:
        """A method that the resource does not have: 405, and Allow names those that it has."""
        variables = self._right_request(path, world).variables
        same = world.documents.operations[path.api].values()
        documented = {one.method for one in same if one.path == path.path}
        url = path.base + path.path.format_map(variables)
        for method in METHODS:
            if method not in documented:
                answer = world.val.send(method, url)
                assert answer.status in (405, 501), answer
                allowed = {name.strip() for name in answer.headers.get("Allow", "").split(",")}
                assert answer.status == 501 or allowed & documented, answer

    def test_supported_features(self, with_features: Operation, world: World) -> None:
        """The answer has no feature that the request did not offer (TS 29.500 6.6.2)."""
        name = with_features.features_in
        assert name is not None
        for offered in ("0", "1", "ffffffff"):
            request = self._right_request(with_features, world)
            if with_features.content_type:
                request = Request({**request.body, name: offered}, request.query, request.variables)
            else:
                request = Request(None, {**request.query, name: offered}, request.variables)
            answer = world.val.do(with_features, request)
            self._assert_done(answer)
            if answer.status >= 300 or not answer.text:
                continue
            common = list(_features(answer.body))
            assert common or not with_features.features_answered, answer
            assert all(int(bits or "0", 16) & ~int(offered, 16) == 0 for bits in common), answer

    def _assert_done(self, answer: Exchange) -> None:
        assert answer.operation is not None
        refused = answer.operation.name in self.may_be_refused and answer.status in _DECISIONS
        assert answer.status in answer.operation.successes or refused, answer

    def _right_request(self, operation: Operation, world: World) -> Request:
        world.val.need(operation)
        request = self.request(operation.name, world)
        if request.body is not None:
            operation.check_request(str(operation.content_type), request.body)
        return request

    def _anything(self, operation: Operation) -> Request:
        """For what is refused before it is looked at."""
        return Request({} if operation.content_type else None, {}, _unknown(operation))


class Lifecycle(ApiTests):
    """A resource is made, read, replaced, changed and deleted (TS 29.501 4.6.1).

    Attributes:
        collection: path of the collection below the API's base path.
        optional: an attribute of the resource that a PATCH may remove with null (RFC 7396), with a value for it;
            None: there is none.
    """

    collection: str
    optional: tuple[str, Json] | None = None

    def test_read_is_what_was_made(self, world: World) -> None:
        """GET of what Location names gives what the POST was answered with, and that is what was sent."""
        made, request = self._made(world)
        read = self._read(world, made)
        assert read.body == made.body, (made, read)
        assert _holds(made.body, request.body), made
        by_location = world.val.send("GET", made.headers["Location"], operation=read.operation)
        assert by_location.status == 200, by_location
        assert by_location.body == made.body, by_location

    def test_put_replaces(self, world: World) -> None:
        """After a PUT the resource is what was sent."""
        put = self._operation(world, "PUT")
        request = self.request(put.name, world)
        answer = world.val.do(put, request)
        assert answer.status in put.successes, answer
        read = world.val.do(self._operation(world, "GET"), Request(variables=request.variables))
        assert _holds(read.body, request.body), read
        assert answer.status == 204 or answer.body == read.body, (answer, read)

    def test_patch_changes_what_it_names(self, world: World) -> None:
        """After a PATCH what it names is as it says, and the rest as it was."""
        patch = self._operation(world, "PATCH")
        request = self.request(patch.name, world)
        get, variables = self._operation(world, "GET"), Request(variables=request.variables)
        before = world.val.do(get, variables).body
        answer = world.val.do(patch, request)
        assert answer.status in patch.successes, answer
        after = world.val.do(get, variables).body
        assert _holds(after, request.body), (answer, after)
        rest = before.keys() - request.body.keys() - GRANTED
        assert {name: after.get(name) for name in rest} == {name: before[name] for name in rest}, answer
        assert answer.status == 204 or answer.body == after, (answer, after)

    def test_patch_with_null(self, world: World) -> None:
        """null removes an attribute (RFC 7396), or is refused where the document does not have it as a value."""
        if self.optional is None:
            pytest.skip("not applicable: no attribute can be removed")
        patch, (name, value) = self._operation(world, "PATCH"), self.optional
        made, _ = self._made(world, {name: value})
        variables = self._variables(world, made)
        answer = world.val.do(patch, Request({name: None}, {}, variables))
        assert answer.status in (*patch.successes, 400), answer
        after = world.val.do(self._operation(world, "GET"), Request(variables=variables))
        left_out = name if answer.status in patch.successes else None
        assert after.body == {key: item for key, item in made.body.items() if key != left_out}, after

    def test_expired_is_gone(self, world: World) -> None:
        """`expTime` is granted no later than asked for, and after it the resource is gone (TS 29.482 6.1.13.6.2.2)."""
        post = self._operation(world, "POST")
        if "expTime" not in post.attributes:
            pytest.skip("not applicable: it has no expTime")
        asked = world.val.now() + SHORT
        made, _ = self._made(world, {"expTime": wire(asked)})
        granted = made.body.get("expTime")
        assert granted is None or datetime.fromisoformat(granted) <= asked, made
        if granted is None:
            pytest.skip("not run: the server grants no expTime")
        world.val.wait_until(asked)
        get = self._operation(world, "GET")
        answer = world.val.do(get, Request(variables=self._variables(world, made)))
        assert answer.status == 404, answer

    def test_deleted_is_gone(self, world: World) -> None:
        """After a DELETE it is not there: for GET, and for a second DELETE."""
        made, _ = self._made(world)
        delete, variables = self._operation(world, "DELETE"), self._variables(world, made)
        answer = world.val.do(delete, Request(variables=variables))
        assert answer.status == 204, answer
        for operation in (self._operation(world, "GET"), delete):
            answer = world.val.do(operation, Request(variables=variables))
            assert answer.status == 404, answer

    def _operation(self, world: World, method: str) -> Operation:
        """That of the single resource; POST: of the collection."""
        for one in world.documents.operations.get(self.api, {}).values():
            single = bool(one.variables)
            if one.collection == self.collection and one.method == method and single == (method != "POST"):
                world.val.need(one)
                return one
        pytest.skip(f"the documents have no {method} for the resources of {self.collection}")

    def _made(self, world: World, more: Mapping[str, Json] | None = None) -> tuple[Exchange, Request]:
        post = self._operation(world, "POST")
        request = self.request(post.name, world)
        request = Request({**request.body, **(more or {})}, request.query)
        answer = world.val.do(post, request)
        assert answer.status == 201, answer
        return answer, request

    def _variables(self, world: World, made: Exchange) -> dict[str, str]:
        [variable] = self._operation(world, "DELETE").variables
        return {variable: made.location}

    def _read(self, world: World, made: Exchange) -> Exchange:
        answer = world.val.do(self._operation(world, "GET"), Request(variables=self._variables(world, made)))
        assert answer.status == 200, answer
        return answer


def _need_authentication(world: World) -> None:
    if world.val.tokens is None:
        pytest.skip("not run: the server asks for no tokens (no --token-url)")


def _unknown(operation: Operation) -> dict[str, str]:
    return {variable: unknown() for variable in operation.variables}


def _without(body: Json, paths: list[Path]) -> Json:
    changed = copy.deepcopy(body)
    for path in paths:
        del _at(changed, path[:-1])[path[-1]]
    return changed


def _with_other_type(body: Json, path: Path) -> Json:
    changed = copy.deepcopy(body)
    holder = _at(changed, path[:-1])
    holder[path[-1]] = "not an object" if isinstance(holder[path[-1]], dict | list) else {"not": ["this"]}
    return changed


def _at(body: Json, path: Path) -> Json:
    for name in path:
        body = body[name]
    return body


def _holds(got: Json, sent: Json, name: str = "") -> bool:
    """Whether what was sent is there again, perhaps with what the server has added."""
    if name in GRANTED:
        return True
    if isinstance(sent, dict):
        return isinstance(got, dict) and all(
            name in GRANTED or (name in got and _holds(got[name], value)) for name, value in sent.items()
        )
    if isinstance(sent, list):
        return isinstance(got, list) and len(got) == len(sent) and all(map(_holds, got, sent))
    return bool(got == sent)


def _features(body: Json, depth: int = 2) -> Iterator[str]:
    if isinstance(body, dict) and depth:
        for name, value in body.items():
            if name in FEATURES:
                yield value
            yield from _features(value, depth - 1)
