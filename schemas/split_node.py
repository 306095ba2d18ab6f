"""Types of AIMLE_SplitNode, our extension: what a node of a split operation pipeline is asked (TS 23.482 8.14).

Bytes are per second, times in seconds.
"""

from schemas.base import Array, Choice, Integer, Number, Schema, Text, array_of, nested
from schemas.common import Uinteger, Uri

STAGE_STATES = ("RUNNING", "BROKEN")


class StageRequest(Schema):
    """Run the part of a model that is at `modelUri`; `sha256`, in hexadecimal, is that of its bytes.

    `batch` is how many samples a frame is planned to have: those that have as many are timed.
    """

    modelUri = Uri(required=True)
    sha256 = Text()
    batch = Integer(1, 1_000_000, load_default=1)


class NextStage(Schema):
    """Where a stage sends its frames: the `inputUri` of another one. Without it, results are kept to be fetched."""

    uri = Uri(required=True)


class StageStatus(Schema):
    """A part that runs.

    `inputUri` and `resultsUri` are permission enough to send inputs to it and to fetch its results. `frames` is how
    many it has done, `secondsPerFrame` how long one took lately (the median), if it did any. A BROKEN one does nothing
    more: it has lost the next one.
    """

    stageId = Text(required=True)
    state = Choice(*STAGE_STATES, required=True)
    inputUri = Uri(required=True)
    resultsUri = Uri(required=True)
    frames = Uinteger(required=True)
    secondsPerFrame = Number()


class NodeStatus(Schema):
    """What a node runs for the caller."""

    stages = array_of(StageStatus, min_items=0, required=True)


class PartProfile(Schema):
    """How long a part takes here for one frame, of `runs` runs the median: read it, compute, write the result."""

    seconds = Number(required=True)
    runs = Uinteger(required=True)


class Probe(Schema):
    """An address at which another node measures its way to this one; it is good for a minute."""

    uri = Uri(required=True)


class LinkProfile(Schema):
    """The way to another node: how fast bytes follow one another, and how long each is on its way."""

    bytesPerSecond = Number(required=True)
    latency = Number(required=True)


class PipelineEnds(Schema):
    """Where a pipeline takes inputs and gives results."""

    headUri = Uri(required=True)
    tailUri = Uri(required=True)


class TensorType(Schema):
    """A tensor's name, element type as NumPy calls it, and shape."""

    name = Text(required=True)
    dtype = Text(required=True)
    shape = Array(Integer(0, 2**31 - 1), min_items=0, required=True)


class MeasurementRequest(Schema):
    """Send so many frames through a pipeline, each of them zeros of these tensors, and time them."""

    pipeline = nested(PipelineEnds, required=True)
    frames = Integer(1, 1000, load_default=10)
    tensors = array_of(TensorType, required=True)


class PipelineProfile(Schema):
    """What was measured: `latency` of one frame alone, the median, and frames per second when always one waits."""

    latency = Number(required=True)
    framesPerSecond = Number(required=True)
