"""What client and server must agree on of reduced updates; `aimle.config` asks for them by the profile's attributes.

An update says itself what it is: its tensors' dtypes in the file's header, that it is a difference in its
metadata, that it is packed in Content-Encoding. So full and reduced ones may come in one round.
"""

from collections.abc import Mapping
from typing import Any

from sbi.tensors import InvalidTensors
from sbi.zstd import CODING

DTYPE, DELTA, COMPRESSION = "updateDtype", "updateDelta", "updateCompression"
"""The attributes of a training profile."""

IS_DELTA = "aimle.delta"
"""In an update's metadata: `true` when its floats are to be added to the model that the round began with."""

_DTYPES = {"FLOAT16": "F16", "BFLOAT16": "BF16"}
_CODINGS = {"ZSTD": CODING}


def dtype_of(profile: Mapping[str, Any]) -> str | None:
    """The dtype that wide floats may have in updates, as safetensors names it; None: the model's own only."""
    return _DTYPES.get(profile.get(DTYPE, ""))


def coding_of(profile: Mapping[str, Any]) -> str | None:
    """The content coding that updates may have; None: none."""
    return _CODINGS.get(profile.get(COMPRESSION, ""))


def is_delta(metadata: Mapping[str, str]) -> bool:
    """Whether an update is a difference.

    Raises:
        InvalidTensors: it says neither yes nor no.
    """
    text = metadata.get(IS_DELTA, "false")
    if text not in ("true", "false"):
        raise InvalidTensors(f"{IS_DELTA} is neither true nor false")
    return text == "true"
