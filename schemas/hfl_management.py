"""Types of our own HFL management API: how a model is trained, and how a training stands.

The standard leaves both open: it has no attribute for hyperparameters and none for progress by round.
"""

from schemas.base import Choice, Flag, Integer, Map, Number, Schema, Text, array_of
from schemas.common import DateTime, Uinteger

STRATEGIES = ("FEDAVG", "FEDPROX", "FEDADAM")
UPDATE_DTYPES = ("FLOAT16", "BFLOAT16")
UPDATE_COMPRESSIONS = ("ZSTD",)
TRAINING_STATES = (
    "REQUESTED",
    "SELECTING",
    "ROUND_RUNNING",
    "AGGREGATING",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
)
PARTICIPANT_STATES = ("INVITED", "TRAINING", "REPORTED", "ERRORED", "TIMED_OUT")


class TrainingProfile(Schema):
    """How a model is trained: the aggregation strategy and the hyperparameters of clients and server.

    Every attribute is optional; `load` fills in the defaults, but those of `roundTimeout` and `minReports`, which
    are the server's settings, and of the last three.
    `proximalMu` is for FEDPROX; `serverLearningRate`, `beta1`, `beta2` and `tau` are for FEDADAM.
    `roundTimeout` is in seconds; `minReports` is the fraction of participants that must send updates.
    `updateDtype` (of wider floats), `updateDelta` (differences to the received model) and `updateCompression` let
    clients send less; who does not know them sends updates as ever. Without them all updates are whole models.
    """

    strategy = Choice(*STRATEGIES, load_default="FEDAVG")
    localEpochs = Integer(1, 1000, load_default=1)
    batchSize = Integer(1, 1_000_000, load_default=32)
    learningRate = Number(0, 1000, load_default=0.01)
    proximalMu = Number(0, 1000, load_default=0.01)
    serverLearningRate = Number(0, 1000, load_default=0.1)
    beta1 = Number(0, 0.9999, load_default=0.9)
    beta2 = Number(0, 0.9999, load_default=0.99)
    tau = Number(1e-12, 1, load_default=0.001)
    roundTimeout = Integer(1, 604_800)
    minReports = Number(0, 1)
    seed = Integer(0, 2**32 - 1, load_default=0)
    updateDtype = Choice(*UPDATE_DTYPES)
    updateDelta = Flag()
    updateCompression = Choice(*UPDATE_COMPRESSIONS)


class ParticipantStatus(Schema):
    """A client's part in the round that runs.

    `samples` is what it trained on, once it has reported; `reason` says why it did not.
    """

    clientId = Text(required=True)
    state = Choice(*PARTICIPANT_STATES, required=True)
    samples = Uinteger()
    reason = Text()


class RoundStatus(Schema):
    """A round that was committed: how many took part, on how many samples, and the metrics by name."""

    round = Uinteger(required=True)
    participants = Uinteger(required=True)
    samples = Uinteger(required=True)
    metrics = Map(Number(), required=True)
    startedAt = DateTime()
    committedAt = DateTime()


class TaskMove(Schema):
    """A client's part of a round that another one went on with, after so many iterations (TS 23.482 8.6)."""

    round = Uinteger(required=True)
    sourceId = Text(required=True)
    targetId = Text(required=True)
    mode = Text(required=True)
    iterations = Uinteger(required=True)
    at = DateTime(required=True)
    transferId = Text()
    reason = Text()


class TrainingStatus(Schema):
    """How a training stands; `reason` says why it failed or was cancelled."""

    trainingId = Text(required=True)
    state = Choice(*TRAINING_STATES, required=True)
    round = Uinteger(required=True)
    modelId = Text()
    outputModelId = Text()
    participants = array_of(ParticipantStatus, min_items=0, required=True)
    history = array_of(RoundStatus, min_items=0, required=True)
    moves = array_of(TaskMove, min_items=0)
    reason = Text()
