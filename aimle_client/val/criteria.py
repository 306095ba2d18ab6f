"""Builders of the large nested inputs: which clients, which members, which models. They return wire dicts.

Whatever a builder has no argument for can be added to its result under the wire's own name.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aimle_client.val.values import Wire, given
from sbi.clock import to_wire

ANY_MODEL = "*"
"""As an mlModelId among criteria: any."""


def discovery_criteria(
    service: str,
    *,
    operations: Sequence[str] = ("MODEL_TRAINING",),
    learning: str = "FL",
    permission: str | None = None,
    model_types: Sequence[str] = (),
    datasets: Sequence[str] = (),
    features: Sequence[str] = (),
    min_size: int | None = None,
    since: datetime | None = None,
    data_type: str | None = None,
    functions: Sequence[str] = (),
    compute: str | None = None,
    performance: str | None = None,
    velocity: str | None = None,
    location: Wire | None = None,
    available: Sequence[Wire] = (),
    max_dropout: int | None = None,
) -> dict[str, Any]:
    """ClientDiscCriteria: what AIMLE clients must be like (TS 23.482 8.8.3.1); all that is given must hold.

    Args:
        service: `valServId`, the VAL service that they work for.
        operations: `aimlOpers`: MODEL_TRAINING, MODEL_TRANSFER, MODEL_INFERENCE, MODEL_OFFLOAD, MODEL_SPLIT.
        learning: `appType`: FL, TL or SL.
        permission: `permLevel`: PREMIUM, STANDARD or LIMITED.
        model_types: DECISION_TREES, LINEAR_REGRESSION, NEURAL_NETWORKS.
        datasets: identifiers of data sets that they have all of.
        features: of their data.
        min_size: entries of their data, at least.
        since: their data is not older than this.
        data_type: RAW or PROCESSED.
        functions: what can be done with the data.
        compute: `compCap`: LOW or HIGH.
        performance: `perfCap`: GREEN_TASK, ENERGY_EFFICIENT or LOW_COSTS.
        velocity: STATIC, MOBILE_LOW or MOBILE_HIGH.
        location: LocationArea5G.
        available: ScheduledCommunicationTime at which they must be there.
        max_dropout: `dropOfRate`, per cent of the invitations that they may have dropped.
    """
    ages = None if since is None else to_wire(since)
    data = given(ids=_some(datasets), age=ages, size=min_size, features=_some(features))
    kind = given(dataType=data_type, functions=_some(functions))
    return given(
        serviceReq=given(valServId=service, permLevel=permission),
        aimlOpers=list(operations),
        clientAppCap=given(appType=learning, avail=_some(available), dropOfRate=max_dropout),
        mlModelTypes=_some(model_types),
        datasetReq=given(avail=data or None, cap=kind or None) or None,
        clientTaskCap=given(compCap=compute, perfCap=performance) or None,
        clientVel=velocity,
        location=location,
    )


def member_criteria(
    *,
    location: Wire | None = None,
    available: tuple[datetime, datetime] | None = None,
    learning: str | None = "FEDERATED_LEARNING",
    resources: str = "STANDARD_RESOURCE_USAGE",
) -> dict[str, Any]:
    """MemberSelCriteria: by which the server chooses, and replaces, the members of a training (TS 23.482 8.3).

    Args:
        location: LocationArea5G.
        available: from when to when they must be there.
        learning: `mlAppType`: FEDERATED_LEARNING, TRANSFER_LEARNING, SPLIT_LEARNING; None: any capability.
        resources: `rsrcUsageLvl`: PREMIUM_, STANDARD_ or LIMITED_RESOURCE_USAGE.
    """
    window = available and dict(zip(("startTime", "stopTime"), map(to_wire, available), strict=True))
    capability = learning and {"mlAppType": learning, "rsrcUsageLvl": resources}
    return given(clientLoc=location, clientAvailability=window, clientCapability=capability)


def model_criteria(
    model_id: str = ANY_MODEL,
    *,
    domain: str | None = None,
    services: Sequence[str] = (),
    vendors: Sequence[str] = (),
    phase: str | None = None,
    base: str | None = None,
    usages: Sequence[str] = (),
    max_size: int | None = None,
) -> dict[str, Any]:
    """MLModel as a filter (TS 23.482 8.11.3): a model without one of the attributes given does not meet it.

    Args:
        model_id: `mlModelId`; ANY_MODEL: any.
        domain: e.g. IMAGE_RECOGNITION.
        services: VAL services that it is for, all of them.
        vendors: it is for all of these.
        phase: MLModelPhase, e.g. TRAINED.
        base: `baseModelId`, the model it was trained from.
        usages: TRAINING, INFERENCE.
        max_size: bytes at most.
    """
    found = given(
        mlModelId=model_id,
        domain=domain,
        valServiceIds=_some(services),
        vendors=_some(vendors),
        mlModelSize=max_size,
        usageReqs={"usages": list(usages)} if usages else None,
    )
    if phase or base:
        origin = {"baseModelId": base} if base else None
        found["phaseInfo"] = given(phase=phase or "TRAINED", trainingInfo=origin)
    # The type wants one of four attributes even in a filter; this one asks for nothing.
    if not {"vendors", "phaseInfo"} & found.keys():
        found["storeDiscReqs"] = {"duration": 0}
    return found


def _some(items: Sequence[Any]) -> list[Any] | None:
    """The items as a list; the wire has no empty ones."""
    return list(items) or None
