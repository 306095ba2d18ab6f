"""When an interrupted transfer goes on, and when it is given up."""

import pytest

from sbi.patience import Interrupted, Patience, Retries, TransferError
from tests.support import ManualClock

CALM = Patience(attempts=4, first=1, longest=8, jitter=lambda: 1.0)


@pytest.mark.parametrize(
    ("failures", "retry_after", "delay"),
    [
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 4),
        (4, 0, None),
        (1, 5, 5),
        (1, 8, 8),
        (1, 9, None),
    ],
)
def test_delay(failures: int, retry_after: float, delay: float | None) -> None:
    """Doubled from `first` on, not before Retry-After, and never longer than `longest`: rather given up."""
    assert CALM.delay(failures, retry_after) == delay


def test_jitter_spreads_within_the_second_half() -> None:
    """Transfers that failed together come back at different moments, none before half its delay."""
    assert Patience(first=1, jitter=lambda: 0.0).delay(1, 0) == 0.5
    assert Patience(first=1, jitter=lambda: 0.5).delay(1, 0) == 0.75


async def test_progress_begins_the_count_anew() -> None:
    """Only failures in a row count: a long transfer over a bad network is not given up while it moves."""
    retries = Retries(Patience(attempts=2, first=0, longest=0), ManualClock())
    for _ in range(5):
        await retries.wait(Interrupted("cut"), progress=True)
    with pytest.raises(TransferError, match="given up: cut"):
        await retries.wait(Interrupted("cut"))


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("", 0), ("soon", 0), ("-1", 0), ("9" * 50, 999_999_999)]
)
def test_retry_after_is_read_if_it_is_a_number(header: str, seconds: int) -> None:
    """A date or nonsense asks for nothing, and a huge number does no harm."""
    assert Interrupted.by(503, {"Retry-After": header}).retry_after == seconds
