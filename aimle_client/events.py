"""News as the VAL server gets them (TS 23.482).

Of trainings (8.3.3.3), selections (8.13), models (8.2), FL (8.5), pipelines (8.14).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from sbi.clock import from_wire
from schemas.base import Map, Number, Schema, Text, nested
from schemas.common import Uinteger
from schemas.model_training import MlModelTrainNotif
from schemas.split_event import SplitOpEventNotif, SplitOpPipelineInfo, SplitOpProfile

COMPLETED, FAILED, CANCELLED = TERMINAL = ("COMPLETED", "FAILED", "CANCELLED")
"""The states in which a training has ended."""


class TrainingDetails(Schema):
    """What 3GPP's attributes cannot say: our own part of the notification."""

    state = Text()
    reason = Text(allow_none=True)
    round = Uinteger()
    evaluatedRound = Uinteger()
    metrics = Map(Number())
    outputModelId = Text()


class TrainingNotification(MlModelTrainNotif):
    """MlModelTrainNotif with our part."""

    aimle = nested(TrainingDetails)


class WholePipelineInfo(SplitOpPipelineInfo):
    """SplitOpPipelineInfo that says of which pipeline."""

    splitOpProfile = nested(SplitOpProfile, required=True)


class PipelineNotification(SplitOpEventNotif):
    """SplitOpEventNotif of a pipeline."""

    splitOpPipelineInfo = nested(WholePipelineInfo, required=True)


@dataclass(frozen=True)
class MemberChange:
    """An AIMLE client that takes part from now on (`selected`), or does not any more; `uri` is its apiRoot."""

    uri: str
    selected: bool


@dataclass(frozen=True)
class TrainingEvent:
    """One notification.

    An AIMLE server without our part of the notification says neither `state` nor rounds: there 100 per cent
    counts as COMPLETED and a `trainErr` as FAILED.

    Attributes:
        training_id: `trainingID`.
        percentage: `percentageComp`, how far the training is, 0 to 100.
        members: `members`, who came and who went; only where `train` was asked to tell.
        output: `trainOut` under its wire names; `modelAccuracy` in per cent, the others as fractions.
        error: `trainErr`, e.g. PERFORMANCE_ERRORS. UNDERFITTING with state COMPLETED: the training has ended
            without reaching the objective's target; its model is the last one, with `patience` the best one.
        state: COMPLETED, FAILED or CANCELLED at the end; None: the training goes on.
        reason: why it ended, in words.
        round: the round that was committed, from 1.
        evaluated_round: the round whose model `metrics` and `output` are about; 0: the model it began with.
        metrics: by name, e.g. `accuracy`, as fractions.
        output_model_id: the model that the training stored, once it has ended with one.
    """

    training_id: str | None
    percentage: int | None = None
    members: tuple[MemberChange, ...] = ()
    output: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    state: str | None = None
    reason: str | None = None
    round: int | None = None
    evaluated_round: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    output_model_id: str | None = None

    @property
    def terminal(self) -> bool:
        """Whether the training has ended; there is no event after this one."""
        return self.state in TERMINAL

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Self:
        """The event of a valid notification."""
        details = body.get("aimle", {})
        return cls(
            training_id=body.get("trainingID"),
            percentage=body.get("percentageComp"),
            members=tuple(
                MemberChange(member.get("clientUri", ""), member.get("clientSel", True))
                for member in body.get("members", ())
            ),
            output=body.get("trainOut", {}),
            error=body.get("trainErr"),
            state=details.get("state") if "aimle" in body else _standard_state(body),
            reason=details.get("reason"),
            round=details.get("round"),
            evaluated_round=details.get("evaluatedRound"),
            metrics=details.get("metrics", {}),
            output_model_id=details.get("outputModelId"),
        )


@dataclass(frozen=True)
class Replacement:
    """One change of the selected clients: `selected` came, `replaced` went; None: nobody did."""

    replaced: str | None
    selected: str | None


