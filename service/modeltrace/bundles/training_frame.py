"""Convert the training data to a table that a bundle can describe: unique text names, dense columns, plain numbers."""

import re
from decimal import Decimal
from numbers import Real
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.feature_extraction import DictVectorizer, FeatureHasher

from modeltrace.errors import PackError
from modeltrace.printable import has_control_characters

MAX_NAME_LENGTH: Final = 256
# Texts that may be dates: 2024-01-31, 31.1.2024, 1/31/24, 31 Jan 2024, Jan 31, 2024. pandas then tries to parse them.
_DATE: Final = re.compile(
    r"\s*(\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{4}|\d\d?/\d\d?/\d\d"
    r"|\d\d?[- ][A-Za-z]{3,9}[- ,]+\d{2,4}|[A-Za-z]{3,9} \d\d?,? \d{4})([T ,].*)?\s*"
)
# Texts of a column that are inspected to decide whether it contains dates.
_MAX_INSPECTED: Final = 1_000
DATE_ADVICE: Final = (
    "a request cannot send such dates and times. Before fitting, convert them to the dtype datetime64 or timedelta64, "
    "or to numbers (days since a fixed date, month, weekday, hour). Pack with a Parquet file that has those columns"
)

# A column looks like an identifier if at least this share of at least this number of values are different.
IDENTIFIER_SHARE = 0.9
MIN_IDENTIFIERS = 50


def to_frame(data: Any) -> pd.DataFrame:  # noqa: ANN401  any table
    """Return a table as a pandas data frame: a frame of another library, an array, or a list of mappings."""
    if isinstance(data, pd.DataFrame):
        return data
    if hasattr(data, "to_pandas"):  # polars, Arrow
        frame: pd.DataFrame = data.to_pandas()
        return frame
    return pd.DataFrame(data.toarray() if hasattr(data, "toarray") else data)


def to_series(target: Any) -> "pd.Series":  # noqa: ANN401  any column
    """Return labels as a pandas series with a name: a series or a frame with one column, an array, or a list."""
    column = target.squeeze("columns") if isinstance(target, pd.DataFrame) else target
    series = column if isinstance(column, pd.Series) else pd.Series(np.ravel(np.asarray(column)))
    return series if series.name is not None else series.rename("target")


def name_columns(data: pd.DataFrame) -> pd.DataFrame:
    """Convert the column names to text.

    Raises:
        PackError: there are no rows or columns, or the names are not unique.
    """
    if not len(data):
        raise PackError("the training data has no rows")
    if not len(data.columns):
        raise PackError("the training data has no columns")
    if data.columns.nlevels > 1:
        raise PackError(
            "the column names of the training data have several levels (a MultiIndex). Give each column one name with "
            "data.columns = data.columns.map('_'.join), and fit again"
        )
    try:
        named = data.set_axis([str(name) for name in data.columns], axis="columns")
    except UnicodeEncodeError as error:
        raise PackError(
            f"the column name {error.object!r} is not valid Unicode; rename the column before fitting"
        ) from None
    if not named.columns.is_unique:
        raise PackError(
            f"two columns of the training data have the name {named.columns[named.columns.duplicated()][0]}"
        )
    return named


def convert_columns(named: pd.DataFrame) -> pd.DataFrame:
    """Convert sparse columns to dense ones, and columns of extended floats or number objects (Decimal) to floats.

    Raises:
        PackError: a column name cannot be used, or a number is too large for a float.
    """
    for index, name in enumerate(named.columns):
        _check_name(name, index)
    return named.assign(
        **{name: _convert_column(named[name]) for name in named.columns if _needs_conversion(named[name])}
    )


def number_object_columns(data: pd.DataFrame) -> list[str]:
    """Return the columns of Decimal or other number objects, which `convert_columns` converts to floats."""
    sparse = pd.SparseDtype
    return [
        str(name) for name, column in data.items() if _needs_conversion(column) and not isinstance(column.dtype, sparse)
    ]


