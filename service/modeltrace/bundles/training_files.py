"""Read training data from a file, and restore the dtype that text files do not keep."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd

from modeltrace.errors import PackError
from modeltrace.printable import first_line
from modeltrace.tables.reader import TableError, open_table, table_format

# Rows that are predicted to find out which dtype the estimator needs.
_TRIED_ROWS: Final = 50


def read_training_table(path: Path) -> pd.DataFrame:
    """Read a table: CSV or TSV, JSON Lines (each also compressed with gzip), or Parquet.

    pandas infers the types of CSV and TSV columns. JSON values keep their types.

    Raises:
        PackError: the file cannot be read.
    """
    try:
        file_format, compressed = table_format(path)
        if file_format == "parquet":
            return pd.read_parquet(path)
        if file_format == "jsonl":
            return _read_json_lines(path)
        compression: Literal["gzip"] | None = "gzip" if compressed else None
        separator = "\t" if file_format == "tsv" else ","
        return pd.read_csv(path, sep=separator, compression=compression, low_memory=False)
    except PackError:
        raise
    except ImportError:
        raise PackError(f"{path}: Parquet files need pyarrow: pip install 'modeltrace[arrow]'") from None
    except TableError as error:
        raise PackError(str(error)) from None
    except Exception as error:  # the exceptions of pyarrow and of the CSV parser have no common base class
        raise PackError(f"{path} cannot be read: {first_line(error)}") from error


def _read_json_lines(path: Path) -> pd.DataFrame:
    rows = []
    with open_table(path) as table:
        for row in table.rows:
            if row.error:
                raise PackError(f"{path}, row {row.number}: {row.error}")
            rows.append(row.values)
    return pd.DataFrame(rows)


def restore_categories(estimator: Any, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:  # noqa: ANN401  any estimator
    """Give text columns the dtype `category` if the estimator predicts the rows only then.

    A text file does not contain the dtypes of the table that the estimator was fitted on. The levels are the texts of
    the column, sorted, as `astype("category")` made them.

    Returns:
        The table, and the names of the columns that have become categories.
    """
    rows = table.head(_TRIED_ROWS)
    names = [name for name in table.columns if pd.api.types.is_string_dtype(table[name].dtype)]
    if not names or _succeeds(estimator, rows):
        return table, []
    converted = table.assign(**{name: table[name].astype("category") for name in names})
    if not _succeeds(estimator, converted.head(_TRIED_ROWS)):
        return table, []  # the cause is something else; `pack` reports it
    needed = list(names)
    for name in names:  # categories have a fixed set of levels, so as few columns as possible get them
        candidate = converted.assign(**{name: table[name]})
        if _succeeds(estimator, candidate.head(_TRIED_ROWS)):
            converted = candidate
            needed.remove(name)
    return converted, [str(name) for name in needed]


def _succeeds(estimator: Any, rows: pd.DataFrame) -> bool:  # noqa: ANN401  any estimator
    predict: Callable[[pd.DataFrame], Any] = estimator.predict
    names = getattr(estimator, "feature_names_in_", None)
    try:
        predict(rows if names is None else rows[list(names)])
    except Exception:  # noqa: BLE001  whatever the estimator raises
        return False
    return True
