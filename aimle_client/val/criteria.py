"""Builders of the large nested inputs: which clients, which members, which models, what an FL member is.

They return wire dicts. Whatever a builder has no argument for can be added to its result under the wire's own name.
They raise ValueError for a value that they do not list and for a number out of range, and TypeError for one text
instead of a list.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aimle_client.val.checks import all_known, known, texts, within
from aimle_client.val.values import Wire, given
from sbi.clock import to_wire
from schemas import client_discovery as disc
from schemas.client_registration import MlApplicationType, ResourceUsageLevel
from schemas.fl_member import SuppAimlRoleType
from schemas.model_management import MLModelDomain, MLModelPhase, MLModelUsage

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
    within("min_size", min_size, 0)
    within("max_dropout", max_dropout, 0, 100)
    ages = None if since is None else to_wire(since)
    data = given(
        ids=texts("datasets", datasets), age=ages, size=min_size, features=texts("features", features)
    )
    kind = given(
        dataType=known("data_type", data_type, disc.DataType), functions=texts("functions", functions)
    )
    task = given(
        compCap=known("compute", compute, disc.ComputeCapability),
        perfCap=known("performance", performance, disc.PerformanceCapability),
    )
    how = known("learning", learning, disc.MlAppType)
    return given(
        serviceReq=given(valServId=service, permLevel=known("permission", permission, disc.ServicePermLevel)),
        aimlOpers=all_known("operations", operations, disc.AimlOperationRole),
        clientAppCap=given(appType=how, avail=list(available) or None, dropOfRate=max_dropout),
        mlModelTypes=all_known("model_types", model_types, disc.MlModelType),
        datasetReq=given(avail=data or None, cap=kind or None) or None,
        clientTaskCap=task or None,
        clientVel=known("velocity", velocity, disc.ClientVelocity),
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
    known("learning", learning, MlApplicationType)
    known("resources", resources, ResourceUsageLevel)
    capability = learning and {"mlAppType": learning, "rsrcUsageLvl": resources}
    return given(clientLoc=location, clientAvailability=_window(available), clientCapability=capability)


def fl_member(
    member_id: str,
    *,
    group: str,
    role: str = "FL_CLIENT",
    resources: str = "STANDARD_RESOURCE_USAGE",
    available: Sequence[Wire] = (),
    models: Sequence[str] = (),
    area: Wire | None = None,
    valid: tuple[datetime, datetime] | None = None,
) -> dict[str, Any]:
    """FlMbr: who offers itself for federated learning, and how (TS 23.482 8.4).

    Args:
        member_id: `flMbrId`, whom others may select; one registration for each.
        group: `flGroupId`, the FL group that it is for.
        role: `suppAimlRole`: FL_CLIENT or FL_SERVER.
        resources: `rsrcUsageLvl`: PREMIUM_, STANDARD_ or LIMITED_RESOURCE_USAGE.
        available: ScheduledCommunicationTime at which it takes part; none: at any time.
        models: identifiers of the models that it supports.
        area: GeographicArea for which it registers.
        valid: from when to when it is registered; None: until it leaves.
    """
    known("resources", resources, ResourceUsageLevel)
    return given(
        flMbrId=member_id,
        flMbrSuppGrp={"flGroupId": group},
        suppAimlRole=known("role", role, SuppAimlRoleType),
        flMbrCapability={"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": resources},
        flMbrAvailSch=list(available) or None,
        supMlModelId=texts("models", models),
        areaValidity=area,
        timeValidity=_window(valid),
    )


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
        domain: SPEECH_RECOGNITION, IMAGE_RECOGNITION, IMAGE_PROCESSING, LOCATION_PREDICTION or CUSTOM.
        services: VAL services that it is for, all of them.
        vendors: it is for all of these.
        phase: NOT_TRAINED, IN_TRAINING, TRAINED, IN_RETRAINING or DEPLOYED.
        base: `baseModelId`, the model it was trained from.
        usages: TRAINING, INFERENCE.
        max_size: bytes at most.
    """
    within("max_size", max_size, 0)
    known("phase", phase, MLModelPhase)
    wanted = all_known("usages", usages, MLModelUsage)
    found = given(
        mlModelId=model_id,
        domain=known("domain", domain, MLModelDomain),
        valServiceIds=texts("services", services),
        vendors=texts("vendors", vendors),
        mlModelSize=max_size,
        usageReqs=wanted and {"usages": wanted},
    )
    if phase or base:
        origin = {"baseModelId": base} if base else None
        found["phaseInfo"] = given(phase=phase or "TRAINED", trainingInfo=origin)
    # The type wants one of four attributes even in a filter; this one asks for nothing.
    if not {"vendors", "phaseInfo"} & found.keys():
        found["storeDiscReqs"] = {"duration": 0}
    return found


def _window(span: tuple[datetime, datetime] | None) -> dict[str, str] | None:
    """TimeWindow."""
    return span and dict(zip(("startTime", "stopTime"), map(to_wire, span), strict=True))
