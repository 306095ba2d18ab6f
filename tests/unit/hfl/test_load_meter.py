"""How busy clients are: the share of their time in rounds, and what they say of themselves."""

import pytest

from aimle_server.hfl.load import KNOWN, OWN, WINDOW, LoadMeter


class Stopwatch:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 10_000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, share: float) -> None:
        """So much of the window passes."""
        self.now += share * WINDOW


@pytest.fixture
def time() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def meter(time: Stopwatch) -> LoadMeter:
    return LoadMeter(time)


def test_time_in_a_round(meter: LoadMeter, time: Stopwatch) -> None:
    """From being asked on the share grows, after the report it stays until the window has gone past it."""
    assert meter.loads() == {}
    meter.asked("t", ["a", "b"])
    assert meter.loads() == {"a": 0, "b": 0}
    time.wait(0.25)
    assert meter.loads() == {"a": 25, "b": 25}
    meter.done("t", ["a"])
    time.wait(0.25)
    assert meter.loads() == {"a": 25, "b": 50}
    meter.over("t")
    time.wait(0.625)
    assert meter.loads() == {"a": 12, "b": 38}
    time.wait(0.5)
    assert meter.loads() == {"a": 0, "b": 0}


def test_a_round_longer_than_the_window(meter: LoadMeter, time: Stopwatch) -> None:
    """It is all of the time, and no more than that."""
    meter.asked("t", ["a"])
    time.wait(3)
    assert meter.loads() == {"a": 100}
    meter.over("t")
    time.wait(0.5)
    assert meter.loads() == {"a": 50}


def test_several_rounds(meter: LoadMeter, time: Stopwatch) -> None:
    """Rounds one after the other add up; those of two trainings at the same time count once."""
    for _ in range(2):
        meter.asked("t", ["a"])
        time.wait(0.1)
        meter.over("t")
        time.wait(0.1)
    assert meter.loads() == {"a": 20}
    meter.asked("t", ["a"])
    time.wait(0.1)
    meter.asked("u", ["a"])
    time.wait(0.1)
    meter.over("t")
    time.wait(0.1)
    assert meter.loads() == {"a": 50}
    meter.over("u")
    time.wait(0.1)
    assert meter.loads() == {"a": 50}


def test_what_is_said_twice(meter: LoadMeter, time: Stopwatch) -> None:
    """A report that comes again, one of somebody else's round and the end of a round that is over change nothing."""
    meter.asked("t", ["a"])
    meter.asked("t", ["a"])
    time.wait(0.5)
    for _ in range(2):
        meter.done("t", ["a", "stranger"])
        meter.done("another", ["a"])
        meter.over("t")
    time.wait(0.25)
    assert meter.loads() == {"a": 50}


def test_a_clients_own_figure(meter: LoadMeter, time: Stopwatch) -> None:
    """The larger of the two counts, its own one for ten minutes; who was never asked has none."""
    meter.reported("stranger", 99)
    meter.asked("t", ["a"])
    time.wait(0.5)
    meter.over("t")
    meter.reported("a", 30)
    assert meter.loads() == {"a": 50}
    meter.reported("a", 80)
    assert meter.loads() == {"a": 80}
    time.now += OWN - 1
    assert meter.loads() == {"a": 80}
    time.now += 1
    assert meter.loads() == {"a": 0}


def test_who_is_forgotten(meter: LoadMeter, time: Stopwatch) -> None:
    """Some time after its last round a client is not known any more; one in a round always is."""
    meter.asked("t", ["a"])
    meter.asked("u", ["b"])
    meter.over("t")
    time.now += KNOWN
    assert meter.loads() == {"a": 0, "b": 100}
    time.now += 1
    assert meter.loads() == {"b": 100}
