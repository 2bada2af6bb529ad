"""Write tables of installed packages as Parquet files into the folder of the first argument.

Runs in an environment with the packages of tables.in.
"""

import sys
from pathlib import Path

from palmerpenguins import load_penguins
from statsmodels import datasets
from vega_datasets import local_data


def write_tables(folder):
    """Write each table without columns that contain dates, which a request cannot send."""
    tables = {
        "airports": local_data.airports(),
        "cars": local_data.cars().drop(columns="Year"),
        "weather": local_data.seattle_weather().drop(columns="date"),
        "penguins": load_penguins(),
        "fair": datasets.fair.load_pandas().data,
        "randhie": datasets.randhie.load_pandas().data,
        "anes96": datasets.anes96.load_pandas().data,
        "star98": datasets.star98.load_pandas().data,
    }
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)


if __name__ == "__main__":
    write_tables(Path(sys.argv[1]))
