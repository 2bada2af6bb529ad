"""The soak bench of the hub: acknowledged records that are neither stored nor deleted count as lost."""

from bench.hub_soak import count_lost


def test_records_are_stored_deleted_or_lost() -> None:
    """Stored and deleted rows are subtracted from the acknowledged records; metric points do not count."""
    rows, deleted = {"spans": 40, "logs": 30, "metric_points": 9}, {"spans": 60, "metric_points": 5}
    stats = {"storage": {"rows": rows, "deleted_rows": deleted}}

    assert count_lost(stats, {"traces": 100, "logs": 30}) == 0
    assert count_lost(stats, {"traces": 103, "logs": 31}) == 4
