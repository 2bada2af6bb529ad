"""The training data as a table that a bundle can describe: columns with names of their own, numbers as numbers."""

import re
from decimal import Decimal
from numbers import Real
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

from modeltrace.errors import PackError
from modeltrace.printable import has_control_characters

MAX_NAME_LENGTH: Final = 256
# What begins as a date does: 2024-01-31, 31.1.2024, 1/31/24, 31 Jan 2024, Jan 31, 2024. Whether it is one, pandas says.
_DATE: Final = re.compile(
    r"\s*(\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{4}|\d\d?/\d\d?/\d\d"
    r"|\d\d?[- ][A-Za-z]{3,9}[- ,]+\d{2,4}|[A-Za-z]{3,9} \d\d?,? \d{4})([T ,].*)?\s*"
)
# Texts of a column that are looked at to know whether they are dates.
_MAX_INSPECTED: Final = 1_000
DATE_ADVICE: Final = (
    "dates and times are no features that a request can send as they are: turn them into numbers before fitting (days "
    "since a day that you choose, month, weekday, hour), fit again, and pack with a file that has those columns"
)


def name_columns(data: pd.DataFrame) -> pd.DataFrame:
    """The data with the columns' names as text.

    Raises:
        PackError: there are no rows or columns, or two columns of one name.
    """
    if not len(data):
        raise PackError("the training data has no rows")
    if not len(data.columns):
        raise PackError("the training data has no columns")
    if data.columns.nlevels > 1:
        raise PackError(
            "the columns of the training data have names of several levels (a MultiIndex); give each column one name, "
            "with data.columns = data.columns.map('_'.join), and fit again"
        )
    try:
        named = data.set_axis([str(name) for name in data.columns], axis="columns")
    except UnicodeEncodeError as error:
        raise PackError(
            f"the name of the column {error.object!r} is no valid Unicode; rename it before fitting"
        ) from None
    if not named.columns.is_unique:
        raise PackError(f"two columns are called {named.columns[named.columns.duplicated()][0]}")
    return named


def convert_columns(named: pd.DataFrame) -> pd.DataFrame:
    """Dense columns, and columns of number objects (Decimal, object dtype) as floats.

    Raises:
        PackError: a column's name cannot be used, or a number is too large for a float.
    """
    for place, name in enumerate(named.columns):
        _check_name(name, place)
    return named.assign(
        **{name: _convert_column(named[name]) for name in named.columns if _needs_conversion(named[name])}
    )


def number_object_columns(data: pd.DataFrame) -> list[str]:
    """The columns that hold Decimal or other number objects, which `convert_columns` turns into floats."""
    sparse = pd.SparseDtype
    return [
        str(name) for name, column in data.items() if _needs_conversion(column) and not isinstance(column.dtype, sparse)
    ]


def date_columns(data: pd.DataFrame) -> list[str]:
    """The columns whose texts are dates, as those of a CSV file are."""
    return [str(name) for name, column in data.items() if _are_dates(column)]


def find_vectorizer(estimator: Any) -> str | None:  # noqa: ANN401  any estimator
    """What an estimator begins with that takes texts or dicts, and no table; its name, or `None`."""
    first = estimator
    while steps := getattr(first, "steps", None):
        first = steps[0][1]
    kinds = (CountVectorizer, HashingVectorizer, DictVectorizer, FeatureHasher)
    return type(first).__name__ if isinstance(first, kinds) else None


def vectorizer_error(kind: str) -> PackError:
    """Why what takes one column cannot be served as a first step, and what to do."""
    if kind in ("DictVectorizer", "FeatureHasher"):
        return PackError(
            f"the pipeline begins with {kind}, which takes dicts, and the service gives a model a table with a column "
            "for each feature; begin with a ColumnTransformer that encodes the columns (OneHotEncoder, StandardScaler)"
        )
    return PackError(
        f"the pipeline begins with {kind}, which takes a series of texts, and the service gives a model a table with a "
        f"column for each feature. Begin with ColumnTransformer([('text', {kind}(), 'COLUMN')]), with the column's "
        "name as a string and not as a list, fit it on the table, and pack again"
    )


def _check_name(name: str, place: int) -> None:
    remedy = "rename it before fitting"
    if not name:
        raise PackError(f"column {place + 1} of the training data has no name; {remedy}")
    if len(name) > MAX_NAME_LENGTH:
        raise PackError(
            f"the column {name[:40]}… has a name of {len(name):,} characters, {MAX_NAME_LENGTH} at most; {remedy}"
        )
    if has_control_characters(name):
        raise PackError(f"the name of the column {name!r} holds a control character; {remedy}")


def _needs_conversion(column: "pd.Series") -> bool:
    if isinstance(column.dtype, pd.ArrowDtype):
        return bool(pa.types.is_decimal(column.dtype.pyarrow_dtype))
    return isinstance(column.dtype, pd.SparseDtype) or (column.dtype == object and _are_numbers(column))


def _convert_column(column: "pd.Series") -> "pd.Series":
    if isinstance(column.dtype, pd.SparseDtype):
        return pd.Series(np.asarray(column), index=column.index, name=column.name)
    try:
        return column.map(lambda value: np.nan if pd.isna(value) else float(value)).astype(np.float64)
    except (ValueError, OverflowError):
        raise PackError(f"column {column.name} holds a number that no float can hold; scale it and fit again") from None


def _are_numbers(column: "pd.Series") -> bool:
    """Whether it holds objects that are numbers, of whatever type, and nothing else."""
    kinds = {type(value) for value in column.dropna()}
    return bool(kinds) and all(issubclass(kind, Decimal | Real) and not issubclass(kind, bool) for kind in kinds)


def _are_dates(column: "pd.Series") -> bool:
    if not isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype) and column.dtype != object:
        return False
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column.dropna()
    texts: list[Any] = list(values[:_MAX_INSPECTED])
    if not texts or not all(isinstance(text, str) and _DATE.fullmatch(text) for text in texts):
        return False
    return bool(pd.to_datetime(pd.Series(texts), errors="coerce", format="mixed", utc=True).notna().all())
