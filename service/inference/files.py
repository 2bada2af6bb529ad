"""What a user has before there is a bundle: a model file, and a table."""

from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import skops.io

from service.errors import PackError
from service.inference.trusted import untrusted_types

PICKLES = (".joblib", ".pkl", ".pickle")


def load_estimator(path: Path, *, trust_pickle: bool) -> Any:  # noqa: ANN401  any estimator
    """Load a model file.

    Raises:
        PackError: it cannot be read, or nobody has said that it may be.
    """
    if path.suffix in PICKLES:
        if not trust_pickle:
            raise PackError(
                f"{path} is a pickle, which can run any code when it is loaded; if it is yours: --trust-pickle"
            )
        try:
            return joblib.load(path)
        except Exception as error:
            raise PackError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    if path.suffix != ".skops":
        raise PackError(f"{path}: expected a file that ends in .skops, {', '.join(PICKLES)}")
    try:
        raw = path.read_bytes()
        unknown = untrusted_types(raw)
    except Exception as error:
        raise PackError(f"{path} cannot be read: {error}") from error
    if unknown:
        raise PackError(f"{path} holds types beyond scikit-learn's own: {', '.join(unknown)}")
    return skops.io.loads(raw, trusted=skops.io.get_untrusted_types(data=raw))


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    Raises:
        PackError: it is neither, or cannot be read.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise PackError(f"{path}: expected a file that ends in .csv or .parquet")
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except Exception as error:
        raise PackError(f"{path} cannot be read: {error}") from error


def parse_range(text: str) -> tuple[str, tuple[float, float]]:
    """Read `age=0:120`.

    Raises:
        PackError: it does not read like that.
    """
    name, _, bounds = text.rpartition("=")
    low, _, high = bounds.partition(":")
    try:
        return name, (float(low), float(high))
    except ValueError:
        raise PackError(f"--range {text}: expected it like age=0:120") from None
