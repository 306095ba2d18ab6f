"""bfloat16 by the numbers: of the two neighbours the nearer one, found by comparing distances in float64."""

import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt


def nearest_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The bfloat16 nearest to each finite float32; equally near ones: the one whose significand is even.

    Such a number is m * 2^e with |m| from 128 to 255, or below that with the least e, which is -133.
    """
    exact = np.asarray(values, np.float64)
    _, exponent = np.frexp(exact)
    unit = np.exp2(np.maximum(exponent - 8, -133).astype(np.float64))
    below = np.floor(exact / unit)
    up, down = (below + 1) * unit - exact, exact - below * unit
    upward = (up < down) | ((up == down) & (below % 2 == 1))
    return np.asarray(np.where(upward, below + 1, below) * unit)


def bfloat16_file(
    arrays: Mapping[str, npt.NDArray[np.float32]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A model file whose tensors are in BF16, put together by hand."""
    header: dict[str, object] = {"__metadata__": dict(metadata or {})}
    data = b""
    for name, values in arrays.items():
        # The nearest values have 16 bits of zeros at the end, which are cut off.
        bits = nearest_bfloat16(values).astype("<f4").view("<u4") >> 16
        place = [len(data), len(data) + 2 * values.size]
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": place}
        data += bits.astype("<u2").tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
