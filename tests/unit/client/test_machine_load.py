"""What the operating system says of the machine's load."""

import os

import pytest

from aimle_client.runtime.load import machine_load


@pytest.mark.parametrize(("processes", "load"), [(0.0, 0), (1.0, 25), (3.5, 88), (4.0, 100), (40.0, 100)])
def test_share_of_the_processors(monkeypatch: pytest.MonkeyPatch, processes: float, load: int) -> None:
    """Processes that want to run, in per cent of the processors, and never more than all of them."""
    monkeypatch.setattr(os, "getloadavg", lambda: (processes, 9.0, 9.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert machine_load() == load


def test_systems_that_do_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made up: where it cannot be had, or is not there at all, there is no figure."""

    def hidden() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", hidden)
    assert machine_load() is None
    monkeypatch.delattr(os, "getloadavg")
    assert machine_load() is None
