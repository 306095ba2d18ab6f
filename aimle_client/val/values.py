"""What a VAL server's requests are made of and what it gets back, where the wire's own shape would be clumsy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

from aimle_client.events import CANCELLED, COMPLETED, TERMINAL
from aimle_client.val.checks import known, within
from sbi.clock import from_wire, to_wire
from schemas.model_training import PerformanceMetric

Wire = Mapping[str, Any]


@dataclass(frozen=True)
class DiscoveredClients:
    """AIMLE clients that fulfil criteria (ClientDiscResp).

    Attributes:
        clients: AIMLE client identifiers, in the order of the server's preference.
        tasks: `suppTasks`, what they can compute together.
        edge_servers: `edgeAimleSs`, EdgeAIMLES in wire shape.
    """

    clients: tuple[str, ...]
    tasks: tuple[Wire, ...] = ()
    edge_servers: Mapping[str, Wire] = field(default_factory=dict)


@dataclass(frozen=True)
class ClientSet:
    """AIMLE clients that have agreed to take part (ClientSelResp); `client_set` is the identity of their set."""

    client_set: str
    clients: tuple[str, ...]


@dataclass(frozen=True)
class Storage:
    """An ML models storage: its storageId, and the MLModelsStorage in wire shape."""

    storage_id: str
    content: Wire


@dataclass(frozen=True)
class FLMember:
    """An FL member as it is registered: its configurationId, and the FlMbr in wire shape."""

    configuration_id: str
    content: Wire


@dataclass(frozen=True)
class StoredModel:
    """A model as the ML repository shows it.

    Attributes:
        model_id: its mlModelId.
        info: its MLModel in wire shape.
        uri: where its bytes are; None: they cannot be had now.
        profile_id: its mlModelProfId; None: not told.
        storage_id: the storage that `store_model` made for it; None: it comes from a search.
    """

    model_id: str
    info: Wire
    uri: str | None = field(default=None, repr=False)
    profile_id: str | None = None
    storage_id: str | None = None

    @property
    def phase(self) -> str | None:
        """MLModelPhase: NOT_TRAINED, IN_TRAINING, TRAINED, IN_RETRAINING, DEPLOYED."""
        phase: str | None = self.info.get("phaseInfo", {}).get("phase")
        return phase

    @property
    def size(self) -> int | None:
        """`mlModelSize` in bytes."""
        return self.info.get("mlModelSize")

    @classmethod
    def of_profile(cls, profile: Wire, storage_id: str | None = None) -> Self:
        """From an MLModelProfile."""
        info = profile["mlModelInfo"]
        uri = profile.get("mlModelUri", {}).get("uri")
        return cls(info["mlModelId"], info, uri, profile.get("mlModelProfId"), storage_id)


@dataclass(frozen=True)
class Objective:
    """What a training is to reach, and when it ends without (TrainingObj, TS 23.482 table 8.3.3.1-2).

    Attributes:
        metric: `objType`: ACCURACY, PRECISION, RECALL, MEAN_SQUARED_ERROR or MEAN_ABSOLUTE_ERROR.
        target: `targetValue`; a fraction for the first three, in the data's own unit for the errors.
        patience: rounds in a row without improvement after which training stops; None: never.
        min_delta: an improvement smaller than this counts as none.
        max_epochs: `maxEpochs`, passes over the clients' data at most.
        acceptable_error: `accTrainingErr`: a result with a larger error (1 - the fraction) is a failure.
        latency: `inferenceLatency` that the result may have, in seconds per sample.

    Raises:
        ValueError: a metric that is not one of these, or a number out of range.
    """

    metric: str = "ACCURACY"
    target: float | None = None
    patience: int | None = None
    min_delta: float | None = None
    max_epochs: int | None = None
    acceptable_error: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        known("metric", self.metric, PerformanceMetric)
        most = math.inf if self.metric.endswith("_ERROR") else 1
        within("target", self.target, 0, most)
        within("acceptable_error", self.acceptable_error, 0, most)
        within("patience", self.patience, 1)
        within("min_delta", self.min_delta, 0)
        within("max_epochs", self.max_epochs, 1)
        within("latency", self.latency, 0)

    def to_wire(self) -> dict[str, Any]:
        """TrainingObj."""
        early = given(minDelta=self.min_delta, patience=self.patience)
        return given(
            objType=self.metric,
            targetValue=self.target,
            earlyStopCri=early or None,
            maxEpochs=self.max_epochs,
            accTrainingErr=self.acceptable_error,
            inferenceLatency=self.latency,
        )


@dataclass(frozen=True)
class TrainingProfile:
    """How a model is trained (our extension); None: the server's default.

    Attributes:
        strategy: FEDAVG, FEDPROX or FEDADAM.
        local_epochs: passes of a client over its data in one round.
        batch_size: samples per step.
        learning_rate: size of a client's step.
        proximal_mu: FEDPROX: pull towards the global model.
        server_learning_rate, beta1, beta2, tau: FEDADAM: the server's step, its two decays, its adaptivity.
        round_timeout: seconds after which a round goes on without those who have not reported.
        min_reports: part of the participants, 0 to 1, whose updates a round needs.
        seed: of everything that is drawn at random.
        update_dtype: FLOAT16 or BFLOAT16: clients send wider floats in this; None: in the model's own dtype.
        update_delta: clients send the difference to the model that they received.
        update_compression: ZSTD: clients compress what they send; None: they do not.
    """

    strategy: str | None = None
    local_epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    proximal_mu: float | None = None
    server_learning_rate: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    tau: float | None = None
    round_timeout: int | None = None
    min_reports: float | None = None
    seed: int | None = None
    update_dtype: str | None = None
    update_delta: bool | None = None
    update_compression: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """The document, with what is given."""
        return given(**{_camel(item.name): getattr(self, item.name) for item in fields(self)})

    @classmethod
    def from_wire(cls, document: Wire) -> Self:
        """The profile that a document holds."""
        return cls(**{item.name: document.get(_camel(item.name)) for item in fields(cls)})


@dataclass(frozen=True)
class ParticipantStatus:
    """A client's part in the running round.

    Attributes:
        client_id: its AIMLE client identifier.
        state: INVITED, TRAINING, REPORTED, ERRORED or TIMED_OUT.
        samples: what it trained on in this round; 0: nothing yet.
        reason: why it did not report, in words; None: not told.
    """

    client_id: str
    state: str
    samples: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class RoundStatus:
    """A round that was committed.

    Attributes:
        round: its number, from 1.
        participants: how many clients' updates made its model.
        samples: how many samples are behind it.
        metrics: of its model, by name, measured by the participants of the round after it.
        started, committed: when, in UTC; None: not told.
    """

    round: int
    participants: int
    samples: int
    metrics: Mapping[str, float]
    started: datetime | None = None
    committed: datetime | None = None


@dataclass(frozen=True)
class TaskMove:
    """A client's part of a round that another one went on with (TS 23.482 8.6).

    Attributes:
        round: of which round.
        source, target: client identifiers.
        mode: DIRECT or SERVER_CONTROLLED.
        iterations: done by the source, or by those before it; the target did the rest.
        at: when.
        reason: in words; empty: none was given.
    """

    round: int
    source: str
    target: str
    mode: str
    iterations: int
    at: datetime
    reason: str = ""


@dataclass(frozen=True)
class TrainingStatus:
    """How a training stands, as last committed (our extension).

    Attributes:
        training_id: `trainingId`.
        state: REQUESTED, SELECTING, ROUND_RUNNING, AGGREGATING, COMPLETED, FAILED or CANCELLED.
        round: the last round that was committed; 0: none yet.
        model_id: the model it began with.
        output_model_id: the model it made: COMPLETED, or CANCELLED after at least one round; otherwise None.
        participants: of the running round; before the first one, the members that were named, as INVITED.
        history: the committed rounds, oldest first.
        moves: parts of rounds that went from one client to another, oldest first.
        reason: why it ended, in words.
    """

    training_id: str
    state: str
    round: int
    model_id: str | None
    output_model_id: str | None
    participants: tuple[ParticipantStatus, ...]
    history: tuple[RoundStatus, ...]
    reason: str | None
    moves: tuple[TaskMove, ...] = ()

    @property
    def terminal(self) -> bool:
        """Whether it has ended."""
        return self.state in TERMINAL

    @classmethod
    def from_wire(cls, document: Wire) -> Self:
        """From a TrainingStatus in wire shape, which names the place for the result from the start."""
        state, committed = document["state"], document["round"]
        stored = state == COMPLETED or (state == CANCELLED and committed > 0)
        return cls(
            document["trainingId"],
            state,
            committed,
            document.get("modelId"),
            document.get("outputModelId") if stored else None,
            tuple(
                ParticipantStatus(part["clientId"], part["state"], part.get("samples", 0), part.get("reason"))
                for part in document["participants"]
            ),
            tuple(_round(entry) for entry in document["history"]),
            document.get("reason"),
            tuple(_move(entry) for entry in document.get("moves", ())),
        )


@dataclass(frozen=True)
class OperationInfo:
    """What a task runs at the clients, and with which addresses (AimleOperInfo).

    Attributes:
        container: `container`, what runs.
        fetch_uri: `fetchUri`, where the model comes from.
        aggregation_uri: `agrUri`, where updates go.
        max_convergence: `maxConvTime`, seconds that it may take.
    """

    container: str
    fetch_uri: str
    aggregation_uri: str
    max_convergence: int

    def to_wire(self) -> dict[str, Any]:
        """AimleOperInfo."""
        return {
            "container": self.container,
            "fetchUri": self.fetch_uri,
            "agrUri": self.aggregation_uri,
            "assitInfo": {"maxConvTime": self.max_convergence},
        }


@dataclass(frozen=True)
class StopWhen:
    """When an operation stops by itself, by the first condition that holds (AimleConfigMode).

    Attributes:
        accuracy: as soon as the accuracy is at least this, in per cent.
        at: at this moment.
        latency: as soon as the latency exceeds this, in milliseconds.
    """

    accuracy: int | None = None
    at: datetime | None = None
    latency: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """AimleConfigMode."""
        moment = None if self.at is None else to_wire(self.at)
        values = given(accuracy=self.accuracy, time=moment, latency=self.latency)
        return {"mode": "STOP", "measThrValues": values, "thrDirection": "ASCENDING"}


@dataclass(frozen=True)
class Reporting:
    """When a subscription tells, and of what (ReportingInformation); as it is: of news, as they come.

    Attributes:
        periodic: seconds between two reports of how everything stands, which are told instead of news.
        once: told once, of the first news; then the subscription has ended.
        at_once: told how everything stands as soon as it is subscribed.
        most: how many reports there are before it ends.
        until: when it ends in any case.

    Raises:
        ValueError: both `periodic` and `once`, or a number below 1.
    """

    periodic: int | None = None
    once: bool = False
    at_once: bool = False
    most: int | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.once and self.periodic is not None:
            raise ValueError("periodic, once: only one of them")
        within("periodic", self.periodic, 1)
        within("most", self.most, 1)

    @property
    def number(self) -> int | None:
        """How many reports there are; None: there is no end."""
        return 1 if self.once else self.most

    def to_wire(self) -> dict[str, Any]:
        """ReportingInformation."""
        method = "ONE_TIME" if self.once else "PERIODIC" if self.periodic else "ON_EVENT_DETECTION"
        return given(
            notifMethod=method,
            immRep=self.at_once or None,
            repPeriod=self.periodic,
            maxReportNbr=self.most,
            monDur=self.until and to_wire(self.until),
        )


@dataclass(frozen=True)
class FLEvents:
    """Which FL events are told of, and from where on (EvtInfo); as it is: all of them.

    Attributes:
        name: `evtId`: FL_MEMBER_AVAILABILITY, FL_MODEL_INFORMATION or FL_MEMBER_LOAD, for that one only; another
            text is a name of one's own, which comes back with each event.
        leaving_only: members that enter are not told of.
        accuracy: in per cent, from which on a model is told of.
        load: in per cent; a member is told of when its load comes to this, or falls below it.
        schedule: ScheduledCommunicationTimes of the training; members that are never available then are left out.
        latency: seconds until the training is to be completed.

    Raises:
        ValueError: `accuracy` is not from 0 to 100, or `load` or `latency` is below 0.
    """

    name: str | None = None
    leaving_only: bool = False
    accuracy: int = 100
    load: int = 100
    schedule: tuple[Wire, ...] = ()
    latency: int = 0

    def __post_init__(self) -> None:
        within("accuracy", self.accuracy, 0, 100)
        within("load", self.load, 0)
        within("latency", self.latency, 0)

    def to_wire(self) -> dict[str, Any]:
        """EvtInfo, whose type is all mandatory: an empty schedule is any time."""
        schedule = [dict(each) for each in self.schedule] or [{}]
        model = {"accuracy": self.accuracy, "timeSchedule": schedule, "latency": self.latency}
        kind = {
            "availFlMbr": "UNAVAILABLE" if self.leaving_only else "AVAILABLE",
            "flMdlInfo": model,
            "flMbrLdInfo": self.load,
        }
        return given(evtId=self.name, evtType=kind)


@dataclass(frozen=True)
class ServiceOperation:
    """An operation at AIMLE clients and its mode, START or STOP; exactly one of the identifiers is there."""

    mode: str
    training_id: str | None = None
    task_id: str | None = None


def given(**attributes: Any) -> dict[str, Any]:
    """The attributes that are not None."""
    return {name: value for name, value in attributes.items() if value is not None}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _move(entry: Wire) -> TaskMove:
    return TaskMove(
        entry["round"],
        entry["sourceId"],
        entry["targetId"],
        entry["mode"],
        entry["iterations"],
        from_wire(entry["at"]),
        entry.get("reason", ""),
    )


def _round(entry: Wire) -> RoundStatus:
    started, committed = (
        from_wire(entry[name]) if name in entry else None for name in ("startedAt", "committedAt")
    )
    return RoundStatus(
        entry["round"], entry["participants"], entry["samples"], entry["metrics"], started, committed
    )