@dataclass(frozen=True)
class SelectionEvent:
    """News of a client selection subscription (ClientSelNotif).

    Attributes:
        changes: `reports`, by AIMLE client identifiers; in a periodic report all that are selected, as newcomers.
        at: `timeStamp`, in UTC, if the server tells it.
    """

    changes: tuple[Replacement, ...]
    at: datetime | None = None

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Self:
        """The event of a valid notification."""
        return cls(
            tuple(
                Replacement(report["replaced"] or None, report["selected"] or None)
                for report in body["reports"]
                if report["replaced"] or report["selected"]
            ),
            from_wire(body["timeStamp"]) if "timeStamp" in body else None,
        )


@dataclass(frozen=True)
class ModelsEvent:
    """News of a subscription to models (MlMdlRetNotif).

    Attributes:
        models: where the bytes of each are, by mlModelId; None where they are not at an address.
    """

    models: Mapping[str, str | None]

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Self:
        """The event of a valid notification."""
        return cls(
            {
                model["mlModelId"]: model.get("mlMdlEndpoint", {}).get("uri")
                for model in body.get("mlModels", ())
            }
        )


@dataclass(frozen=True)
class PipelineEvent:
    """News of a split operation pipeline (SplitOpEventNotif).

    Attributes:
        sub_event: CREATED, UPDATED or DELETED; None: how it stands.
        profile: its SplitOpProfile, in wire shape.
    """

    sub_event: str | None
    profile: Mapping[str, Any]

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Self:
        """The event of a valid notification."""
        info = body["splitOpPipelineInfo"]
        return cls(info.get("subEventId"), info["splitOpProfile"])


@dataclass(frozen=True)
class FLNews:
    """What has happened to an FL member, or how it stands in a report (EvtContent).

    Attributes:
        member: `flMbrId`; None: it is about all of the type, as news of a model is.
        type: FL_CLIENT or FL_SERVER, if the server says so.
        entering: it is available from now on; False: it is not any more; None: that has not changed.
        capability: its ClientCapability, if it is another one now.
        until: `flMbrTimeAvail`, until when it is available as far as is known.
        area: `areaOfInterest`, the LocationArea where it says it is.
        load: in per cent, if the server measures it.
        model, accuracy: a model, and its accuracy in per cent.
    """

    member: str | None
    type: str | None = None
    entering: bool | None = None
    capability: Mapping[str, Any] | None = None
    until: datetime | None = None
    area: Mapping[str, Any] | None = None
    load: int | None = None
    model: str | None = None
    accuracy: float | None = None

    @classmethod
    def from_wire(cls, content: Mapping[str, Any]) -> Self:
        """Of an EvtContent."""
        details, moved = content.get("aimle", {}), content.get("flMbrEnterLeave")
        available = content.get("flMbrTimeAvail")
        return cls(
            member=content["flMbrInfo"].get("flMbrId"),
            type=content["flMbrInfo"].get("flMbrType"),
            entering=None if moved is None else moved == "ENTERING",
            capability=content.get("flMbrCapabilityUpdated"),
            until=from_wire(available["stopTime"]) if available else None,
            area=content.get("areaOfInterest"),
            load=details.get("load"),
            model=details.get("mlModelId"),
            accuracy=details.get("accuracy"),
        )


@dataclass(frozen=True)
class FLEvent:
    """News of a subscription to FL events (FlEvtsNotif).

    Attributes:
        name: `evtId`; our server's are FL_MEMBER_AVAILABILITY, FL_MODEL_INFORMATION and FL_MEMBER_LOAD.
        at: `evtTime`, in UTC.
        news: of each member that it is about.
    """

    name: str
    at: datetime
    news: tuple[FLNews, ...]

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Self:
        """The event of a valid notification."""
        news = tuple(FLNews.from_wire(content) for content in body["evtContentList"])
        return cls(body["evtId"], from_wire(body["evtTime"]), news)


def _standard_state(body: Mapping[str, Any]) -> str | None:
    """How the training stands as far as 3GPP's own attributes say."""
    if "trainErr" in body:
        return FAILED
    return COMPLETED if body.get("percentageComp") == 100 else None
