"""Estimate the performance of the classifiers in the prediction store without labels of the selected predictions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import Select, select

from modeltrace.evaluation.expected_performance import (
    Calibration,
    Floats,
    Interval,
    ScoreGroups,
    expected_metrics,
    group_scores,
    interval,
    simulate_metrics,
)
from modeltrace.evaluation.queries import MODEL_COLUMNS, PREDICTION_COLUMNS, PREDICTION_ORDER, comparable_label
from modeltrace.store.rows import from_json, label_key
from modeltrace.store.schema import labels, predictions
from modeltrace.store.selection import Selection, label_join
from modeltrace.store.store import Store

# Earlier predictions with labels: the minimum number, and the maximum number that is read, the newest first.
MIN_LABELS: Final = 300
MAX_LABELS: Final = 20_000
# The maximum share of scores that are unlike those of earlier predictions. With more, there is no estimate.
MAX_UNKNOWN_SHARE: Final = 0.05
# The fewest labels of selected predictions with which the estimate is compared.
MIN_ARRIVED: Final = 50
ALPHA: Final = 0.05
# Labels contradict the estimate if their accuracy is outside of this interval. It is wider than that of the estimate,
# so that this rarely happens by chance.
CONTRADICTION_ALPHA: Final = 0.002


@dataclass(frozen=True, slots=True)
class ArrivedLabels:
    """The labels of selected predictions that have arrived: their accuracy, and the expected one."""

    labels: int
    accuracy: float
    expected: Interval  # at the level 1 - `CONTRADICTION_ALPHA`
    contradict: bool  # whether the accuracy is outside of the interval


@dataclass(frozen=True, slots=True)
class ExpectedPerformance:
    """The estimated performance of one model. `reason` says why there is no estimate, or why it must not be trusted."""

    model_name: str
    model_version: str
    model_hash: str
    predictions: int  # with a confidence
    earlier_labels: int
    reason: str | None = None
    positive_label: object = None  # with two classes
    accuracy: Interval | None = None
    f1: Interval | None = None
    roc_auc: Interval | None = None
    arrived: ArrivedLabels | None = None


class _Scores(NamedTuple):
    scores: Floats
    decisions: NDArray[np.bool_]
    outcomes: Floats  # 1 or 0; NaN without a label


def estimate_performance(
    store: Store, selection: Selection, *, max_predictions: int | None = None
) -> list[ExpectedPerformance]:
    """Return the expected performance of each classifier in a selection, calibrated with predictions before it.

    Args:
        store: the store with predictions and labels.
        selection: the predictions, with `since`.
        max_predictions: estimate the performance of the newest of them only; `None`: of all.

    Raises:
        StoreError: the store cannot be read.
    """
    statement = select(*MODEL_COLUMNS).where(*selection.conditions(), predictions.c.confidence.is_not(None))
    results = []
    for name, version, model_hash in store.fetch_all(statement.distinct().order_by(*MODEL_COLUMNS)):
        of_model = selection._replace(model_name=name, model_version=version, model_hash=model_hash)
        results.append(_estimate(store, of_model, max_predictions))
    return results


def _estimate(store: Store, selection: Selection, max_predictions: int | None) -> ExpectedPerformance:
    latest = [column.desc() for column in PREDICTION_ORDER]
    earlier = _statement(selection._replace(since=None, until=selection.since)).where(comparable_label().is_not(None))
    positive = _positive_label(store, selection)
    known = _read(store.fetch_all(earlier.order_by(*latest).limit(MAX_LABELS)), positive)
    selected = _statement(selection)
    if max_predictions is None:
        later = _read((row for page in store.fetch_pages(selected) for row in page), positive)
    else:
        later = _read(store.fetch_all(selected.order_by(*latest).limit(max_predictions)), positive)
    result = ExpectedPerformance(
        selection.model_name or "",
        selection.model_version or "",
        selection.model_hash or "",
        len(later.scores),
        len(known.scores),
    )
    if not len(later.scores):
        return replace(result, reason="the probabilities of the predictions are not finite or not stored")
    if len(known.scores) < MIN_LABELS:
        reason = (
            f"only {len(known.scores):,} predictions before --since have a label, and {MIN_LABELS} are needed to "
            "calibrate the estimate"
        )
        return replace(result, reason=reason)
    unknown = ((later.scores < known.scores.min()) | (later.scores > known.scores.max())).mean()
    if unknown > MAX_UNKNOWN_SHARE:
        reason = f"{unknown:.1%} of the probabilities are outside the range of earlier predictions with labels"
        return replace(result, reason=reason)
    binary = positive is not None
    scores = group_scores(known.scores)
    calibration = Calibration.fit(scores, known.outcomes)

    def estimate(rows: _Scores, alpha: float) -> dict[str, Interval]:
        groups = ScoreGroups.build(rows.scores, rows.decisions)
        metrics = expected_metrics(groups, calibration.apply(groups.scores), binary=binary)
        simulated = simulate_metrics(scores, known.outcomes, groups, binary=binary)
        defined = {name: value for name in simulated if (value := getattr(metrics, name)) is not None}
        return {name: interval(value, simulated[name], alpha) for name, value in defined.items()}

    labelled = ~np.isnan(later.outcomes)
    arrived = None
    if labelled.sum() >= MIN_ARRIVED:
        rows = _Scores(later.scores[labelled], later.decisions[labelled], later.outcomes[labelled])
        expected = estimate(rows, CONTRADICTION_ALPHA)["accuracy"]
        accuracy = float((rows.decisions == (rows.outcomes > 0)).mean())
        arrived = ArrivedLabels(len(rows.scores), accuracy, expected, not expected.low <= accuracy <= expected.high)
    estimates = estimate(later, ALPHA)
    return replace(
        result,
        reason="labels that have arrived contradict the estimate: the relation of probability and outcome changed"
        if arrived and arrived.contradict
        else None,
        positive_label=None if positive is None else positive[0],
        accuracy=estimates["accuracy"],
        f1=estimates.get("f1"),
        roc_auc=estimates.get("roc_auc"),
        arrived=arrived,
    )


def _statement(selection: Selection) -> Select[Any]:
    columns = (*PREDICTION_COLUMNS, predictions.c.label, predictions.c.confidence, predictions.c.probabilities)
    return (
        select(*columns, comparable_label().label("true_label"))
        .select_from(predictions.outerjoin(labels, label_join()))
        .where(*selection.conditions(), predictions.c.confidence.is_not(None), predictions.c.label.is_not(None))
    )


def _positive_label(store: Store, selection: Selection) -> tuple[object] | None:
    """Return the second class of a model with two classes whose probabilities are stored."""
    has_probabilities = predictions.c.probabilities.is_not(None)
    statement = select(predictions.c.probabilities).where(*selection.conditions(), has_probabilities).limit(1)
    for (text,) in store.fetch_all(statement):
        pairs: Any = from_json(text)
        if len(pairs) == 2:
            return (pairs[1][0],)
    return None


def _read(rows: Iterable[Sequence[Any]], positive: tuple[object] | None) -> _Scores:
    """Return scores, decisions and outcomes. With two classes, rows without finite probabilities are left out."""
    keys: dict[str, object] = {}

    def key(text: str) -> object:
        if text not in keys:
            keys[text] = label_key(from_json(text))
        return keys[text]

    wanted = None if positive is None else label_key(positive[0])
    scores, decisions, outcomes = [], [], []
    for _, _, label, confidence, probabilities, true_label in rows:
        if wanted is None:
            score, decision = confidence, True
            outcome = None if true_label is None else key(true_label) == key(label)
        else:
            score = orjson.loads(probabilities)[1][1] if probabilities else None
            decision = key(label) == wanted
            outcome = None if true_label is None else key(true_label) == wanted
        if score is not None:
            scores.append(score)
            decisions.append(decision)
            outcomes.append(np.nan if outcome is None else float(outcome))
    return _Scores(np.array(scores, dtype=np.float64), np.array(decisions, dtype=bool), np.array(outcomes))
