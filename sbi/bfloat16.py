"""bfloat16, which NumPy does not have: the upper half of a float32, as uint16 arrays."""

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint16]
"""Values in bfloat16, of any shape."""

_EXPONENT = np.uint16(0x7F80)


def narrowed(values: npt.NDArray[np.float32]) -> Bits:
    """The nearest bfloat16 of each value, of two equally near ones the even one; too large: an infinity.

    NaN stays NaN.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).reshape(values.shape)
    upper = bits >> np.uint32(16)
    # What is cut off is more than half a unit in the last place, or half of one and the place is odd: carry.
    rounded = (bits + (np.uint32(0x7FFF) + (upper & np.uint32(1)))) >> np.uint32(16)
    quiet = upper | np.uint32(0x40)  # a carry could make an infinity, or a zero, of a NaN
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)


def widen(bits: Bits, out: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The values in float32, which has each of them, written to `out` of the same shape."""
    np.left_shift(bits, np.uint32(16), out=out.view(np.uint32), dtype=np.uint32)
    return out


def all_finite(bits: Bits) -> bool:
    """Whether no value is NaN or infinite."""
    return bool(((bits & _EXPONENT) != _EXPONENT).all())
