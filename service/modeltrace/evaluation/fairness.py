"""Compare the outcomes of a classifier between groups of predictions: fairness metrics.

Names, formulas and conventions are those of fairlearn.metrics (`demographic_parity_difference`,
`equal_opportunity_ratio`, `equalized_odds_difference`, …). The ratio to a reference group is the disparate impact
(Feldman et al., KDD 2015).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from modeltrace.evaluation.group_queries import group_counts
from modeltrace.evaluation.groups import GroupError, find_groups
from modeltrace.evaluation.numeric_bins import NumericBins
from modeltrace.store.rows import from_json, label_key
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store


@dataclass(frozen=True, slots=True)
class GroupRates:
    """The rates of one group; a rate is `None` without rows to compute it from."""

    group: str | None  # `None`: predictions without a value
    predictions: int
    labels: int
    selection_rate: float  # share of predictions with the positive label
    true_positive_rate: float | None  # of rows whose true label is positive, the share predicted as positive
    false_positive_rate: float | None  # of rows whose true label is another one, the share predicted as positive
    disparate_impact: float | None  # selection rate divided by that of the reference group


@dataclass(frozen=True, slots=True)
class FairnessMetrics:
    """The differences between groups (largest rate minus smallest) and the ratios (smallest divided by largest).

    Groups without a rate are left out. A metric is `None` with fewer than two rates, a ratio also if all rates are 0.
    """

    model_name: str
    model_version: str
    model_hash: str
    attribute: str  # the tag or the feature
    positive_label: object
    reference_group: str | None
    groups: tuple[GroupRates, ...]
    demographic_parity_difference: float | None  # of the selection rates
    demographic_parity_ratio: float | None
    equal_opportunity_difference: float | None  # of the true positive rates
    equal_opportunity_ratio: float | None
    equalized_odds_difference: float | None  # the larger one of those of true and false positive rates
    equalized_odds_ratio: float | None  # the smaller one


@dataclass(slots=True)
class _Counts:
    predictions: int = 0
    selected: int = 0
    positives: int = 0
    true_positives: int = 0
    negatives: int = 0
    false_positives: int = 0


def evaluate_fairness(
    store: Store,
    selection: Selection,
    attribute: str,
    positive_label: str,
    reference_group: str | None = None,
    bins: Mapping[str, NumericBins] = MappingProxyType({}),
) -> list[FairnessMetrics]:
    """Return the fairness metrics of each classifier in a selection, sorted by name, version and hash.

    Args:
        store: the store with predictions and labels.
        selection: the predictions to evaluate.
        attribute: the tag whose values are the groups, or the feature if no selected prediction has such a tag.
        positive_label: the favourable label as text.
        reference_group: the group that others are compared with; `None` for the one with the most predictions.
        bins: the bins of numeric features, which are their groups.

    Raises:
        GroupError: there are no groups or too many, no prediction is of a classifier, or the label or the reference
            group does not exist.
        StoreError: the store cannot be read.
    """
    rows = _read_counts(store, selection, attribute, bins)
    if not rows:
        raise GroupError(
            f"no selected prediction with {attribute} has a label: fairness metrics compare the labels of a classifier"
        )
    results = []
    for name, version, model_hash in sorted({(row[0], row[1], row[2]) for row in rows}):
        of_model = [row[3:] for row in rows if tuple(row[:3]) == (name, version, model_hash)]
        positive = _find_label(positive_label, of_model)
        counts = _count(of_model, positive)
        reference = reference_group
        if reference is None:
            reference = max(counts, key=lambda group: (counts[group].predictions, group or ""))
        elif reference not in counts:
            raise GroupError(f"no selected prediction of {name} {version} has {attribute}={reference}")
        results.append(_metrics(name, version, model_hash, attribute, positive, reference, counts))
    return results


def _read_counts(
    store: Store, selection: Selection, attribute: str, bins: Mapping[str, NumericBins]
) -> list[Sequence[Any]]:
    """Return the rows of `group_counts` with groups as text."""
    groups = find_groups(store, selection, attribute, bins)
    if groups is None:
        raise GroupError(f"no selected prediction has a tag or a recorded feature {attribute}")
    rows = store.fetch_all(group_counts(selection, groups.column))
    return [(*row[:3], groups.to_text(row[3]), *row[4:]) for row in rows]


def _find_label(text: str, rows: Iterable[Sequence[Any]]) -> object:
    labels = {label_key(from_json(label)): from_json(label) for row in rows for label in row[1:3] if label is not None}
    for label in labels.values():
        if text == (label if isinstance(label, str) else str(label)):
            return label
    known = ", ".join(sorted(map(str, labels.values())))
    raise GroupError(f"{text} is not a label of the selected predictions: {known}")


def _count(rows: Iterable[Sequence[Any]], positive: object) -> dict[str | None, _Counts]:
    groups: dict[str | None, _Counts] = defaultdict(_Counts)
    for group, label, true_label, number in rows:
        counts, selected = groups[group], label_key(from_json(label)) == label_key(positive)
        counts.predictions += number
        counts.selected += number if selected else 0
        if true_label is None:
            continue
        if label_key(from_json(true_label)) == label_key(positive):
            counts.positives += number
            counts.true_positives += number if selected else 0
        else:
            counts.negatives += number
            counts.false_positives += number if selected else 0
    return groups


def _metrics(
    name: str, version: str, model_hash: str, attribute: str, positive: object, reference: str | None,
    counts: dict[str | None, _Counts],
) -> FairnessMetrics:  # fmt: skip
    reference_rate = counts[reference].selected / counts[reference].predictions
    groups = tuple(
        GroupRates(
            group,
            of_group.predictions,
            of_group.positives + of_group.negatives,
            rate := of_group.selected / of_group.predictions,
            _ratio(of_group.true_positives, of_group.positives),
            _ratio(of_group.false_positives, of_group.negatives),
            _ratio(rate, reference_rate),
        )
        for group, of_group in sorted(counts.items(), key=lambda item: (item[0] is not None, item[0] or ""))
    )
    selected = [group.selection_rate for group in groups]
    true_positive = [group.true_positive_rate for group in groups if group.true_positive_rate is not None]
    false_positive = [group.false_positive_rate for group in groups if group.false_positive_rate is not None]
    differences = [_spread(true_positive), _spread(false_positive)]
    ratios = [_smallest_ratio(true_positive), _smallest_ratio(false_positive)]
    return FairnessMetrics(
        name, version, model_hash, attribute, positive, reference, groups,
        demographic_parity_difference=_spread(selected),
        demographic_parity_ratio=_smallest_ratio(selected),
        equal_opportunity_difference=differences[0],
        equal_opportunity_ratio=ratios[0],
        equalized_odds_difference=_of_all(max, differences),
        equalized_odds_ratio=_of_all(min, ratios),
    )  # fmt: skip


def _of_all(choose: Callable[[list[float]], float], values: Sequence[float | None]) -> float | None:
    """Return the smallest or largest value; `None` if one of them is unknown."""
    known = [value for value in values if value is not None]
    return choose(known) if len(known) == len(values) else None


def _ratio(part: float, total: float) -> float | None:
    return part / total if total else None


def _spread(rates: Sequence[float]) -> float | None:
    return max(rates) - min(rates) if len(rates) > 1 else None


def _smallest_ratio(rates: Sequence[float]) -> float | None:
    return min(rates) / max(rates) if len(rates) > 1 and max(rates) else None
