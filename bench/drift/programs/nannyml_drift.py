"""NannyML: univariate drift with default methods and thresholds.

By default, NannyML divides the reference into ten chunks, and its thresholds are computed from them. Windows are
divided into chunks of the same number of rows. A window raises an alarm if a column of any chunk does.
"""

import pandas as pd
from nannyml import UnivariateDriftCalculator
from samples import run

CHUNKS = 10


def find_alarms(columns, training, windows):
    """Return for each window whether a chunk of it raises an alarm."""
    used = [name for name in columns if all(rows[name].notna().any() for rows in (training, *windows))]
    calculator = UnivariateDriftCalculator(
        column_names=used,
        treat_as_categorical=[name for name in used if columns[name] == "category"],
        chunk_size=len(training) // CHUNKS,
    ).fit(training)
    alarms = []
    for window in windows:
        result = calculator.calculate(window).filter(period="analysis").to_df()
        raised = result.loc[:, pd.IndexSlice[:, :, "alert"]].to_numpy(dtype=bool)
        alarms.append({"NannyML": raised.any()})
    return alarms


run(find_alarms)
