"""What a client makes of a trained model before it sends it."""

import numpy as np
import pytest

from aimle_client.runtime.reduction import reduced
from sbi.tensors import InvalidTensors
from tests.support_bfloat16 import nearest_bfloat16

RECEIVED = {
    "w": np.linspace(-3, 3, 7, dtype=np.float32).reshape(7, 1),
    "wide": np.array([0.1, 1e5], np.float64),
    "half": np.array([0.5, 2], np.float16),
    "steps": np.array(7),
}
TRAINED = {
    "w": RECEIVED["w"] + np.float32(0.1),
    "wide": RECEIVED["wide"] - 0.3,
    "half": RECEIVED["half"] * np.float16(3),
    "steps": np.array(8),
}


@pytest.mark.parametrize(
    "config", [{}, {"updateDelta": False}, {"updateDtype": "FLOAT8", "updateCompression": "ZSTD"}]
)
def test_what_nobody_asks_for_is_not_done(config):
    """The very arrays of the trainer are sent, also where something is asked for that is not known here."""
    found = reduced(TRAINED, RECEIVED, config)
    assert found.arrays is TRAINED
    assert (dict(found.dtypes), dict(found.metadata)) == ({}, {})


def test_float16():
    """Wide floats are rounded; float16 and integers go as they are."""
    found = reduced({**TRAINED, "wide": RECEIVED["wide"] / 10}, RECEIVED, {"updateDtype": "FLOAT16"})
    assert found.dtypes == {"w": "F16", "wide": "F16"}
    np.testing.assert_array_equal(found.arrays["w"], TRAINED["w"].astype(np.float16))
    assert found.arrays["half"] is TRAINED["half"]
    assert found.arrays["steps"] is TRAINED["steps"]
    assert not found.metadata


def test_bfloat16():
    """The bits of the nearest values; the range is that of float32."""
    found = reduced(TRAINED, RECEIVED, {"updateDtype": "BFLOAT16"})
    assert found.dtypes == {"w": "BF16", "wide": "BF16"}
    for name in found.dtypes:
        bits = found.arrays[name]
        assert (bits.dtype, bits.shape) == (np.uint16, TRAINED[name].shape)
        values = (bits.astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_array_equal(values, nearest_bfloat16(TRAINED[name].astype(np.float32)))


def test_differences():
    """Floats are what was learned, in the model's dtypes; integers are values; the metadata says so."""
    found = reduced(TRAINED, RECEIVED, {"updateDelta": True})
    assert found.metadata == {"aimle.delta": "true"}
    assert not found.dtypes
    for name in ("w", "wide", "half"):
        assert found.arrays[name].dtype == RECEIVED[name].dtype
        np.testing.assert_array_equal(found.arrays[name], TRAINED[name] - RECEIVED[name])
    assert found.arrays["steps"] == 8
    assert RECEIVED["w"][0] == -3


def test_differences_in_float16():
    """The difference is rounded, not the values: what is small stays exact to three digits of itself."""
    found = reduced(TRAINED, RECEIVED, {"updateDelta": True, "updateDtype": "FLOAT16"})
    np.testing.assert_allclose(found.arrays["wide"].astype(float), [-0.3, -0.3], rtol=1e-3)


@pytest.mark.parametrize(("dtype", "value"), [("FLOAT16", 65520), ("FLOAT16", -1e9), ("BFLOAT16", 3.4e38)])
@pytest.mark.filterwarnings("error")
def test_a_value_beyond_the_dtype_is_an_error(dtype, value):
    """It names the tensor; an infinity is never sent."""
    with pytest.raises(InvalidTensors, match="'w' has values that are not finite"):
        reduced({**TRAINED, "w": np.full((7, 1), value, np.float32)}, RECEIVED, {"updateDtype": dtype})


def test_another_model_is_an_error():
    """A tensor that is missing or of another shape is not stretched to fit."""
    for wrong in ({**TRAINED, "w": TRAINED["w"][:1]}, {"w": TRAINED["w"]}):
        with pytest.raises(ValueError, match="tensor '"):
            reduced(wrong, RECEIVED, {"updateDelta": True})
