"""When a failed notification is tried again."""

import random
from datetime import UTC, datetime

import pytest

from aimle_server.notifications.retry import Failure, RetryPolicy, seconds_asked

NOW = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy(first=1, factor=2, longest=300, jitter=0, give_up_after=3600, lasting_attempts=3)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (11, 300), (100_000, 300)]
)
def test_pauses_double_up_to_the_longest(attempt: int, seconds: float) -> None:
    """Each pause is twice the one before, until the longest."""
    assert POLICY.next_delay(attempt, random.Random(1)) == seconds


def test_jitter_takes_a_share_of_the_pause() -> None:
    """With a jitter of a half, pauses spread over the upper half and never exceed the pause."""
    policy = RetryPolicy(first=8, jitter=0.5)
    pauses = [policy.next_delay(1, rng) for rng in [random.Random(7)] for _ in range(1000)]
    assert all(4 <= pause <= 8 for pause in pauses)
    assert min(pauses) < 4.5
    assert max(pauses) > 7.5


@pytest.mark.parametrize(
    ("failure", "attempt", "age", "delay"),
    [
        (Failure(), 1, 0, 1),
        (Failure(500), 3, 10, 4),
        (Failure(400), 50, 3599, 300),
        (Failure(401), 2, 10, 2),
        (Failure(500), 1, 3600, None),
        (Failure(), 1, 99_999, None),
        (Failure(404), 2, 1, 2),
        (Failure(404), 3, 1, None),
        (Failure(410), 3, 1, None),
        (Failure(refused=True), 2, 1, 2),
        (Failure(refused=True), 3, 1, None),
        (Failure(503, "60"), 1, 0, 60),
        (Failure(429, "60"), 1, 0, 60),
        (Failure(429, "99999999999999999999"), 1, 0, 300),
        (Failure(429, "1"), 5, 0, 16),
        (Failure(503, "Tue, 01 Jan 2030 00:02:00 GMT"), 1, 0, 120),
        (Failure(500, "60"), 1, 0, 1),
        (Failure(503, "soon"), 1, 0, 1),
    ],
)
def test_what_follows_a_failure(failure: Failure, attempt: int, age: float, delay: float | None) -> None:
    """Again after a pause (Retry-After of 429 and 503 included, up to the longest), or given up."""
    assert POLICY.after(failure, attempt, age, NOW, random.Random(1)) == delay


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5), (" 5 ", 5), ("-5", 0), ("", 0), ("٣", 0), ("Mon, 31 Dec 2029 23:00:00 GMT", 0), ("1e9", 0)],
)
def test_retry_after_from_anybody(header: str, seconds: float) -> None:
    """Whatever a target writes there is a number of seconds, 0 or more."""
    assert seconds_asked(header, NOW) == seconds
