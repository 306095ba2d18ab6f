"""What participants send in: updates and HFL training notifications (TS 23.482 8.12.2.1 step 8).

The weight of an update is the number of samples that its file's metadata names. A plain 3GPP client names none:
then the number counts that it was asked to train on, and nobody's counts for more than that. A notification without
an update is legal.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aimle_server.hfl.engine import Engine, Seat
from aimle_server.hfl.events import Errored, Offended, Reported
from aimle_server.hfl.load import LoadMeter
from aimle_server.hfl.round_files import RoundFiles
from aimle_server.hfl.training import SETTLED, State
from ml_repository.registrations import Registrations
from sbi import zstd
from sbi.errors import Conflict, InvalidRequest, PayloadTooLarge
from sbi.tensors import MAX_HEADER
from sbi.undisturbed import undisturbed

_log = logging.getLogger("aimle.hfl")

MOST_SAMPLES = 2**31 - 1

LONGEST_REASON = 200
"""Characters of a client's own words that are kept and shown to the VAL server."""

_ANY = 1e100
_METRICS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "precision", "recall", "f1"), (0.0, 1.0)),
    **dict.fromkeys(("mse", "mae", "latency"), (0.0, _ANY)),
    "loss": (-_ANY, _ANY),
}
"""The metrics that are pooled, from where to where one can be; whatever else a client names is its own affair.

Without bounds one client could end everybody's training by a score that none can have, or a mean by overflow.
"""

_WIRE_METRICS = {
    "modelPrecision": "precision",
    "modelRecall": "recall",
    "modelF1score": "f1",
    "errorMeanSquare": "mse",
    "errorMeanAbs": "mae",
}


class Reports:
    """Takes what the participants of this process's trainings send."""

    def __init__(
        self, engine: Engine, files: RoundFiles, registrations: Registrations, meter: LoadMeter
    ) -> None:
        self._engine = engine
        self._files = files
        self._registrations = registrations
        self._meter = meter

    def seat(self, key: str, round_number: int | None = None) -> Seat:
        """The participant with this key, of this round.

        Raises:
            NotFound: there is none; Conflict: that round is not running for it (any more).
        """
        seat = self._engine.seat(key)
        running = seat.training.state is State.ROUND_RUNNING and seat.participant.state not in SETTLED
        if not running or round_number not in (None, seat.training.round):
            raise Conflict("this round is not running for this participant", cause="ROUND_IS_OVER")
        return seat

    async def model(self, seat: Seat) -> Path:
        """The file of the running round's model."""
        training = seat.training
        return await self._files.fetch(training, training.round)

    async def update(self, key: str, round_number: int, uploaded: Path, *, packed: bool = False) -> None:
        """Keep a complete upload as the participant's update; the file, `packed` or not, is used up, whatever happens.

        Raises:
            InvalidRequest: it is not an update of this model, or its sample count is no count; PayloadTooLarge: it
            has, unpacked, more bytes than one can have. Each is an offence, and after too many of them the client is
            excluded. NotFound, Conflict: as for `seat`.
        """
        try:
            seat = self.seat(key, round_number)
            try:
                if packed:
                    await undisturbed(zstd.unpack, uploaded, await self.most_bytes(seat))
                await self._take(seat, key, round_number, uploaded)
            except (InvalidRequest, PayloadTooLarge) as error:
                await self.offended(seat, error.detail)
                raise
        except BaseException:
            await asyncio.to_thread(uploaded.unlink, missing_ok=True)
            raise

    async def most_bytes(self, seat: Seat) -> int:
        """The most that an update can have: the model's tensors, and a header that is read at all."""
        return (await self.model(seat)).stat().st_size + MAX_HEADER

    async def offended(self, seat: Seat, reason: str) -> None:
        """Note an update that was refused: in the training, in the client's record and in the log."""
        reason = reason[:LONGEST_REASON]
        _log.warning("training %s: client %s: %s", seat.training.training_id, seat.client_id, reason)
        seat.driver.put(Offended(seat.client_id, reason))
        await self._registrations.record_offence(seat.client_id)

    async def _take(self, seat: Seat, key: str, round_number: int, uploaded: Path) -> None:
        metadata = await self._files.check(seat.training, uploaded)
        samples = _sample_count(metadata, seat.training.request)
        # Checking took its time. From here on there is no await: the round may close at any.
        self.seat(key, round_number)
        self._files.keep(seat.training, seat.participant, uploaded)
        seat.driver.updates[key] = (round_number, samples)

    async def notify(self, key: str, round_number: int, attempt: int, body: Mapping[str, Any]) -> None:
        """Take a participant's HflReport; one that comes late or again changes nothing.

        `attempt` is the one whose address was used: an update may well be of an earlier one, an error not.
        """
        seat = self._engine.seat(key)
        details = body.get("aimle", {})
        if "load" in details:
            self._meter.reported(seat.client_id, details["load"])
        if error := body.get("hflTrngErr"):
            reason = details.get("reason", error)[:LONGEST_REASON]
            seat.driver.put(Errored(seat.client_id, round_number, attempt, reason))
            return
        at, samples = seat.driver.updates.get(key, (0, 0))
        metrics = _metrics(body["hflTrngOut"], details.get("metrics", {}))
        evaluated = details.get("numEvalSamples", 1 if metrics else 0)
        fitted = samples if at == round_number else 0
        seat.driver.put(Reported(seat.client_id, round_number, fitted, evaluated, metrics))


def _sample_count(metadata: Mapping[str, str], request: Mapping[str, Any]) -> int:
    text = metadata.get("aimle.num_samples")
    if text is None:
        return int(request.get("dataSamples", 1))
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) <= MOST_SAMPLES):
        raise InvalidRequest.of("aimle.num_samples", f"not a number from 1 to {MOST_SAMPLES}")
    return min(int(text), int(request.get("dataSamples", MOST_SAMPLES)))


def _metrics(output: Mapping[str, Any], precise: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a report: our precise ones where they are sent, else 3GPP's PerfParams."""
    metrics = {name: output[wire] for wire, name in _WIRE_METRICS.items() if wire in output}
    if "modelAccuracy" in output:
        metrics["accuracy"] = output["modelAccuracy"] / 100
    metrics |= {name: precise[name] for name in _METRICS if name in precise}
    return {name: float(value) for name, value in metrics.items() if _is_possible(name, value)}


def _is_possible(name: str, value: float) -> bool:
    least, most = _METRICS[name]
    return least <= value <= most
