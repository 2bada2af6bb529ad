"""Which predictions fell into the bins that grew: what a drift alert stands on.

The prediction store is read, not the counters: it has the trace IDs, and is complete whatever was sampled.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from modeltrace.errors import ModeltraceError
from modeltrace.inference.schema import MISSING, Reference, Schema
from modeltrace.monitoring import drift
from modeltrace.monitoring.bins import FeatureBins
from modeltrace.monitoring.drift_check import DriftResult, WindowCounts, check_confidence, check_drift
from modeltrace.monitoring.reference_metrics import OUTPUTS, MonitoredModel, critical_values
from modeltrace.store.rows import StoredPrediction
from modeltrace.telemetry.records.prediction import ModelInfo, PredictedRow, Value

# What stands for the answers where a feature is asked for.
PREDICTION: Final = "prediction"
# Standard errors by which the share of a bin must have risen to be shown: of ten bins, half have always risen a little.
STANDARD_ERRORS: Final = 2.0


class DrilldownError(ModeltraceError):
    """There is nothing to be shown of a feature."""


class TracedPrediction(NamedTuple):
    """A prediction in a bin. `trace_id` is none with telemetry off; one that is not `sampled` was sent nowhere.

    `row` is its place in the request: those of a batch share a trace. `value` is the feature's, or the answer.
    """

    trace_id: str | None
    prediction_id: str
    row: int
    value: Value
    time: int
    sampled: bool


@dataclass(frozen=True)
class Bin:
    """A bin, its share in training and in the window, and its newest predictions, the newest first."""

    name: str
    bounds: str  # in words, for people
    training_share: float
    window_share: float
    count: int
    increased: bool
    traces: list[TracedPrediction] = field(default_factory=list)


@dataclass(frozen=True)
class Drilldown:
    """What a window says of a feature."""

    feature: str
    rows: int
    erased: int  # predictions whose inputs were removed
    other_models: int  # predictions of another model under the same name and version, which are in none of the counts
    distinct: int  # rows that differ from each other
    rows_repeat: bool  # whether that is too few for rows that are independent
    results: list[DriftResult]
    bins: list[Bin]  # those that grew first, the most grown before all


def drill_down(
    model: MonitoredModel,
    info: ModelInfo,
    feature: str,
    predictions: Iterable[StoredPrediction],
    *,
    max_traces: int,
    model_hashes: Collection[str] = (),
) -> Drilldown:
    """Count predictions of one model, by time, into the bins of a feature, or of the answers (`PREDICTION`).

    Args:
        model: what is watched of it, and its training data.
        info: the model.
        feature: what is asked for.
        predictions: those of its name and version.
        max_traces: the most traces of a bin, the newest.
        model_hashes: of the model's files; what others have answered is left out. Without any, nothing is.

    Raises:
        EvidenceError: the feature is none of the model's, or its privacy keeps its values from being told.
    """
    if feature == PREDICTION and PREDICTION not in info.features:
        return _of_answers(model, info, predictions, max_traces, model_hashes)
    found = next((one for one in model.features if one.name == feature), None)
    if found is None:
        raise DrilldownError(f"{info.name} {info.version} has no feature {feature}; it has {', '.join(info.features)}")
    if str(found.privacy) != "plain":
        raise DrilldownError(
            f"{feature} is `{found.privacy}` in the schema of {info.name} {info.version}: the prediction store does "
            "not have its values as they came, so nobody can say which predictions fell into which bin"
        )
    bins = FeatureBins(Schema(features=(found,)))
    places = {name: place for place, (_, name) in enumerate(bins.bin_names)}
    gathering = _Gathering(model, len(places), max_traces, model_hashes)
    total, erased = 0.0, 0
    for one in filter(gathering.is_ours, predictions):
        if one.inputs is None:
            erased += 1
            continue
        rows = [(one.inputs.get(feature),)]
        numbers = bins.numeric_values(rows)
        gathering.add(int(bins.digitize(rows, numbers)[0, 0]), one, rows[0][0])
        if bins.numeric_names and rows[0][0] is not None:
            total += float(numbers[0, 0])
    criticals = {name: value for (of, name), value in critical_values(model).items() if of == feature}
    if not found.accepts_missing:
        # Rows without it were refused, so the store has none of them.
        criticals.pop(drift.MISSING_VALUES, None)
    findings = check_drift(
        found.reference, WindowCounts(gathering.counts, total, rows_repeat=gathering.repeat), criticals
    )
    return gathering.evidence(feature, erased, findings, found.reference)


def _of_answers(
    model: MonitoredModel, info: ModelInfo, predictions: Iterable[StoredPrediction], limit: int, hashes: Collection[str]
) -> Drilldown:
    if model.output_reference is None:
        raise DrilldownError(
            f"the bundle of {info.name} {info.version} does not say what the model answered before it was served; pack "
            "it anew"
        )
    places = {name: place for place, name in enumerate(model.output_reference.shares)}
    gathering, unsure, sure = _Gathering(model, len(places), limit, hashes), 0, 0
    for one in filter(gathering.is_ours, predictions):
        answered = PredictedRow(one.row, one.prediction_id, one.label, one.confidence, one.value, (), one.time)
        place = places.get(str(info.outcome(answered)))
        if place is not None:
            gathering.add(place, one, one.label if one.value is None else one.value)
        if one.confidence is not None:
            sure += 1
            unsure += info.is_low_confidence(answered)
    criticals = {name: value for (of, name), value in critical_values(model).items() if of == OUTPUTS}
    findings = check_drift(
        model.output_reference, WindowCounts(gathering.counts, rows_repeat=gathering.repeat), criticals
    )
    if (critical := criticals.get(drift.LOW_CONFIDENCE)) is not None:
        findings.append(check_confidence(unsure, sure, critical, rows_repeat=gathering.repeat))
    return gathering.evidence(PREDICTION, 0, findings, model.output_reference)


class _Gathering:
    """Counts of bins, and the newest of each; and how many rows are distinct."""

    def __init__(self, model: MonitoredModel, bins: int, limit: int, hashes: Collection[str]) -> None:
        self.counts = [0] * bins
        # What is stored of private features is less than what came: rows that differed may look equal.
        self._whole = all(str(feature.privacy) in ("plain", "hash") for feature in model.features)
        self._coincidence = model.duplicate_probability
        self._hashes = frozenset(hashes)
        self._others = self._with_inputs = 0
        self._rows: set[int] = set()
        self._newest: list[deque[TracedPrediction]] = [deque(maxlen=limit) for _ in range(bins)]

    def is_ours(self, one: StoredPrediction) -> bool:
        """Whether the model has answered it, and not another one under its name and version; those are counted."""
        ours = not self._hashes or one.model_hash in self._hashes
        self._others += not ours
        return ours

    def add(self, place: int, one: StoredPrediction, value: Value) -> None:
        """One more, not older than the last."""
        self.counts[place] += 1
        self._newest[place].append(
            TracedPrediction(one.trace_id, one.prediction_id, one.row, value, one.time, one.sampled)
        )
        if one.inputs is not None:
            self._with_inputs += 1
            self._rows.add(hash(tuple(one.inputs.items())))  # always in the order of the schema

    @property
    def repeat(self) -> bool:
        """Whether too few rows are distinct; not of a bundle that does not say how often training rows are equal."""
        if self._coincidence is None or not self._whole:
            return False
        return len(self._rows) < drift.min_distinct_rows(self._with_inputs, self._coincidence)

    def evidence(self, feature: str, erased: int, findings: list[DriftResult], reference: Reference) -> Drilldown:
        """All of it."""
        rows, bins = sum(self.counts), self._bins(reference)
        return Drilldown(feature, rows, erased, self._others, len(self._rows), self.repeat, findings, bins)

    def _bins(self, reference: Reference) -> list[Bin]:
        """All bins."""
        n, rows = max(sum(self.counts), 1), reference.n
        bounds = _bounds(reference)
        found = []
        for place, (name, share) in enumerate(reference.shares.items()):
            count = self.counts[place]
            pooled = (count + share * rows + drift.PSEUDOCOUNT) / (n + rows + 2 * drift.PSEUDOCOUNT)
            chance = STANDARD_ERRORS * float(np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / rows)))
            grown = count / n - share > chance
            traces = list(reversed(self._newest[place])) if grown else []
            found.append(Bin(name, bounds.get(name, name), share, count / n, count, grown, traces))
        return sorted(found, key=lambda one: (not one.increased, one.training_share - one.window_share))


def _bounds(reference: Reference) -> dict[str, str]:
    """The bins of numbers in words."""
    edges: Sequence[float] = reference.edges or ()
    if not edges:
        return {MISSING: "missing"}
    inner = [f"over {low:g} to {high:g}" for low, high in pairwise(edges)]
    names = [f"up to {edges[0]:g}", *inner, f"over {edges[-1]:g}"]
    return {f"{place:02d}": words for place, words in enumerate(names)}
