"""A model, counts of its traffic, and the series of both in Prometheus."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.output_reference import build_monitored_outputs, build_output_reference
from modeltrace.inference.held_out import HeldOut
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.named_outputs import Output
from modeltrace.inference.schema import OutputReference, Reference, Schema
from modeltrace.monitoring import drift
from modeltrace.monitoring.dependence import bin_variance, count_processes
from modeltrace.monitoring.drift_check import (
    DriftResult,
    WindowCounts,
    check_confidence,
    check_drift,
    window_independent_share,
)
from modeltrace.monitoring.reference_gauges import OUTPUTS, critical_values, named_output_key, reference_metrics
from modeltrace.telemetry.metrics.row_dependence import REMEMBERED_ROWS

ROWS: Final = 600
NAMED: Final = (Output(name="score"), Output(name="kind", classes=("a", "b", "missing")))
# The value of a state in the rules.
DRIFT_STATES: Final = {
    "drift": 1, "ok": 0, "not enough data": -1, "rows repeat": -2, "reference too small": -3,
    "no held-out reference": -4,
}  # fmt: skip
# The share of the pairs of requests of each process.
PAIR_SHARES: Final = {"a": 0.75, "b": 0.25}
Labels = Mapping[str, str]


def drift_model(*, regressor: bool = False, held_out: bool = True) -> Model:
    """Return a model with numbers with and without missing values, a constant, a text and a boolean.

    It has a label or a value, and two named outputs: a number and a label. A seventh of the held-out rows have low
    confidence.
    """
    rng = np.random.default_rng(7)
    columns = {
        "age": rng.normal(40, 12, ROWS),
        "balance": np.where(rng.random(ROWS) < 0.1, np.nan, rng.normal(1, 1000, ROWS)),
        "same": np.ones(ROWS),
        "plan": rng.choice([f"plan {index}" for index in range(25)], ROWS),
        "member": rng.random(ROWS) < 0.3,
    }
    schema = Schema(features=tuple(describe_column(pd.Series(values, name=name)) for name, values in columns.items()))
    outputs = [
        ModelOutput(value=float(n**2)) if regressor else ModelOutput("yes" if n % 3 else "no") for n in range(ROWS)
    ]
    classes = None if regressor else ("no", "yes", "maybe")
    return Model(
        name="toy",
        version="2",
        hash="",
        task="regressor" if regressor else "classifier",
        classes=classes,
        schema=schema,
        as_frame=False,
        created="",
        predict_fn=lambda _: [],
        output_reference=build_output_reference(outputs, classes),
        outputs=NAMED,
        monitored_outputs=build_monitored_outputs(
            [ModelOutput(outputs=(score, "ab"[n % 3 == 0])) for n, score in enumerate(rng.normal(size=ROWS))],
            NAMED,
            "multi_output",
        ),
        confidence_threshold=None if regressor else 0.5,
        held_out=HeldOut(method="held_out", rows=ROWS, low_confidence_share=None if regressor else 1 / 7)
        if held_out
        else None,
        duplicate_probability=1e-5,
    )


@dataclass(frozen=True)
class TrafficCounts:
    """Counts of traffic, by feature (or `OUTPUTS`), and the number of predictions with low confidence."""

    windows: dict[str, WindowCounts]
    low_confidence: int
    repeated: int = 0  # predictions of rows that equal a recent one

    def __sub__(self, before: "TrafficCounts") -> "TrafficCounts":
        """Return the counts that were added since `before`."""
        return TrafficCounts(
            {
                name: WindowCounts(
                    tuple(a - b for a, b in zip(now.counts, then.counts, strict=True)),
                    now.rejected - then.rejected,
                    difference=now.difference - then.difference,
                    pairs=now.pairs - then.pairs,
                    processes=now.processes,
                )
                for (name, now), then in zip(self.windows.items(), before.windows.values(), strict=True)
            },
            self.low_confidence - before.low_confidence,
            self.repeated - before.repeated,
        )

    def drift_results(self, model: Model) -> dict[tuple[str, str], DriftResult]:
        """Return the results of `modeltrace.monitoring`, by feature and statistic."""
        criticals: dict[str, dict[str, float]] = {}
        for (name, statistic), value in critical_values(model).items():
            criticals.setdefault(name, {})[statistic] = value
        low_confidence = criticals[OUTPUTS].pop(drift.LOW_CONFIDENCE, None)
        predictions = sum(self.windows[OUTPUTS].counts)
        limit = 1.0
        if model.duplicate_probability is not None:
            limit = drift.max_repeated_share(model.duplicate_probability, 2 * REMEMBERED_ROWS)
        repeat = predictions > 0 and self.repeated / predictions > limit
        references: dict[str, Reference] = {feature.name: feature.reference for feature in model.schema.features}
        references |= {named_output_key(name): reference for name, reference in _named(model).items()}
        results = [
            (name, result)
            for name, window in self.windows.items()
            if (reference := references.get(name) or model.output_reference)
            for result in check_drift(
                reference,
                window._replace(rows_repeat=repeat),
                criticals[name],
                has_reference=name in model.schema.names or model.held_out is not None,
            )
        ]
        if low_confidence is not None:
            assert model.output_reference
            result = check_confidence(
                self.low_confidence,
                predictions,
                low_confidence,
                model.held_out,
                rows_repeat=repeat,
                independent_share=window_independent_share(model.output_reference, self.windows[OUTPUTS]),
            )
            results.append((OUTPUTS, result))
        return {(name, result.statistic): result for name, result in results}


def draw_traffic(model: Model, rng: np.random.Generator, rows: int, *, shift: float) -> TrafficCounts:
    """Draw the counts of some rows; `shift` is the distance of their distribution from the training data.

    Each feature has a random correlation of consecutive rows.
    """
    windows = {}

    def window(reference: Reference, counts: list[int], rejected: int = 0) -> WindowCounts:
        difference = rows * bin_variance(reference, counts) * (1 - rng.uniform(-0.1, 0.6))
        processes = count_processes([*PAIR_SHARES.values()])
        return WindowCounts(tuple(counts), rejected, difference=difference, pairs=rows, processes=processes)

    for feature in model.schema.features:
        shares = np.array(list(feature.reference.shares.values()))
        p = shares * np.exp(shift * rng.normal(size=len(shares))) + shift * 0.01
        counts = rng.multinomial(rows, p / p.sum())
        if feature.reference.edges is not None:
            counts[-1] = 0  # `other`, which a number never is
        windows[feature.name] = window(feature.reference, counts.tolist(), int(shift * rows / 20))
    assert model.output_reference
    shares = np.array(list(model.output_reference.shares.values()))
    p = shares * np.exp(shift * rng.normal(size=len(shares)))
    windows[OUTPUTS] = window(model.output_reference, rng.multinomial(rows, p / p.sum()).tolist())
    for name, reference in _named(model).items():
        shares = np.array(list(reference.shares.values()))
        p = shares * np.exp(shift * rng.normal(size=len(shares)))
        windows[named_output_key(name)] = window(reference, rng.multinomial(rows, p / p.sum()).tolist())
    return TrafficCounts(windows, int(rows * (1 + shift) / 7) if model.confidence_threshold is not None else 0)


def gauge_series(model: Model) -> Iterator[tuple[str, Labels, float]]:
    """Yield the gauges of a model as Prometheus has them: name, labels, value."""
    common = {"job": "modeltrace", **_model(model)}
    for instrument, points in reference_metrics(model).gauges.items():
        suffix = "_ratio" if instrument.unit == "1" else ""
        for value, attributes in points:
            labels = {_name(key): label for key, label in attributes.items()}
            yield _name(instrument.name) + suffix, {**common, **labels}, value


def counter_series(model: Model, traffic: TrafficCounts) -> Iterator[tuple[str, Labels, float]]:
    """Yield the counters of some traffic as Prometheus has them: name, labels, value."""
    common = {"job": "modeltrace", "instance": "a", **_model(model)}
    rejected = {"ml_data_violation_reason": "missing", "ml_data_violation_action": "rejected"}
    for feature in model.schema.features:
        window, labels = traffic.windows[feature.name], {**common, "ml_feature_name": feature.name}
        for bin_name, count in zip(feature.reference.shares, window.counts, strict=True):
            yield "ml_feature_observations_total", {**labels, "ml_feature_bin": bin_name}, count
        yield "ml_feature_successive_difference_total", labels, window.difference
        if window.rejected:
            yield "ml_data_violations_total", {**labels, **rejected}, window.rejected
    assert model.output_reference
    label = "ml_prediction_label" if model.output_reference.edges is None else "ml_prediction_bin"
    for bin_name, count in zip(model.output_reference.shares, traffic.windows[OUTPUTS].counts, strict=True):
        if count:  # the series of a label begins with its first prediction
            yield "ml_predictions_total", {**common, label: bin_name}, count
    for name, reference in _named(model).items():
        window, labels = traffic.windows[named_output_key(name)], {**common, "ml_output_name": name}
        for bin_name, count in zip(reference.shares, window.counts, strict=True):
            yield "ml_output_observations_total", {**labels, "ml_output_bin": bin_name}, count
        yield "ml_output_successive_difference_total", labels, window.difference
    yield "ml_prediction_successive_difference_total", common, traffic.windows[OUTPUTS].difference
    pairs = traffic.windows[OUTPUTS].pairs
    yield from (
        ("ml_predictions_pairs_total", {**common, "instance": instance}, share * pairs)
        for instance, share in PAIR_SHARES.items()
    )
    yield "ml_predictions_repeated_total", common, traffic.repeated
    if model.confidence_threshold is not None:
        predictions = sum(traffic.windows[OUTPUTS].counts)
        yield "ml_prediction_confidence_count", {**common, "ml_prediction_label": "no"}, predictions
        if traffic.low_confidence:
            yield "ml_predictions_low_confidence_total", common, traffic.low_confidence


def _named(model: Model) -> Mapping[str, OutputReference]:
    return model.monitored_outputs.references if model.monitored_outputs else {}


def _model(model: Model) -> Labels:
    return {"ml_model_name": model.name, "ml_model_version": model.version}


def _name(name: str) -> str:
    return name.replace(".", "_")
