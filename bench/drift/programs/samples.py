"""Run the default drift detection of a library on samples, and print for each window what it reports.

A job is a folder with `columns.json` (the kind of each column, `number` or `category`) and a folder per training sample
with `training.parquet` and a file for each window size, which contains the windows one after the other. A program calls
`run` with a function that returns, for a training sample and its windows, a dict of alarms for each window.
"""

import json
import sys
import warnings
from pathlib import Path

import pandas as pd


def run(find_alarms):
    """Print a JSON object: window size, alarm, list of booleans."""
    warnings.filterwarnings("ignore")
    out, sys.stdout = sys.stdout, sys.stderr  # keep the library's output out of the results
    job = Path(sys.argv[1])
    columns = json.loads((job / "columns.json").read_text())
    alarms = {}
    for sample in sorted(folder for folder in job.iterdir() if folder.is_dir()):
        training = pd.read_parquet(sample / "training.parquet")
        for path in sorted(sample.glob("windows-*.parquet")):
            size = int(path.stem.removeprefix("windows-"))
            rows = pd.read_parquet(path)
            windows = [rows.iloc[start : start + size].reset_index(drop=True) for start in range(0, len(rows), size)]
            for alarms_of_window in find_alarms(columns, training, windows):
                for name, raised in alarms_of_window.items():
                    alarms.setdefault(size, {}).setdefault(name, []).append(bool(raised))
    print(json.dumps(alarms), file=out)
