"""Who may have a model, and which models a filter means (TS 23.482 8.11.3, TS 29.482 6.2.1.6.2.10). No I/O.

Access. The owner always may. Anybody else needs every one of these:
- `vendors` is absent or names the vendor of the caller's token;
- `accessReqs` allows it: PUBLICLY_AVAILABLE everybody; RESTRICTED whoever meets all the conditions given
  (one of valServerIds and valClientIds names the subject, timePeriod since storing has not passed, the caller
  is in `location`); PRIVATE_USE_ONLY and values this version does not know, nobody.
Without `accessReqs` a list of vendors is itself the permission; with neither, the model is its owner's alone.

Filter. Every attribute given must be met, and a model that lacks the attribute does not meet it:
- `mlModelId` equal, or `*` for any;
- lists: the model's contains all that are asked for;
- `mlModelSize` at most; accuracy (`resourceAddr`), `dataVolume`, `duration` and `timePeriod` at least;
- anything else equal. `contTrainInd` counts as false where absent, `duration` and `timePeriod` as endless.
MLModel asks for one of vendors, interopInfo, phaseInfo and storeDiscReqs even where it is a filter:
`"storeDiscReqs": {"duration": 0}` asks for nothing.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from ml_repository.model_record import StoredModel, moment_after
from sbi.auth import Caller

ANY = "*"
"""As an mlModelId in a filter: any model. Among the readers of a model: perhaps everybody."""

Located = Callable[[Mapping[str, Any], Caller], bool]
"""Whether a caller is inside a LocationArea5G."""


def nowhere(area: Mapping[str, Any], caller: Caller) -> bool:
    """Nobody's location is known, so nobody is inside any area."""
    return False


def may_access(model: StoredModel, caller: Caller, now: datetime, located: Located = nowhere) -> bool:
    """Whether `caller` may find and download `model` now."""
    if caller.subject == model.owner:
        return True
    vendors = model.info.get("vendors")
    if vendors and caller.vendor not in vendors:
        return False
    requirements = _access_requirements(model.info)
    if requirements is None:
        return bool(vendors)
    match requirements["accessReq"]:
        case "PUBLICLY_AVAILABLE":
            return True
        case "RESTRICTED":
            return _meets(requirements, model.stored, caller, now, located)
        case _:
            return False


def _meets(
    requirements: Mapping[str, Any], stored: datetime, caller: Caller, now: datetime, located: Located
) -> bool:
    """Whether the caller meets every condition of a RESTRICTED model, of which there must be one."""
    conditions: list[bool] = []
    if named := _named(requirements):
        conditions.append(caller.subject in named)
    if (period := requirements.get("timePeriod")) is not None:
        conditions.append(now < moment_after(stored, period))
    if (area := requirements.get("location")) is not None:
        conditions.append(located(area, caller))
    return bool(conditions) and all(conditions)


def readers(info: Mapping[str, Any], owner: str) -> list[str]:
    """The subjects that `may_access` may allow, for an index to find models by; ANY where nobody is named."""
    requirements = _access_requirements(info)
    if requirements is None:
        return [owner, ANY] if info.get("vendors") else [owner]
    match requirements["accessReq"]:
        case "PUBLICLY_AVAILABLE":
            return [owner, ANY]
        case "RESTRICTED":
            return [owner, *(_named(requirements) or [ANY])]
        case _:
            return [owner]


def disclosed(model: StoredModel, caller: Caller) -> dict[str, Any]:
    """The model's MLModel as `caller` may see it: who else may have the model is the owner's business."""
    info = model.info
    requirements = _access_requirements(info)
    if requirements is None or caller.subject == model.owner:
        return info
    shown = {
        name: value for name, value in requirements.items() if name not in ("valServerIds", "valClientIds")
    }
    for name in ("valServerIds", "valClientIds"):
        if caller.subject in requirements.get(name, ()):
            shown[name] = [caller.subject]
    return {**info, "storeDiscReqs": {**info["storeDiscReqs"], "accessReqs": shown}}


def matches(criteria: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
    """Whether the MLModel `info` meets the MLModel `criteria`, by the rules at the top of this module."""
    given = {name: wanted for name, wanted in criteria.items() if (name, wanted) != ("mlModelId", ANY)}
    return _met("", given, info)


_DEFAULTS: dict[str, Any] = {"contTrainInd": False, "duration": math.inf, "timePeriod": math.inf}

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "mlModelSize": operator.le,
    "resourceAddr": operator.ge,
    "dataVolume": operator.ge,
    "duration": operator.ge,
    "timePeriod": operator.ge,
}


def _met(name: str, wanted: Any, held: Any) -> bool:
    if isinstance(wanted, Mapping):
        held = held or {}
        return all(_met(inner, value, held.get(inner)) for inner, value in wanted.items())
    if held is None:
        held = _DEFAULTS.get(name)
    if held is None:
        return False
    if isinstance(wanted, list):
        return all(item in held for item in wanted)
    compare = _COMPARISONS.get(name)
    return compare(held, wanted) if compare else bool(held == wanted)


def _access_requirements(info: Mapping[str, Any]) -> Mapping[str, Any] | None:
    requirements: Mapping[str, Any] | None = info.get("storeDiscReqs", {}).get("accessReqs")
    return requirements


def _named(requirements: Mapping[str, Any]) -> list[str]:
    named: Iterable[str] = (*requirements.get("valServerIds", ()), *requirements.get("valClientIds", ()))
    return list(dict.fromkeys(named))
