"""The bench of the drift rules: its samples, and what it reads from Prometheus."""

import io

from bench.drift_rules import DAY, EXPORT_INTERVAL, _group_durations, make_model, write_samples


def test_samples_cover_a_day_of_every_bin() -> None:
    """Each bin of each feature has a sample per export, and counters do not decrease."""
    model, file = make_model(2), io.StringIO()

    written = write_samples(model, 1_800_000_000, file)

    lines = file.getvalue().splitlines()
    assert lines[-1] == "# EOF"
    assert written == sum(not line.startswith("#") for line in lines)
    bins = sum(len(feature.reference.shares) for feature in model.schema.features)
    observations = [line for line in lines if line.startswith("ml_feature_observations_total{")]
    assert len(observations) == bins * DAY // EXPORT_INTERVAL
    second_bin = [int(line.split()[-2]) for line in observations if 'ml_feature_bin="01"' in line][
        : DAY // EXPORT_INTERVAL
    ]
    assert second_bin == sorted(second_bin)
    assert second_bin[-1] > 0  # the first bin is below the training range


def test_durations_are_read_by_group() -> None:
    """The metric's label holds the file and the name of the group."""
    exposition = (
        'prometheus_rule_group_interval_seconds{rule_group="/rules/drift.yml;drift-1h"} 60\n'
        'prometheus_rule_group_last_duration_seconds{rule_group="/rules/drift.yml;drift-1h"} 0.123456\n'
        'prometheus_rule_group_last_duration_seconds{rule_group="/rules/drift.yml;drift"} 1.5e-05\n'
    )

    assert _group_durations(exposition) == {"drift-1h": {"interval": 60.0, "seconds": 0.123}, "drift": {"seconds": 0.0}}
