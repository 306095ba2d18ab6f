"""JSON merge patch (RFC 7396): what a patch may say, and what it makes of a resource."""

from typing import Any

import pytest
from marshmallow import ValidationError

from schemas.base import merge_patch
from schemas.fl_member import FlMbrPatch
from schemas.hfl_training import HflTrngSubPatch
from schemas.model_management import MLModelsStorage, MLModelsStoragePatch

# RFC 7396, appendix A
EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), EXAMPLES)
def test_merge_as_in_the_rfc(target: Any, patch: Any, result: Any) -> None:
    """Objects are merged, null removes, everything else replaces."""
    assert merge_patch(target, patch) == result


def test_merge_changes_neither_side() -> None:
    """The resource that was read stays as it was, so that a refused patch leaves no trace."""
    target, patch = {"a": {"b": 1, "c": 2}}, {"a": {"b": None}}
    assert merge_patch(target, patch) == {"a": {"c": 2}}
    assert (target, patch) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}})


def test_null_passes_a_patch_and_removes() -> None:
    """A patch may remove an optional attribute of the resource, or of an object in it."""
    patch = {"operSched": None, "aimlMdlInfo": {"mlModelLoc": {"uri": None, "fqdn": "m.example.com"}}}
    loaded = HflTrngSubPatch().load(patch | {"unknown": None})
    assert loaded == patch
    subscription = {"operSched": {}, "aimlMdlInfo": {"mlModelId": "m", "mlModelLoc": {"uri": "http://m"}}}
    assert merge_patch(subscription, loaded) == {
        "aimlMdlInfo": {"mlModelId": "m", "mlModelLoc": {"fqdn": "m.example.com"}}
    }


def test_null_names_an_attribute() -> None:
    """Where a patch has to name one of several attributes, one that it removes will do."""
    patch = {"flMbrId": "val-1", "areaValidity": None}
    assert FlMbrPatch().load(patch) == patch
    with pytest.raises(ValidationError) as refused:
        FlMbrPatch().load({"flMbrId": "val-1", "allowedMno": None})
    assert set(refused.value.messages) == set(FlMbrPatch.any_of)


def test_patch_checks_what_it_has() -> None:
    """An attribute of a patch is as valid as in the resource; null is no way around what an object requires."""
    with pytest.raises(ValidationError) as refused:
        HflTrngSubPatch().load({"noDataSamp": "many", "notifReqs": {"reportingMode": None}})
    assert refused.value.messages == {
        "noDataSamp": ["Not a valid integer."],
        "notifReqs": {"reportingMode": ["Missing data for required field."]},
    }


def test_patched_resource_is_checked_by_its_own_schema() -> None:
    """A patch that removes the last of the attributes of which one is needed makes an invalid resource."""
    storage = {"mlModelsAddresses": [{"uri": "http://m.example.com/1"}]}
    patch = MLModelsStoragePatch().load({"mlModelsAddresses": None})
    with pytest.raises(ValidationError) as refused:
        MLModelsStorage().load(merge_patch(storage, patch))
    assert set(refused.value.messages) == {"mlModels", "mlModelsAddresses"}


@pytest.mark.parametrize("patch", [None, [], "text", {"mlModels": []}])
def test_what_is_no_patch_is_refused(patch: Any) -> None:
    """A patch is an object, and a list in it keeps its minimum of items: null removes a list."""
    with pytest.raises(ValidationError):
        MLModelsStoragePatch().load(patch)
