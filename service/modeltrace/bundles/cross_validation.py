"""Predict training rows with clones of the estimator that were not fitted on them."""

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from modeltrace.bundles.output_reference import MAX_REFERENCE_ROWS, MIN_HELD_OUT_ROWS
from modeltrace.bundles.verify_outputs import to_array
from modeltrace.errors import PackError
from modeltrace.inference.model import ModelOutput
from modeltrace.inference.predict_fns import make_predict_fns
from modeltrace.inference.tasks import Task
from modeltrace.inference.text_input import to_input
from modeltrace.printable import first_line

FOLDS: Final = 10
# Progress is reported if the folds so far took longer.
QUIET_SECONDS: Final = 5.0

OnMessage = Callable[[str], None]


class CrossValidationError(PackError):
    """The estimator cannot be cross-validated; the message says why."""


class _TimeLimitReached(BaseException):
    """The time limit is reached. Not an `Exception`, so that no estimator catches it."""


def cross_validate(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    training: pd.DataFrame,
    target: NDArray[Any] | None,
    *,
    as_frame: bool,
    seconds: float,
    on_message: OnMessage,
) -> tuple[NDArray[np.intp], list[ModelOutput]]:
    """Return the positions of rows, and predictions for them by clones that were fitted on other rows.

    Each clone is fitted on nine tenths of the rows and predicts the others. Classes have the same shares in all folds.

    Args:
        estimator: the fitted estimator. It is not changed.
        task: its task.
        training: its training data.
        target: the labels, one for each row, as `fit` expects them; `None` for an outlier detector without labels.
        as_frame: whether `fit` expects a DataFrame.
        seconds: the time limit. When it is reached, the rows that were predicted so far are returned, if there are
            at least `MIN_HELD_OUT_ROWS`.
        on_message: gets progress messages.

    Raises:
        CrossValidationError: the estimator cannot be cloned, contains a fitted model, or fails; or the time limit is
            reached before enough rows are predicted.
    """
    unfitted = _clone(estimator)
    fold_of_row = assign_folds(training, target if task == "classifier" else None)
    folds = int(fold_of_row.max()) + 1
    matrix = training if as_frame else to_array(training)
    on_message(f"Cross-validating the {type(estimator).__name__}: {folds} fits, at most {seconds:g} s")
    predicted: list[tuple[NDArray[np.intp], list[ModelOutput]]] = []
    start = time.monotonic()
    try:
        with warnings.catch_warnings(), _time_limit(seconds):
            warnings.simplefilter("ignore")
            for fold in range(folds):
                rows, others = np.flatnonzero(fold_of_row == fold), np.flatnonzero(fold_of_row != fold)
                fitted = clone(unfitted).fit(
                    to_input(estimator, _take(matrix, others)), None if target is None else target[others]
                )
                predict, with_details = make_predict_fns(fitted, task)
                if task == "regressor" and with_details is not None:  # the bounds of its intervals
                    predict = with_details
                predicted.append((rows, predict(_take(matrix, rows))))
                elapsed = time.monotonic() - start
                if elapsed > QUIET_SECONDS:
                    on_message(f"Cross-validation: fold {fold + 1} of {folds} after {elapsed:.0f} s")
                if elapsed > seconds or sum(len(rows) for rows, _ in predicted) >= MAX_REFERENCE_ROWS:
                    break
    except _TimeLimitReached:
        on_message(f"Cross-validation stops after {len(predicted)} of {folds} folds: the time limit is reached")
    except Exception as error:
        raise CrossValidationError(
            f"a clone of the {type(estimator).__name__} fails: {type(error).__name__}: {first_line(error)}"
        ) from error
    positions = np.concatenate([np.zeros(0, dtype=np.intp), *(rows for rows, _ in predicted)])
    if len(predicted) < folds and len(positions) < MIN_HELD_OUT_ROWS:
        raise CrossValidationError(
            f"cross-validation predicted {len(positions)} rows in {seconds:g} s (--cross-validation-seconds), "
            f"{MIN_HELD_OUT_ROWS} are needed"
        )
    return positions, [output for _, outputs in predicted for output in outputs]


def assign_folds(training: pd.DataFrame, target: NDArray[Any] | None) -> NDArray[np.intp]:
    """Return the number of the fold of each row; `target` are the classes, which have equal shares in all folds.

    Equal rows are in one fold if most rows are distinct, because they are then copies of one row. If equal rows are
    normal, as in data with few possible rows, new rows will equal training rows, too.

    Raises:
        CrossValidationError: there are too few rows.
    """
    hashes = pd.util.hash_pandas_object(training, index=False).to_numpy()
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    if 2 * len(first) < len(training):
        first = group = np.arange(len(training))
    strata = np.zeros(len(first)) if target is None else np.unique(target[first], return_inverse=True)[1]
    # The most frequent class limits the number of folds.
    folds = min(FOLDS, int(np.unique(strata, return_counts=True)[1].max()))
    if folds < 2:
        raise CrossValidationError("the training data has too few rows for cross-validation")
    splitter = (KFold if target is None else StratifiedKFold)(folds, shuffle=True, random_state=0)
    fold_of_group = np.zeros(len(first), dtype=np.intp)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with fewer rows than folds
        for number, (_, groups) in enumerate(splitter.split(first, strata)):
            fold_of_group[groups] = number
    fold_of_row: NDArray[np.intp] = fold_of_group[group]
    return fold_of_row


def _clone(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    try:
        unfitted = clone(estimator)
        parameters = [unfitted, *unfitted.get_params(deep=True).values()]
    except Exception as error:
        raise CrossValidationError(
            f"the {type(estimator).__name__} cannot be cloned: {type(error).__name__}: {first_line(error)}"
        ) from error
    # A clone of a frozen estimator is the estimator itself, which knows all training rows.
    if frozen := next(filter(_is_fitted_model, parameters), None):
        raise CrossValidationError(
            f"a clone of the estimator contains a {type(frozen).__name__} that is fitted already"
        )
    return unfitted


def _is_fitted_model(value: object) -> bool:
    if isinstance(value, type) or not hasattr(value, "predict"):
        return False
    try:
        if not get_tags(value).requires_fit and not any(name.endswith("_") for name in vars(value)):
            return False  # a Gaussian process predicts without a fit, and `check_is_fitted` accepts it
        check_is_fitted(value)
        return bool(is_classifier(value) or is_regressor(value))
    except Exception:  # noqa: BLE001  not fitted, or no estimator of scikit-learn
        return False


def _take(matrix: Any, rows: NDArray[np.intp]) -> Any:  # noqa: ANN401  a DataFrame or an array
    return matrix.iloc[rows] if isinstance(matrix, pd.DataFrame) else matrix[rows]


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_TimeLimitReached` in the block after some seconds, even during a fit.

    Signals work in the main thread only, and not on Windows. Elsewhere, a fit is not interrupted.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise _TimeLimitReached

    start = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    before, interval = 0.0, 0.0
    try:
        before, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if before:  # continue the timer of the caller
            signal.setitimer(signal.ITIMER_REAL, max(before - (time.monotonic() - start), 1e-3), interval)