def date_columns(data: pd.DataFrame) -> list[str]:
    """Return the columns that contain dates as text, as CSV files do."""
    return [str(name) for name, column in data.items() if _are_dates(column)]


def identifier_columns(data: pd.DataFrame) -> list[str]:
    """Return the columns that look like identifiers: nearly all texts are different, or integers are consecutive."""
    return [str(name) for name, column in data.items() if _are_identifiers(column.dropna())]


def _are_identifiers(present: "pd.Series") -> bool:
    if len(present) < MIN_IDENTIFIERS or present.nunique() < IDENTIFIER_SHARE * len(present):
        return False
    if pd.api.types.is_integer_dtype(present):
        return int(present.max()) - int(present.min()) < 2 * len(present)
    return bool(pd.api.types.is_string_dtype(present) or isinstance(present.dtype, pd.CategoricalDtype))


def reject_dict_vectorizer(estimator: Any) -> None:  # noqa: ANN401  any estimator
    """Reject an estimator whose first step accepts dicts.

    Raises:
        PackError: it does; the message says what to use instead.
    """
    first = estimator
    while steps := getattr(first, "steps", None):
        first = steps[0][1]
    if isinstance(first, DictVectorizer | FeatureHasher):
        raise PackError(
            f"the first step is {type(first).__name__}, which accepts dicts, but the service passes a table with a "
            "column per feature. Use a ColumnTransformer that encodes the columns (OneHotEncoder, StandardScaler) as "
            "the first step"
        )


def select_text_column(data: pd.DataFrame) -> pd.DataFrame:
    """Return the only column of texts, for an estimator that accepts a series of texts. Without a name, it is `text`.

    Raises:
        PackError: there is no such column, or several.
    """
    if data.columns.equals(pd.RangeIndex(1)):  # a list, an array, or a series without a name
        return data.set_axis(["text"], axis="columns")
    texts = [name for name, column in data.items() if pd.api.types.infer_dtype(column.dropna()) == "string"]
    if len(texts) != 1:
        found = f"has {len(texts)}: {', '.join(map(str, texts))}" if texts else "has none"
        raise PackError(
            f"the estimator begins with a text vectorizer, so it accepts one column of texts, but the training data "
            f"{found}. Pack with the column that it was fitted on; if one of them is the label, name it with --target. "
            "For several columns, fit a ColumnTransformer with a vectorizer for each column"
        )
    return data[texts]


def _check_name(name: str, index: int) -> None:
    remedy = "rename the column before fitting"
    if not name:
        raise PackError(f"column {index + 1} of the training data has no name; {remedy}")
    if len(name) > MAX_NAME_LENGTH:
        raise PackError(
            f"the column name {name[:40]}… has {len(name):,} characters, {MAX_NAME_LENGTH} are allowed; {remedy}"
        )
    if has_control_characters(name):
        raise PackError(f"the column name {name!r} contains a control character; {remedy}")


def _needs_conversion(column: "pd.Series") -> bool:
    if isinstance(column.dtype, pd.ArrowDtype):
        import pyarrow as pa  # noqa: PLC0415  an extra, which exists if there is such a column

        return bool(pa.types.is_decimal(column.dtype.pyarrow_dtype))
    if column.dtype == np.longdouble and column.dtype != np.float64:  # pandas cannot hash it
        return True
    return isinstance(column.dtype, pd.SparseDtype) or (column.dtype == object and _are_numbers(column))


def _convert_column(column: "pd.Series") -> "pd.Series":
    if isinstance(column.dtype, pd.SparseDtype):
        return pd.Series(np.asarray(column), index=column.index, name=column.name)
    if column.dtype == np.longdouble:
        return column.astype(np.float64)
    try:
        return column.map(lambda value: np.nan if pd.isna(value) else float(value)).astype(np.float64)
    except (ValueError, OverflowError):
        raise PackError(
            f"column {column.name} contains a number that is too large for a float. Scale it and fit again"
        ) from None


def _are_numbers(column: "pd.Series") -> bool:
    """Return whether a column contains only numbers of any type, and no booleans."""
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
