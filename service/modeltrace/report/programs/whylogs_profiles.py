"""whylogs' profiles of a window and of a reference.

Runs in whylogs' environment. Its argument is a JSON file that says what the two Parquet files hold and where the
profiles go (`modeltrace.report.description`); its last line of output is their summary, in JSON.
"""

import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import whylogs
from whylogs.core import DatasetProfile

FIGURES = {
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


def plain(value):
    """A figure as JSON has it."""
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def profile(path, columns, at):
    """The profile of a Parquet file's columns, with the time that it stands for."""
    made = DatasetProfile(dataset_timestamp=datetime.fromtimestamp(at, UTC))
    frame = pd.read_parquet(path, columns=list(columns))
    for name, kind in columns.items():
        frame[name] = frame[name].astype("float64") if kind == "number" else frame[name].astype(object)
    made.track(frame)
    return made


def main():
    """Write the profiles; print their figures."""
    said = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out, sys.stdout = sys.stdout, sys.stderr  # what the library prints is no summary
    summary = {"library": f"whylogs {whylogs.__version__}", "profiles": {}}
    for side in ("reference", "window"):
        made = profile(said[side], said["columns"], said["times"][side])
        view = made.view()
        view.write(str(Path(said["output"]) / f"{side}.bin"))
        known = view.to_pandas()
        summary["profiles"][side] = {
            str(name): {new: plain(row[old]) for old, new in FIGURES.items() if old in known.columns}
            for name, row in known.iterrows()
        }
    print(json.dumps(summary), file=out)


if __name__ == "__main__":
    main()
