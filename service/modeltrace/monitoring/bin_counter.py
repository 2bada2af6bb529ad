"""Count predictions by bin, and list the newest predictions of the bins whose share has increased."""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from modeltrace.bin_names import numeric_bin_name
from modeltrace.inference.schema import Reference
from modeltrace.monitoring import drift
from modeltrace.monitoring.dependence import bin_scores
from modeltrace.monitoring.drift_check import DriftResult, WindowCounts
from modeltrace.monitoring.reference_gauges import MonitoredModel
from modeltrace.store.rows import StoredPrediction
from modeltrace.telemetry.metrics.row_dependence import half_squared_difference
from modeltrace.telemetry.records.prediction import Value

# A bin is listed as increased if its share has increased by this number of standard errors. Without drift, half of all
# bins increase a little.
STANDARD_ERRORS: Final = 2.0


class TracedPrediction(NamedTuple):
    """A prediction in a bin.

    `trace_id` is `None` if telemetry was off. If `sampled` is false, the trace was not exported. `row` is the position
    in the request, because the rows of a batch share a trace. `value` is the feature's value, or the model's output.
    """

    trace_id: str | None
    prediction_id: str
    row: int
    value: Value
    time: int
    sampled: bool


@dataclass(frozen=True)
class Bin:
    """A bin with its shares and, if its share has increased, its latest predictions, newest first."""

    name: str
    bounds: str  # in words
    training_share: float
    window_share: float
    count: int
    increased: bool
    traces: list[TracedPrediction] = field(default_factory=list)


@dataclass(frozen=True)
class Drilldown:
    """The drift statistics and bins of a feature in a window."""

    feature: str
    rows: int
    erased: int  # predictions whose inputs were removed
    other_models: int  # predictions of another model with the same name and version; no other field includes them
    distinct: int  # distinct rows
    rows_repeat: bool  # whether the number of distinct rows is too low for independent rows
    results: list[DriftResult]
    bins: list[Bin]  # bins whose share has increased, then the others; each group by increase, largest first


class BinCounter:
    """Counts predictions by bin, keeps the newest of each bin, counts distinct rows, and compares requests."""

    def __init__(
        self,
        model: MonitoredModel,
        reference: Reference,
        bounds: Sequence[str],
        max_traces: int,
        model_hashes: Collection[str],
    ) -> None:
        self.reference = reference
        self._bounds = bounds
        self._scores = bin_scores(reference)
        # The redacted values of `bucket` and `drop` features can be equal in different rows.
        self._can_compare_rows = all(str(feature.privacy) in ("plain", "hash") for feature in model.features)
        self._duplicate_probability = model.duplicate_probability
        self._model_hashes = frozenset(model_hashes)
        self._max_traces = max_traces
        self._counts: dict[str, int] = {}
        self._newest: dict[str, deque[TracedPrediction]] = {}
        self._other_models = self._with_inputs = 0
        self._row_hashes: set[int] = set()
        # The trace ID and span ID of the request before, and the bin of its first row.
        self._request: tuple[str | None, str | None] | None = None
        self._first_bin = ""
        self._difference, self._pairs = 0.0, 0

    def is_same_model(self, stored: StoredPrediction) -> bool:
        """Return whether the model made the prediction. If another model of this name and version made it, count it."""
        same = not self._model_hashes or stored.model_hash in self._model_hashes
        self._other_models += not same
        return same

    def add(self, name: str, stored: StoredPrediction, value: Value) -> None:
        """Count a prediction. Predictions must be added in order of time."""
        self._compare(name, (stored.trace_id, stored.span_id))
        self._counts[name] = self._counts.get(name, 0) + 1
        newest = self._newest.setdefault(name, deque(maxlen=self._max_traces))
        newest.append(
            TracedPrediction(stored.trace_id, stored.prediction_id, stored.row, value, stored.time, stored.sampled)
        )
        if stored.inputs is not None:
            self._with_inputs += 1
            self._row_hashes.add(hash(tuple(stored.inputs.items())))  # always in the order of the schema

    def _compare(self, name: str, request: tuple[str | None, str | None]) -> None:
        """Compare the first row of a request with that of the request before, as `SuccessiveDifferences` does."""
        if request == self._request and request != (None, None):
            return
        if self._request is not None:
            self._difference += half_squared_difference(self._scores, self._first_bin, name)
            self._pairs += 1
        self._request, self._first_bin = request, name

    @property
    def rows_repeat(self) -> bool:
        """Whether too few rows are distinct; false for a bundle without a duplicate probability."""
        if self._duplicate_probability is None or not self._can_compare_rows:
            return False
        return len(self._row_hashes) < drift.min_distinct_rows(self._with_inputs, self._duplicate_probability)

    def window(self) -> WindowCounts:
        """Return the counts in the order of the reference's bins."""
        counts = [self._counts.get(name, 0) for name in self.reference.shares]
        return WindowCounts(counts, rows_repeat=self.rows_repeat, difference=self._difference, pairs=self._pairs)

    def drilldown(self, feature: str, erased: int, results: list[DriftResult]) -> Drilldown:
        """Return the result for a feature."""
        rows, distinct = sum(self._counts.values()), len(self._row_hashes)
        bins = self._bins()
        return Drilldown(feature, rows, erased, self._other_models, distinct, self.rows_repeat, results, bins)

    def _bins(self) -> list[Bin]:
        reference = self.reference
        n, rows = max(sum(self._counts.values()), 1), reference.n
        bounds = {} if reference.edges is None else {numeric_bin_name(i): text for i, text in enumerate(self._bounds)}
        bins = []
        for name, share in reference.shares.items():
            count = self._counts.get(name, 0)
            pooled = (count + share * rows + drift.PSEUDOCOUNT) / (n + rows + 2 * drift.PSEUDOCOUNT)
            margin = STANDARD_ERRORS * float(np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / rows)))
            increased = count / n - share > margin
            traces = list(reversed(self._newest.get(name, ()))) if increased else []
            bins.append(Bin(name, bounds.get(name, name), share, count / n, count, increased, traces))
        return sorted(bins, key=lambda item: (not item.increased, item.training_share - item.window_share))
