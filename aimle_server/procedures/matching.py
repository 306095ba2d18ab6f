"""Whether a registered client fulfils what was asked for (TS 23.482 8.8.2.1, 8.9.2.1; 8.3 for FL members).

Every criterion counts, and one supported profile must meet them all, with the service in its own list. What a
client did not state, it does not have; only its schedules work the other way: without one it is always
available. Where the standard leaves the comparison open:

- permission level, computing capability: the one asked for, not a higher one;
- model types, operations, dataset ids, features, functions: all that are asked for;
- dataset age: asked for as the oldest moment of creation, registered as days before the registration;
- dataset size: at least, as the numbers stand (asked for in bytes, registered in entries);
- drop-off rate: as this server measured it in its training rounds; a client without a history has none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aimle_server.procedures import availability, enumerations
from aimle_server.procedures.enumerations import registered
from aimle_server.procedures.external import External
from aimle_server.procedures.location import is_located
from ml_repository.registrations import tag
from sbi.clock import from_wire

Wire = Mapping[str, Any]

TRAINING_OPERATION = "MODEL_TRAINING"
TRAINING_APPLICATION = "FEDERATED_LEARNING"


@dataclass(frozen=True)
class Candidate:
    """A client that fulfils the criteria, by the profile that does.

    Attributes:
        client_id: the AIMLE client ID.
        uri: apiRoot of the client's own APIs (`aimleClientUri`).
        profile: the AimleClientProfile.
        registration_id: the registration it was read from.
        services: VAL service IDs that go with the profile.
    """

    client_id: str
    uri: str
    profile: Wire
    registration_id: str
    services: tuple[str, ...] = ()


async def matches(criteria: Wire, registration: Wire, now: datetime, external: External) -> Candidate | None:
    """The registration as a candidate if it fulfils ClientDiscCriteria, else None."""
    for entry in registration["regData"]["suppProfiles"]:
        if (
            all(check(criteria, entry["clientProfile"], registration) for check in _CHECKS)
            and _offers_service(criteria["serviceReq"], entry)
            and availability.is_available(entry["clientProfile"], now)
            and await _is_confirmed(criteria, entry["clientProfile"], registration, external)
        ):
            return _candidate(entry, registration)
    return None


async def fulfils_member_criteria(
    member_sel_criteria: Wire | None,
    dataset_ids: Sequence[str],
    registration: Wire,
    now: datetime,
    external: External,
) -> Candidate | None:
    """The registration as a candidate if it fulfils MemberSelCriteria (AIMLES_MLModelTraining), else None.

    Whatever the criteria, a member does federated learning, trains models and has one of the datasets.
    """
    criteria = member_sel_criteria or {}
    for entry in registration["regData"]["suppProfiles"]:
        profile = entry["clientProfile"]
        if (
            _can_train(profile, dataset_ids)
            and _has_capability(criteria.get("clientCapability", {}), profile)
            and _is_free(criteria.get("clientAvailability"), profile, now)
            and await is_located(criteria.get("clientLoc"), registration["_id"], profile, external.location)
        ):
            return _candidate(entry, registration)
    return None


def candidate_of(registration: Wire, service_id: str | None, now: datetime) -> Candidate | None:
    """The registration as a candidate that somebody chose by its name, if it is available now, else None.

    It is a candidate by its first profile for the service; None for `service_id`: by any.
    """
    for entry in registration["regData"]["suppProfiles"]:
        serves = service_id is None or service_id in _service_ids(entry)
        if serves and availability.is_available(entry["clientProfile"], now):
            return _candidate(entry, registration)
    return None


def criteria_tags(criteria: Wire) -> list[str]:
    """Tags that a registration fulfilling ClientDiscCriteria has, the most selective kind first."""
    dataset = criteria.get("datasetReq", {}).get("avail", {})
    return [
        *(tag("data", dataset_id) for dataset_id in dataset.get("ids", ())),
        tag("svc", criteria["serviceReq"]["valServId"]),
        *(tag("model", value) for value in _model_types(criteria)),
        *(tag("op", value) for value in _operations(criteria)),
        tag("app", registered(enumerations.APPLICATION_TYPE, criteria["clientAppCap"]["appType"])),
    ]


def training_tags(dataset_id: str) -> list[str]:
    """Tags that a registration fulfilling any MemberSelCriteria with this dataset has."""
    return [tag("data", dataset_id), tag("op", TRAINING_OPERATION), tag("app", TRAINING_APPLICATION)]


def _service_ids(entry: Wire) -> tuple[str, ...]:
    return tuple(service["valServiceId"] for service in entry["suppServices"])


def _candidate(entry: Wire, registration: Wire) -> Candidate:
    profile = entry["clientProfile"]
    return Candidate(
        client_id=registration["_id"],
        uri=profile["aimleClientUri"],
        profile=profile,
        registration_id=registration["_registration"],
        services=_service_ids(entry),
    )


def _offers_service(required: Wire, entry: Wire) -> bool:
    level = required.get("permLevel")
    wanted = registered(enumerations.SERVICE_PERMISSION_LEVEL, level) if level is not None else None
    return any(
        service["valServiceId"] == required["valServId"] and wanted in (None, service.get("servPermLevel"))
        for service in entry["suppServices"]
    )


async def _is_confirmed(criteria: Wire, profile: Wire, registration: Wire, external: External) -> bool:
    """What only other services know; asked last, because each question is a call."""
    client_id = registration["_id"]
    velocity, qos, edge = (criteria.get(name) for name in ("clientVel", "clientQosReqs", "edgeAimleS"))
    return (
        await is_located(criteria.get("location"), client_id, profile, external.location)
        and (velocity is None or await external.velocity.velocity_of(client_id) == velocity)
        and (qos is None or await external.qos.meets(client_id, qos))
        and (edge is None or await external.edge.serves(edge, client_id))
    )


def _model_types(criteria: Wire) -> list[str]:
    return [registered(enumerations.MODEL_TYPE, value) for value in criteria.get("mlModelTypes", ())]


def _operations(criteria: Wire) -> list[str]:
    return [registered(enumerations.OPERATION, value) for value in criteria["aimlOpers"]]


def _supports_models(criteria: Wire, profile: Wire, registration: Wire) -> bool:
    return set(_model_types(criteria)) <= set(profile.get("aimlModelTypes", ()))


def _supports_operations(criteria: Wire, profile: Wire, registration: Wire) -> bool:
    return set(_operations(criteria)) <= set(profile["aimlOperations"])


def _is_application(criteria: Wire, profile: Wire, registration: Wire) -> bool:
    wanted = registered(enumerations.APPLICATION_TYPE, criteria["clientAppCap"]["appType"])
    return bool(profile["clientCap"]["mlAppType"] == wanted)


def _is_available_when_asked(criteria: Wire, profile: Wire, registration: Wire) -> bool:
    return availability.covers_schedule(profile, criteria["clientAppCap"].get("avail", ()))


def _stays(criteria: Wire, profile: Wire, registration: Wire) -> bool:
    """dropOfRate: the share of the rounds, in percent, that the client was asked into and did not finish."""
    maximum = criteria["clientAppCap"].get("dropOfRate")
    if maximum is None:
        return True
    asked, dropped = registration["_stats"]["asked"], registration["_stats"]["dropped"]
    return bool(asked and 100 * dropped <= maximum * asked)


def _has_dataset(criteria: Wire, profile: Wire, registration: Wire) -> bool:
    wanted = criteria.get("datasetReq", {}).get("avail", {})
    stated = profile.get("dataSetAvail", {})
    return (
        set(wanted.get("ids", ())) <= set(stated.get("dataSetIds", ()))
        and set(wanted.get("features", ())) <= set(stated.get("features", ()))
        and ("size" not in wanted or stated.get("size", -1) >= wanted["size"])
        and ("age" not in wanted or _is_fresh(from_wire(wanted["age"]), stated.get("age"), registration))
    )


def _is_fresh(oldest: datetime, age_in_days: int | None, registration: Wire) -> bool:
    if age_in_days is None:
        return False
    stated: datetime = registration["_stated"]
    return (stated - oldest).total_seconds() >= age_in_days * availability.DAY


def _handles_data(criteria: Wire, profile: Wire, registration: Wire) -> bool:
    wanted = criteria.get("datasetReq", {}).get("cap", {})
    names = {registered(enumerations.DATA_FUNCTION, name) for name in wanted.get("functions", ())}
    if "dataType" in wanted:
        names.add(registered(enumerations.DATA_TYPE, wanted["dataType"]))
    return names <= set(profile.get("dataCap", ()))


def _handles_tasks(criteria: Wire, profile: Wire, registration: Wire) -> bool:
    wanted = criteria.get("clientTaskCap", {})
    tables = {"compCap": enumerations.COMPUTE_CAPABILITY, "perfCap": enumerations.PERFORMANCE_CAPABILITY}
    names = {registered(table, wanted[name]) for name, table in tables.items() if name in wanted}
    return names <= set(profile.get("taskCaps", ()))


Check = Callable[[Wire, Wire, Wire], bool]
_CHECKS: tuple[Check, ...] = (
    _supports_models,
    _supports_operations,
    _is_application,
    _is_available_when_asked,
    _stays,
    _has_dataset,
    _handles_data,
    _handles_tasks,
)


def _can_train(profile: Wire, dataset_ids: Sequence[str]) -> bool:
    return (
        TRAINING_OPERATION in profile["aimlOperations"]
        and profile["clientCap"]["mlAppType"] == TRAINING_APPLICATION
        and not set(dataset_ids).isdisjoint(profile.get("dataSetAvail", {}).get("dataSetIds", ()))
    )


def _has_capability(wanted: Wire, profile: Wire) -> bool:
    return all(profile["clientCap"][name] == value for name, value in wanted.items())


def _is_free(window: Wire | None, profile: Wire, now: datetime) -> bool:
    if not availability.is_available(profile, now):
        return False
    if window is None:
        return True
    return availability.covers_window(profile, from_wire(window["startTime"]), from_wire(window["stopTime"]))
