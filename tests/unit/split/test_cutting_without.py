"""A server without the extra `split`."""

import sys

import pytest

from aimle_server.split.cutting import cut_points
from sbi.errors import NotSupported


def test_without_onnx_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts, and says that it cannot (501) when it is asked to."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(NotSupported, match="extra `split`"):
        cut_points(b"")
