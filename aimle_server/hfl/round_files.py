"""The files of a running training: the model each round begins with, the updates, what a strategy remembers.

On this machine's disk they are below `<directory>/<training>/`; a checkpoint of each committed round is an
artifact of the repository, so that another machine can go on. Number n is the round that begins with a model:
`model(n)` is what round n - 1 made, and `model(1)` the model that the training was asked to train.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aimle_server.hfl.aggregation import StrategyState, WeightedUpdate, aggregate
from aimle_server.hfl.folders import Folders
from aimle_server.hfl.strategies import strategy_for
from aimle_server.hfl.training import Participant, Training
from aimle_server.hfl.verdicts import best_round
from ml_repository.artifacts import CHUNK_BYTES, Artifacts, Condition
from ml_repository.models import Models
from sbi import digests
from sbi.digests import CRC32C, SHA256, Digest
from sbi.errors import Conflict, InvalidRequest
from sbi.growing import Reached, chunks_while_written
from sbi.hashed_file import opened
from sbi.outbound import Outbound, TargetRefused
from sbi.reduced import COMPRESSION, DELTA, DTYPE, dtype_of, is_delta
from sbi.tensors import (
    InvalidTensors,
    TensorWriter,
    check_finite,
    check_update,
    describe,
    numpy_dtype,
    read_into,
    unfinished,
)
from sbi.transfer import TransferError, download

_VALUES = 2**18
"""Values of a model that are in memory at once while its file is written anew."""

_CLIENT_PARAMETERS = ("localEpochs", "batchSize", "learningRate", "seed", DTYPE, DELTA, COMPRESSION)


class RoundFiles:
    """Files and checkpoints of the trainings that this process drives.

    Args:
        directory: where they are kept; made when first needed.
        artifacts, models: the repository's.
        outbound: fetches a first model that is not in the repository.
        max_bytes: of a model.

    Attributes:
        folders: where the files are.
    """

    def __init__(
        self, directory: Path, artifacts: Artifacts, models: Models, outbound: Outbound, max_bytes: int
    ) -> None:
        self.folders = Folders(directory)
        self._artifacts = artifacts
        self._models = models
        self._outbound = outbound
        self._max_bytes = max_bytes

    def model(self, training: Training, number: int) -> Path:
        """The model that round `number` begins with."""
        return self.folders.of(training.training_id) / f"model-{number}.safetensors"

    def update(self, training: Training, participant: Participant) -> Path:
        """A participant's update of the running round."""
        name = hashlib.sha256(participant.key.encode()).hexdigest()
        return self.folders.of(training.training_id) / f"update-{training.round}-{name}.safetensors"

    def _memory(self, training: Training, number: int) -> Path:
        return self.folders.of(training.training_id) / f"memory-{number}.safetensors"

    async def prepare(self, training: Training) -> None:
        """Have the running round's model on disk, ready to be sent.

        Raises:
            AimleError: the first model cannot be had, or is not one that can be trained.
        """
        path = await self.fetch(training, training.round)
        await asyncio.to_thread(digest_of, path, CRC32C)
        if strategy_for(training.profile).memory and training.committed:
            await self._restore(
                self._memory(training, training.round), _memory_id(training, training.committed)
            )

    async def fetch(self, training: Training, number: int) -> Path:
        """The model that round `number` begins with, from disk, its checkpoint or its origin."""
        path = self.model(training, number)
        if path.exists():
            return path
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        if number > 1:
            await self._restore(path, _checkpoint_id(training, number - 1))
        else:
            await self._fetch_first(training, path)
        return path

    async def _restore(self, path: Path, artifact_id: str) -> None:
        if not await asyncio.to_thread(path.exists):
            await self._artifacts.copy_to(artifact_id, path)

    async def _fetch_first(self, training: Training, path: Path) -> None:
        origin = path.with_suffix(".origin")
        if training.model_uri:
            await self._download(training.model_uri, origin)
        else:
            model = await self._models.get(training.model_id)
            if model is None or model.bytes is None:
                raise Conflict(f"the model {training.model_id} has no bytes any more")
            await self._artifacts.copy_to(model.bytes.artifact_id, origin)
        try:
            await asyncio.to_thread(_rewrite, origin, path, metadata_of(training, 1))
        except InvalidTensors as error:
            raise InvalidRequest.of("/modelInf", f"the model cannot be trained: {error}") from error
        finally:
            origin.unlink(missing_ok=True)

    async def _download(self, uri: str, path: Path) -> None:
        try:
            await download(self._outbound.session, uri, path, max_bytes=self._max_bytes)
        except (TransferError, TargetRefused) as error:
            raise Conflict(f"the model cannot be fetched from its mlModelLoc: {error}") from error

    async def check(self, training: Training, uploaded: Path) -> dict[str, str]:
        """The metadata of an uploaded update of the running round's model.

        Raises:
            InvalidRequest: it is not one; the reason names the tensor.
        """
        try:
            reference = self.model(training, training.round)
            return await asyncio.to_thread(_check, uploaded, reference, training.profile)
        except InvalidTensors as error:
            raise InvalidRequest(str(error), cause="INVALID_UPDATE") from error

    def keep(self, training: Training, participant: Participant, uploaded: Path) -> None:
        """Take a checked update into the running round, in place of the participant's earlier one.

        That one is removed first: a file system such as ext4 writes to the disk at once what replaces a file.
        """
        update = self.update(training, participant)
        update.unlink(missing_ok=True)
        uploaded.rename(update)

    async def aggregate(self, training: Training, condition: Condition) -> None:
        """Make the next round's model from the running round's updates, and its checkpoint under this condition.

        Where the checkpoint fails, doing it again only repeats that.

        Raises:
            Conflict: the updates have no finite mean.
        """
        counted = sorted(
            (p for p in training.participants.values() if p.samples > 0), key=lambda p: p.client_id
        )
        updates = [WeightedUpdate(self.update(training, p), float(p.samples)) for p in counted]
        target, checkpoint = (
            self.model(training, training.round + 1),
            _checkpoint_id(training, training.round),
        )
        if target.exists():
            await self._checkpoint(checkpoint, target, condition)
        else:
            made = chunks_while_written(
                partial(self._aggregate, training, updates, target), unfinished(target), target, CHUNK_BYTES
            )
            try:
                async with aclosing(
                    made
                ) as chunks:  # whoever takes over on this disk must not meet the thread
                    await self._artifacts.put_chunks(checkpoint, chunks, condition)
            except InvalidTensors as error:
                raise Conflict(f"round {training.round} cannot be aggregated: {error}") from error
        memory = self._memory(training, training.round + 1)
        if memory.exists():
            await self._checkpoint(_memory_id(training, training.round), memory, condition)

    def _aggregate(
        self, training: Training, updates: list[WeightedUpdate], target: Path, reached: Reached
    ) -> None:
        before = self._memory(training, training.round)
        state = StrategyState(
            before if training.committed else None, self._memory(training, training.round + 1)
        )
        aggregate(
            strategy_for(training.profile),
            describe(self.model(training, training.round)),
            updates,
            target,
            metadata_of(training, training.round + 1),
            state,
            reduced=dtype_of(training.profile),
            reached=reached,
        )
        digest_of(target, CRC32C)

    async def _checkpoint(self, artifact_id: str, path: Path, condition: Condition) -> None:
        digest = await asyncio.to_thread(digest_of, path)
        await self._artifacts.put(artifact_id, path, digest.hex, condition)

    async def prune(self, training: Training) -> None:
        """After a round was aggregated, remove its updates, and of the models all but this round's, the one before
        it (a crash may repeat the round) and the best; doing it twice changes nothing.
        """
        await asyncio.to_thread(_remove, self.folders.of(training.training_id), f"update-{training.round}-*")
        kept = {training.round, training.round - 1, best_round(training)}
        for number in range(1, training.round):
            if number not in kept and self.model(training, number + 1).exists():
                for path in (self.model(training, number + 1), self._memory(training, number + 1)):
                    await asyncio.to_thread(path.unlink, missing_ok=True)
                await self._artifacts.delete(_checkpoint_id(training, number))
                if strategy_for(training.profile).memory:
                    await self._artifacts.delete(_memory_id(training, number))

    async def forget(self, training: Training) -> None:
        """Drop what an earlier process left here: a third one may have made other models in between.

        The first model stays, for it may not be had a second time.
        """
        kept = self.model(training, 1)
        await asyncio.to_thread(_empty, self.folders.of(training.training_id), kept)
        await self.folders.touch([training.training_id])

    async def remove(self, training: Training) -> None:
        """Remove every file and checkpoint of a training that has ended."""
        for number in range(1, training.round + 1):
            await self._artifacts.delete(_checkpoint_id(training, number))
            await self._artifacts.delete(_memory_id(training, number))
        for seat in training.seats:
            await self._artifacts.delete(state_id(training, seat))
        await self.folders.remove([training.training_id])


