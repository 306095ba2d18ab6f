"""An update made smaller before it is written, as the training profile asks (`updateDtype`, `updateDelta`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aimle_client.trainers.base import Array, Parameters, check_like
from sbi import bfloat16
from sbi.reduced import DELTA, IS_DELTA, dtype_of
from sbi.tensors import InvalidTensors


@dataclass(frozen=True)
class Reduced:
    """What is to be sent of a trained model.

    Attributes:
        arrays: tensor name -> values in its own shape, those in bfloat16 as uint16.
        dtypes: of the tensors that are reduced, as safetensors names them.
        metadata: what the update's file has to say of it.
    """

    arrays: Mapping[str, Array]
    dtypes: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def reduced(trained: Parameters, received: Parameters, config: Mapping[str, Any]) -> Reduced:
    """The update as `config` asks for it: `trained` itself, uncopied, where it asks for nothing.

    Integer and boolean tensors stay as they are, and float16 ones keep their dtype. What this client does not know
    it leaves out: a full update is always taken.

    Raises:
        ValueError: `trained` has other tensors or shapes than `received`.
        InvalidTensors: a value has no finite one in the dtype that is asked for.
    """
    dtype, delta = dtype_of(config), config.get(DELTA) is True
    if dtype is None and not delta:
        return Reduced(trained)
    check_like(trained, {name: values.shape for name, values in received.items()})
    arrays, dtypes = dict(trained), {}
    for name, values in received.items():
        if values.dtype.kind != "f":
            continue
        if delta:
            arrays[name] = _difference(trained[name], values)
        if dtype is not None and values.itemsize > 2:
            arrays[name], dtypes[name] = _narrowed(name, arrays[name], dtype), dtype
    return Reduced(arrays, dtypes, {IS_DELTA: "true"} if delta else {})


def _difference(trained: Array, received: Array) -> Array:
    with np.errstate(over="ignore"):  # what is not finite is refused by name, here or at the server
        return np.asarray(np.subtract(trained, received, dtype=received.dtype))


def _narrowed(name: str, values: Array, dtype: str) -> Array:
    narrow: Array
    with np.errstate(over="ignore"):
        if dtype == "F16":
            narrow = values.astype(np.float16)
            finite = bool(np.isfinite(narrow).all())
        else:
            narrow = bfloat16.narrowed(values.astype(np.float32, copy=False))
            finite = bfloat16.all_finite(narrow)
    if not finite:
        raise InvalidTensors(f"tensor {name!r} has values that are not finite in {dtype}")
    return narrow
