"""Find out whether an estimator predicts with threads or processes of joblib (`n_jobs`)."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import joblib
from joblib.parallel import SequentialBackend


class _RecordingBackend(SequentialBackend):  # type: ignore[misc]  # joblib has no types
    """Run calls one after another, and record the numbers of jobs that were wanted."""

    def __init__(self, n_jobs: set[int]) -> None:
        super().__init__()
        self._n_jobs = n_jobs

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        if n_jobs not in (None, 1):
            self._n_jobs.add(n_jobs)
        return 1


def warn_of_parallelism(
    estimator: Any,  # noqa: ANN401  any estimator
    predict: Callable[[], object],
    on_message: Callable[[str], None],
) -> None:
    """Send a message with the remedy if a prediction calls joblib with `n_jobs` other than 1.

    Args:
        estimator: a fitted estimator.
        predict: predicts some rows with it. Here, nothing runs in parallel, and errors are ignored.
        on_message: gets the message.
    """
    n_jobs: set[int] = set()
    # `pack` verifies the predictions later, and reports errors and their causes.
    with joblib.parallel_config(backend=_RecordingBackend(n_jobs)), warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        predict()
    if not n_jobs:
        return
    parameters = estimator.get_params().items() if hasattr(estimator, "get_params") else ()
    own = ", ".join(f"{name}=1" for name, value in parameters if name.endswith("n_jobs") and value not in (None, 1))
    remedy = f"estimator.set_params({own})" if own else "set n_jobs=1 in its parts"
    on_message(
        f"Warning: the estimator predicts with n_jobs={', '.join(map(str, sorted(n_jobs)))}, so each worker of the "
        "service starts threads or processes of its own, which compete with the other requests and make a prediction "
        f"of one row slower. Pack it with n_jobs=1: {remedy}. An estimator that has copied its parts when it was "
        "fitted must be fitted again. MODELTRACE_WORKERS uses several cores"
    )