def metadata_of(training: Training, number: int) -> dict[str, str]:
    """What travels with the model of a round, in the file's own metadata."""
    return {
        "aimle.training": training.training_id,
        "aimle.round": str(number),
        "aimle.config": json.dumps(_config(training), separators=(",", ":")),
    }


def _config(training: Training) -> dict[str, Any]:
    """The clients' part of the training profile; only FedProx pulls them to the global model."""
    config = {name: training.profile[name] for name in _CLIENT_PARAMETERS if name in training.profile}
    if training.profile.get("strategy") == "FEDPROX":
        config["proximalMu"] = training.profile["proximalMu"]
    return config


def digest_of(path: Path, algorithm: str = SHA256) -> Digest:
    """Of a file; its downloads, which begin all at once, then need not find it out again."""
    with opened(path) as file:
        return digests.digest_of(file, algorithm)


def _checkpoint_id(training: Training, number: int) -> str:
    return f"training:{training.training_id}:model:{number}"


def state_id(training: Training, seat: str) -> str:
    """The artifact that holds the latest intermediate state of the tasks of this seat (TS 23.482 8.6)."""
    return f"training:{training.training_id}:state:{seat}"


def _memory_id(training: Training, number: int) -> str:
    return f"training:{training.training_id}:memory:{number}"


def _rewrite(origin: Path, path: Path, metadata: dict[str, str]) -> None:
    """The same tensors with this training's metadata."""
    file = describe(origin)
    check_finite(file)
    with TensorWriter(
        path, {name: (spec.dtype, spec.shape) for name, spec in file.tensors.items()}, metadata
    ) as result:
        for name, spec in file.tensors.items():
            dtype = numpy_dtype(name, spec)
            for first in range(0, spec.size, _VALUES):
                values = np.empty(min(_VALUES, spec.size - first), dtype)
                read_into(origin, spec.start + first * dtype.itemsize, values)
                result.put(name, first, values)


def _remove(directory: Path, pattern: str) -> None:
    for path in directory.glob(pattern):
        path.unlink(missing_ok=True)


def _empty(directory: Path, kept: Path) -> None:
    for path in directory.glob("*"):
        if path != kept:
            path.unlink()


def _check(uploaded: Path, reference: Path, profile: Mapping[str, Any]) -> dict[str, str]:
    file = describe(uploaded)
    check_update(file, describe(reference), dtype_of(profile))
    if is_delta(file.metadata) and not profile.get(DELTA):
        raise InvalidTensors("a difference, and this training takes whole models")
    check_finite(file)
    return dict(file.metadata)
