"""Read labelled predictions in pages, with the error, the features and the tags of each."""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from modeltrace.evaluation import queries
from modeltrace.evaluation.metrics import PredictionRef
from modeltrace.store.rows import from_json, label_key
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store

# Predictions per page. Some sums are computed for all pairs of segments once per page.
PAGE_ROWS = 5000


class Page(NamedTuple):
    """Labelled predictions, in order of time."""

    predictions: NDArray[np.object_]  # a `PredictionRef` each
    errors: NDArray[np.float64]  # of a classifier 1 or 0, of a regressor the absolute error
    inputs: list[dict[str, Any]]
    tags: list[dict[str, str]]


def read_errors(store: Store, selection: Selection, *, classifier: bool) -> Iterator[Page]:
    """Yield the labelled predictions of one model in pages, without those with erased inputs.

    Raises:
        StoreError: the store cannot be read.
    """
    error = predictions.c.label if classifier else queries.absolute_error()
    columns = (*queries.PREDICTION_COLUMNS, predictions.c.trace_id, predictions.c.inputs, predictions.c.tags, error)
    statement = queries.select_labelled(selection, *columns, labels.c.label).where(predictions.c.inputs.is_not(None))
    if classifier:
        statement = statement.where(predictions.c.label.is_not(None))
    else:
        statement = statement.where(queries.fits(predictions.c.value), queries.fits(queries.label_as_number()))
    is_wrong = lru_cache(maxsize=4096)(_is_wrong)  # there are few different labels
    for page in store.fetch_pages(statement, PAGE_ROWS):
        yield Page(
            np.fromiter((PredictionRef(*row[:3]) for row in page), dtype=object, count=len(page)),
            np.array([is_wrong(*row[5:]) if classifier else row[5] for row in page], dtype=np.float64),
            [_from_json(row[3]) for row in page],
            [_from_json(row[4]) if row[4] else {} for row in page],
        )


def _is_wrong(label: str, true_label: str) -> bool:
    return label != true_label and label_key(from_json(label)) != label_key(from_json(true_label))


def _from_json(text: str) -> dict[str, Any]:
    """Decode an object. The standard library decodes what orjson rejects (lone surrogates)."""
    try:
        result: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:
        result = json.loads(text)
    return result
