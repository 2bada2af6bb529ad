"""The age limit deletes expired predictions, and protects the store from a clock that is set forward."""

from pathlib import Path

import pytest

from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.store import open_store
from tests.helpers.factories import stored_row

DAY = 86_400 * 10**9
NOW = 20_000 * DAY
AHEAD = NOW + 40 * DAY


class Clock:
    """A monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """A clock at 0."""
    return Clock()


def test_expired_predictions_are_deleted(store_url: str, clock: Clock) -> None:
    """Predictions over the age limit are deleted; younger ones stay."""
    with open_store(store_url) as store:
        store.add_predictions([stored_row(f"p{day:02}", time=NOW - day * DAY) for day in range(33)])
        assert store.delete_expired(AgeLimit(30 * DAY, clock), NOW) == (2, False)
        assert store.counts().oldest == NOW - 30 * DAY


def test_a_clock_set_forward_deletes_nothing_by_itself(store_url: str, clock: Clock) -> None:
    """With a clock 40 days ahead nothing is deleted until a prediction has that time."""
    limit = AgeLimit(30 * DAY, clock)
    with open_store(store_url) as store:
        store.add_predictions([stored_row(f"p{day}", time=NOW - day * DAY) for day in range(20)])
        assert store.delete_expired(limit, AHEAD) == (0, False)
        clock.seconds = 3600
        assert store.delete_expired(limit, AHEAD) == (0, False)


def test_a_prediction_from_the_future_deletes_the_others_slowly(
    store_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A tenth is deleted at once and the rest within a tenth of the age limit; one warning is logged."""
    limit = AgeLimit(30 * DAY, clock)
    with open_store(store_url) as store:
        store.add_predictions([stored_row(f"p{number:04}", time=NOW - number) for number in range(999)])
        store.add_predictions([stored_row("ahead", time=AHEAD)])
        assert store.delete_expired(limit, AHEAD) == (100, False)
        assert store.delete_expired(limit, AHEAD) == (0, False)
        while store.counts().predictions > 1:
            clock.seconds += 3600
            assert store.delete_expired(limit, AHEAD)[0] <= 100
        assert 0.08 * 30 * 24 * 3600 < clock.seconds < 0.11 * 30 * 24 * 3600
    (record,) = caplog.records
    assert record.message.startswith("more predictions expired at once than may be deleted: the clock was set")


def test_one_of_several_writers_deletes(tmp_path: Path, clock: Clock) -> None:
    """Each worker's writer has its own limit, but only the leader deletes."""
    file = str(tmp_path / "s.db")
    with open_store(file) as first, open_store(file) as second:
        first.add_predictions([stored_row(f"p{number:03}", time=NOW - 40 * DAY) for number in range(5)])
        first.add_predictions([stored_row(f"q{number:03}", time=NOW) for number in range(95)])
        assert first.delete_expired(AgeLimit(30 * DAY, clock), NOW) == (5, False)
        first.add_predictions([stored_row("r", time=NOW - 40 * DAY)])
        assert second.delete_expired(AgeLimit(30 * DAY, clock), NOW) == (0, False)
        first.close()
        assert second.delete_expired(AgeLimit(30 * DAY, clock), NOW) == (1, False)
