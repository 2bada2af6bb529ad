"""Evidently: the tests that DataDriftPreset chooses by default.

Building a report takes a second, so the tests are called directly. The first window is also checked with a
report, and both must agree.
"""

import json

from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset
from samples import run

DRIFT_SHARE = 0.5  # the default of DataDriftPreset
checked = []  # the number of drifted columns in the report that was compared
TYPES = {"number": ColumnType.Numerical, "category": ColumnType.Categorical}


def count_with_report(columns, training, window):
    """Return the number of drifted columns in a report."""
    by_kind = {kind: [name for name, of_column in columns.items() if of_column == kind] for kind in TYPES}
    definition = DataDefinition(numerical_columns=by_kind["number"], categorical_columns=by_kind["category"])
    sides = (Dataset.from_pandas(rows, data_definition=definition) for rows in (window, training))
    metrics = json.loads(Report([DataDriftPreset()]).run(*sides).json())["metrics"]
    return int(metrics[0]["value"]["count"])


def count_drifted(columns, training, window):
    """Return the number of drifted columns, from the tests that Evidently chooses."""
    drifted = 0
    for name, kind in columns.items():
        reference, current = training[name].dropna(), window[name].dropna()
        if len(reference) and len(current):
            test = get_stattest(reference, current, TYPES[kind], None)
            drifted += bool(test(reference, current, TYPES[kind], None).drifted)
    return drifted


def find_alarms(columns, training, windows):
    """Return for each window whether a column, and whether half of the columns, drifted."""
    counts = [count_drifted(columns, training, window) for window in windows]
    if not checked:
        in_report = count_with_report(columns, training, windows[0])
        if counts[0] != in_report:
            raise RuntimeError(f"the tests find {counts[0]} drifted columns, the report {in_report}")
        checked.append(in_report)
    return [
        {"Evidently, any column": count > 0, "Evidently, half of the columns": count / len(columns) >= DRIFT_SHARE}
        for count in counts
    ]


run(find_alarms)
