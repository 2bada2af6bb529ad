"""Find the segments of predictions with the largest errors: values of tags and features, and pairs of them.

Many segments are compared, so some have large errors by chance. The p-values and the confidence levels of the intervals
are corrected for the number of segments (Bonferroni).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.metrics import PredictionRef
from modeltrace.evaluation.numeric_bins import NumericBins
from modeltrace.evaluation.segment_scan import Page, read_errors
from modeltrace.evaluation.segment_sums import Attribute, SegmentSums
from modeltrace.evaluation.segment_tests import Sums, error_intervals, p_values
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store

# A segment with fewer labelled predictions, or with a smaller rest, is not compared.
MIN_ROWS: Final = 50
# The probability that a segment is reported by chance, and that an interval does not contain the error.
ALPHA: Final = 0.05
# More segments have too many pairs for the memory.
MAX_PAIRED_SEGMENTS: Final = 1000


class PairsError(ModeltraceError):
    """There are too many segments to compare all pairs of them."""


@dataclass(frozen=True, slots=True)
class WorstSegment:
    """A segment, its error with an interval, and a test of whether its error is larger than that of the rest.

    The rest of one value is all other predictions. A pair of values is compared with the predictions that have only
    the first value, and with those that have only the second: the larger p-value and its rest count.
    """

    segment: dict[str, str | None]  # value by tag or feature; `None` without a value
    labels: int
    error: float
    low: float
    high: float
    rest_error: float
    p_value: float  # corrected for the number of segments
    beyond_chance: bool  # whether the p-value is below `ALPHA`
    worst_prediction: PredictionRef  # the one with the largest error; the latest of several


@dataclass(frozen=True, slots=True)
class WorstSegments:
    """The segments of one model with the largest errors: significant ones first, by the low end of their intervals."""

    model_name: str
    model_version: str
    model_hash: str
    metric: str  # `error rate` or `mean absolute error`
    labels: int
    error: float  # of all labelled predictions
    compared: int  # number of segments
    too_many_values: tuple[str, ...]  # tags and features that are not compared
    segments: tuple[WorstSegment, ...]


class _Value(NamedTuple):
    attribute: Attribute
    code: int


class _Compared(NamedTuple):
    """Segments, each with its values, its sums and the sums of the rest."""

    values: Sequence[tuple[_Value, ...]]
    sums: Sums
    rest: Sums
    p_values: NDArray[np.float64]
    worst: NDArray[np.object_]  # a `PredictionRef` each


def find_worst_segments(
    store: Store,
    selection: Selection,
    *,
    classifier: bool,
    limit: int,
    bins: Mapping[str, NumericBins] = MappingProxyType({}),
    pairs: bool = False,
) -> WorstSegments | None:
    """Return the segments with the largest errors; `None` without labels. Predictions with erased inputs are left out.

    Args:
        store: the store with predictions and labels.
        selection: predictions of one model, with its name, version and hash.
        classifier: whether the model is a classifier.
        limit: the largest number of segments to return.
        bins: the bins of numeric features. Without bins, each number is a segment.
        pairs: whether to compare pairs of values, too. The predictions are read twice.

    Raises:
        PairsError: there are too many values to compare all pairs.
        StoreError: the store cannot be read.
    """
    total, attributes = _sum_values(read_errors(store, selection, classifier=classifier), bins)
    if not total.rows[0]:
        return None
    values = [
        _Value(attribute, int(code))
        for attribute in attributes
        if not attribute.has_too_many_values
        for code in np.flatnonzero(np.minimum(attribute.sums.rows, total.rows[0] - attribute.sums.rows) >= MIN_ROWS)
    ]
    compared = [_compare_values(values, total, classifier=classifier)] if values else []
    if pairs and values:
        pages = read_errors(store, selection, classifier=classifier)
        compared.append(_compare_pairs(pages, values, compared[0].sums, classifier=classifier))
    number = sum(len(part.values) for part in compared)
    segments = [row for part in compared for row in _largest(part, number, classifier=classifier)]
    return WorstSegments(
        selection.model_name or "",
        selection.model_version or "",
        selection.model_hash or "",
        "error rate" if classifier else "mean absolute error",
        labels=int(total.rows[0]),
        error=float(total.errors[0] / total.rows[0]),
        compared=number,
        too_many_values=tuple(sorted(attribute.name for attribute in attributes if attribute.has_too_many_values)),
        segments=tuple(sorted(segments, key=_rank)[:limit]),
    )


def _sum_values(pages: Iterator[Page], bins: Mapping[str, NumericBins]) -> tuple[SegmentSums, list[Attribute]]:
    """Return the sums of all predictions, and the tags and features with the sums of each value.

    A tag has precedence over a feature of the same name.
    """
    total = SegmentSums(1)
    features: dict[str, Attribute] = {}
    tags: dict[str, Attribute] = {}
    for page in pages:
        for attributes, rows, bins_by_name in ((features, page.inputs, bins), (tags, page.tags, {})):
            for name in dict.fromkeys(name for row in rows for name in row):
                if name not in attributes:
                    attributes[name] = Attribute(name, bins_by_name.get(name), is_tag=attributes is tags)
                    attributes[name].sums.copy_total(total)
            for attribute in attributes.values():
                codes = attribute.encode([row.get(attribute.name) for row in rows])
                attribute.sums.add(codes, page.errors, page.predictions)
        total.add(np.zeros(len(page.errors), dtype=np.intp), page.errors, page.predictions)
    return total, [*({**features, **tags}).values()]


def _compare_values(values: Sequence[_Value], total: SegmentSums, *, classifier: bool) -> _Compared:
    columns = (np.array([getattr(of.sums, name)[code] for of, code in values], np.float64) for name in Sums._fields)
    sums = Sums(*columns)
    worst = np.fromiter((of.sums.worst[code] for of, code in values), dtype=object, count=len(values))
    rest = Sums(total.rows.astype(np.float64), total.errors, total.squares).minus(sums)
    p = p_values(sums, rest, classifier=classifier)
    return _Compared([(value,) for value in values], sums, rest, p, worst)


def _compare_pairs(pages: Iterator[Page], values: Sequence[_Value], value_sums: Sums, *, classifier: bool) -> _Compared:
    """Compare each pair of values of two attributes with the predictions that have only one of the values."""
    size = len(values)
    if size > MAX_PAIRED_SEGMENTS:
        raise PairsError(
            f"--pairs: {size:,} values have at least {MIN_ROWS} labels each; all pairs of at most "
            f"{MAX_PAIRED_SEGMENTS:,} can be compared: select fewer predictions with --since, --until or --tag"
        )
    pair_sums = _sum_pairs(pages, values)
    rows = pair_sums.rows.reshape(size, size)
    only_first, only_second = value_sums.rows[:, np.newaxis] - rows, value_sums.rows - rows
    cells = np.flatnonzero(np.minimum(np.minimum(only_first, only_second), rows) >= MIN_ROWS)
    sums = Sums(pair_sums.rows[cells].astype(np.float64), pair_sums.errors[cells], pair_sums.squares[cells])
    rests = [value_sums.at(index).minus(sums) for index in (cells // size, cells % size)]
    first, second = (p_values(sums, rest, classifier=classifier) for rest in rests)
    rest = Sums(*(np.where(first >= second, *columns) for columns in zip(*rests, strict=True)))
    pairs = [(values[cell // size], values[cell % size]) for cell in cells.tolist()]
    return _Compared(pairs, sums, rest, np.maximum(first, second), pair_sums.worst[cells])


def _sum_pairs(pages: Iterator[Page], values: Sequence[_Value]) -> SegmentSums:
    """Return the sums of each pair of values; the segment of the values `i` and `j` is `i * len(values) + j`."""
    size = len(values)
    sums = SegmentSums(size * size)
    positions: dict[Attribute, NDArray[np.intp]] = {}
    for index, (attribute, code) in enumerate(values):
        positions.setdefault(attribute, np.full(len(attribute.sums.rows), -1))[code] = index
    for page in pages:
        columns = [
            positions[attribute][
                attribute.encode([row.get(attribute.name) for row in (page.tags if attribute.is_tag else page.inputs)])
            ]
            for attribute in positions
        ]
        pairs = [np.where((a < 0) | (b < 0), -1, a * size + b) for a, b in combinations(columns, 2)]
        cells = np.array(pairs, dtype=np.intp).reshape(-1, len(page.errors))
        pair, row = np.nonzero(cells >= 0)
        sums.add(cells[pair, row], page.errors[row], page.predictions[row])
    return sums


def _rank(segment: WorstSegment) -> tuple[bool, float]:
    return not segment.beyond_chance, -segment.low


def _largest(compared: _Compared, number: int, *, classifier: bool) -> Iterator[WorstSegment]:
    """Yield the segments whose error is larger than that of the rest."""
    low, high = error_intervals(compared.sums, ALPHA / number, classifier=classifier)
    error, rest_error = compared.sums.mean(), compared.rest.mean()
    p = np.minimum(compared.p_values * number, 1.0)
    for index in np.flatnonzero(error > rest_error).tolist():
        yield WorstSegment(
            {value.attribute.name: value.attribute.value(value.code) for value in compared.values[index]},
            labels=int(compared.sums.rows[index]),
            error=float(error[index]),
            low=float(low[index]),
            high=float(high[index]),
            rest_error=float(rest_error[index]),
            p_value=float(p[index]),
            beyond_chance=bool(p[index] < ALPHA),
            worst_prediction=compared.worst[index],
        )
