"""The bins of an evaluation are those of drift, and bins of times have times as bounds."""

import re

import numpy as np
import pandas as pd

from modeltrace.bundles.training_schema import build_schema
from modeltrace.inference.schema import Schema
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.monitoring.segment_bins import segment_bins


def schema_of(table: pd.DataFrame) -> Schema:
    """Return the feature schema of training data."""
    return build_schema(
        table, valid_ranges={}, max_lengths={}, strict_categories=False, allowed_violations={}, ignore_unknown=False
    )


def test_values_are_in_the_bins_of_drift() -> None:
    """Numbers, times and durations, and missing values; categories have no numeric bins."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "size": rng.normal(size=300),
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**6, 300), unit="s"),
            "wait": pd.to_timedelta(rng.integers(0, 10**5, 300), unit="s"),
            "color": rng.choice(["red", "blue"], 300),
        }
    )
    schema = schema_of(table)
    bins = segment_bins(schema.features)
    assert bins.keys() == {"size", "at", "wait"}
    rows = [
        (size, at.isoformat(), wait.isoformat(), color)
        for size, at, wait, color in zip(table["size"], table["at"], table["wait"], table["color"], strict=True)
    ]
    rows.append((None, None, None, "red"))
    drift_bins = FeatureBins(schema)
    expected = drift_bins.digitize(rows, drift_bins.numeric_values(rows))
    for column, name in enumerate(("size", "at", "wait")):
        start = next(index for index, (feature, _) in enumerate(drift_bins.bin_names) if feature == name)
        assert bins[name].digitize([row[column] for row in rows]).tolist() == (expected[:, column] - start).tolist()


def test_bounds_of_times_are_times() -> None:
    """Seconds since 1970 with six digits would be equal for all bins of a day."""
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(300), unit="min")
    features = schema_of(pd.DataFrame({"at": at, "wait": pd.to_timedelta(np.arange(300), unit="min")})).features
    names = {name: bins.names for name, bins in segment_bins(features).items()}

    assert len(set(names["at"])) == len(names["at"]) > 5
    assert re.fullmatch(r"up to 20\d\d-\d\d-\d\dT\S+", names["at"][0])
    assert re.fullmatch(r"over -?P0DT\S+ to P0DT\S+", names["wait"][1])
