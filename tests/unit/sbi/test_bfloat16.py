"""bfloat16 as the nearest value, bit by bit."""

import numpy as np

from sbi.bfloat16 import all_finite, narrowed, widen
from tests.support_bfloat16 import nearest_bfloat16


def wide(bits: np.ndarray) -> np.ndarray:
    return widen(bits, np.empty(bits.shape, np.float32))


def test_the_nearest_value_of_each_float32():
    """Of every exponent, with ties, their neighbours and random values: the same as by distances in float64."""
    rng = np.random.default_rng(1)
    upper = np.arange(0x10000, dtype=np.uint32)[:, None] << 16
    lower = np.concatenate([[0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], rng.integers(0, 0x10000, 10)])
    values = (upper | lower.astype(np.uint32)).view(np.float32)
    values = values[np.isfinite(values)]
    expected = nearest_bfloat16(values)
    largest = float(wide(np.array([0x7F7F], np.uint16))[0])
    expected[np.abs(expected) > largest] *= np.inf
    np.testing.assert_array_equal(wide(narrowed(values)).astype(np.float64), expected)
    assert (np.signbit(wide(narrowed(values))) == np.signbit(values)).all()


def test_what_is_bfloat16_already_stays_what_it_is():
    """All 65,536 of them, but for NaN, which stays some NaN."""
    every = np.arange(0x10000, dtype=np.uint16)
    nan = np.isnan(wide(every))
    assert nan.sum() == 2 * 127
    np.testing.assert_array_equal(narrowed(wide(every))[~nan], every[~nan])
    assert np.isnan(wide(narrowed(wide(every))))[nan].all()


def test_nan_of_a_low_bit_only():
    """A NaN whose bits would all be cut off becomes neither an infinity nor a number."""
    hidden = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(wide(narrowed(hidden))).all()


def test_the_shape_is_kept():
    """Scalars, empty arrays and those that are not contiguous."""
    for values in (np.float32(1.5), np.zeros((0, 3), np.float32), np.ones((4, 6), np.float32).T[::2]):
        assert narrowed(np.asarray(values)).shape == np.shape(values)
    np.testing.assert_array_equal(wide(narrowed(np.arange(6, dtype=np.float32).reshape(2, 3).T))[0], [0, 3])


def test_finite():
    """Infinities and NaN, of either sign, are found; the largest value is none of them."""
    assert all_finite(np.array([0, 0x7F7F, 0xFF7F, 0x0001], np.uint16))
    for bits in (0x7F80, 0xFF80, 0x7F81, 0xFFFF):
        assert not all_finite(np.array([0, bits], np.uint16))
