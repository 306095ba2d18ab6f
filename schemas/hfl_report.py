"""What a client reports at the end of a round: 3GPP's HflTrngNotify, and our member `aimle` beside it.

PerfParams has no room for the round, sample counts or precise figures; whoever does not know `aimle` ignores it.
"""

from schemas.base import Integer, Map, Number, Schema, Text, nested
from schemas.common import Percentage
from schemas.hfl_training import HflTrngNotify


class ReportDetails(Schema):
    """The figures of one round: samples fitted on and evaluated on, metrics of the received model.

    `reason` says in words what failed, `load` how much the client's machine has to do, in per cent.
    """

    round = Integer(0, 2**31 - 1)
    numSamples = Integer(0, 2**31 - 1)
    numEvalSamples = Integer(0, 2**31 - 1)
    metrics = Map(Number())
    reason = Text()
    load = Percentage()  # type: ignore[assignment]  # a field is not the class's attribute


class HflReport(HflTrngNotify):
    """HflTrngNotify as our own clients send it."""

    aimle = nested(ReportDetails)
