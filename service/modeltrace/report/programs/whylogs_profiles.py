"""Write whylogs profiles of a window and a reference.

Runs in whylogs' virtual environment. The argument is a JSON file with the description of two Parquet files
(`modeltrace.report.comparison`) and the folder of the profiles; the last line of the output is a summary as JSON.
"""

import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import whylogs
from whylogs.core import DatasetProfile

SUMMARY_NAMES = {
    "counts/n": "n",
    "counts/null": "missing",
    "cardinality/est": "distinct",
    "distribution/mean": "mean",
    "distribution/stddev": "deviation",
    "distribution/min": "min",
    "distribution/q_25": "q25",
    "distribution/median": "median",
    "distribution/q_75": "q75",
    "distribution/max": "max",
}


def to_json_number(value):
    """Return a finite number as a Python number, and any other value as `None`."""
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def build_profile(path, columns, time):
    """Return the profile of a Parquet file's columns with the given time, in seconds since the epoch."""
    profile = DatasetProfile(dataset_timestamp=datetime.fromtimestamp(time, UTC))
    frame = pd.read_parquet(path, columns=list(columns))
    for name, kind in columns.items():
        frame[name] = frame[name].astype("float64") if kind == "number" else frame[name].astype(object)
    profile.track(frame)
    return profile


def main():
    """Write the profiles and print their summary."""
    description = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    output = Path(description["output"])
    output.mkdir()
    out, sys.stdout = sys.stdout, sys.stderr  # keep the library's output out of the summary
    summary = {"library": f"whylogs {whylogs.__version__}", "profiles": {}}
    for side in ("reference", "window"):
        profile = build_profile(description[side], description["columns"], description["times"][side])
        view = profile.view()
        view.write(str(output / f"{side}.bin"))
        statistics = view.to_pandas()
        summary["profiles"][side] = {
            str(name): {
                new: to_json_number(row[old]) for old, new in SUMMARY_NAMES.items() if old in statistics.columns
            }
            for name, row in statistics.iterrows()
        }
    print(json.dumps(summary), file=out)


if __name__ == "__main__":
    main()
