"""Telemetry of a model as its service exports it: predictions, reference data, labels, metrics of an evaluation."""

import json
import random
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from modeltrace.monitoring.drift import normal_scores
from tests.helpers.metric_points import CUMULATIVE, SECOND, Attributes, gauge
from tests.helpers.model_features import CRITICAL_VALUES, MIN_EFFECT, Feature
from tests.helpers.otlp_sender import Sender, log_record, span
from tests.helpers.otlp_values import MS, Value, key_values

CONFIDENCE_BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass
class ModelService:
    """A process that serves one version of a model, with the counters of the service."""

    sender: Sender
    name: str = "churn"
    version: str = "1.0.0"
    features: Sequence[Feature] = (Feature("age"),)
    labels: Sequence[str] = ("no", "yes")
    start_ns: int = field(default_factory=lambda: time.time_ns() - 3000 * SECOND)
    seed: int = 7
    regressor: bool = False
    hash: str = "ab" * 32
    held_out_rows: int = 10_000
    counts: Counter[tuple[str, Attributes]] = field(default_factory=Counter)
    confidences: dict[str, list[int]] = field(default_factory=dict)
    latest: dict[tuple[str, Attributes], tuple[bytes, bytes, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311  the same values every time
        self.model: Attributes = (("ml.model.name", self.name), ("ml.model.version", self.version))

    def start(self, **thresholds: float) -> None:
        """Send the event `ml.model` and the reference data, as the service does at start."""
        for number, feature in enumerate(self.features, 1):
            attributes = {"name": self.name, "features": [feature.description()], "output_reference": None}
            parts: dict[str, Value] = {"ml.model.part": number, "ml.model.parts": len(self.features)}
            event = LogRecord(
                time_unix_nano=self.start_ns,
                event_name="ml.model",
                body=AnyValue(string_value=json.dumps(attributes)),
                attributes=key_values({**dict(self.model), "ml.model.hash": self.hash, **parts}),
            )
            self.sender.logs(event, scope="modeltrace.model")
        self.references(time.time_ns() - 60 * SECOND, **thresholds)

    def references(self, time_ns: int, threshold: float = 0.6) -> None:
        """Send the reference data that predictions are compared with."""
        shares, scores, means, critical = {}, {}, {}, {}
        sizes = {self.model: 10_000.0}
        for feature in self.features:
            of = (*self.model, ("ml.feature.name", feature.name))
            shares |= {(*of, ("ml.feature.bin", name)): share for name, share in feature.bins.items()}
            sizes[of] = 10_000
            numeric, categorical = {"ks", "location", "spread"}, {"share_change", "new_categories"}
            other = numeric if feature.categories else categorical
            critical |= {
                (*of, ("ml.drift.statistic", name)): value
                for name, value in CRITICAL_VALUES.items()
                if name not in {*other, "low_confidence"}
            }
            if not feature.categories:
                means[of] = 0.0
                values = normal_scores([0.1] * 10).tolist()
                scores |= {(*of, ("ml.feature.bin", f"{number:02d}")): score for number, score in enumerate(values)}
        answers = {(*self.model, ("ml.prediction.label", label)): 1 / len(self.labels) for label in self.labels}
        critical |= {
            (*self.model, ("ml.drift.statistic", name)): CRITICAL_VALUES[name]
            for name in ("psi", "jensen_shannon", "low_confidence")
        }
        self.gauges(
            {
                ("ml.feature.reference", "1"): shares,
                ("ml.feature.reference.mean", "1"): means,
                ("ml.feature.reference.deviation", "1"): dict.fromkeys(means, 1.0),
                ("ml.feature.reference.score", "1"): scores,
                ("ml.feature.reference.size", "{row}"): sizes,
                ("ml.prediction.reference", "1"): answers,
                ("ml.prediction.confidence.threshold", "1"): {self.model: threshold},
                ("ml.prediction.reference.held_out", "{row}"): {self.model: self.held_out_rows},
                ("ml.prediction.low_confidence.reference", "1"): {self.model: 0.02} if self.held_out_rows else {},
                ("ml.drift.min_effect", "1"): {
                    (*self.model, ("ml.drift.statistic", name)): value for name, value in MIN_EFFECT.items()
                },
                ("ml.drift.critical_value", "1"): critical,
            },
            time_ns,
        )

    def predict(
        self, count: int, time_ns: int | None = None, *, recorded: int = 0, lowest: float = 0.5, **more: Value
    ) -> list[str]:
        """Count predictions, send trace and log record of the last `recorded`, and return their trace IDs.

        `more` are further attributes of these spans and log records, with `__` instead of dots.
        """
        now = time_ns or time.time_ns()
        trace_ids = []
        for number in range(count):
            inputs = {feature.name: feature.draw(self.random) for feature in self.features}
            label = self.random.choice(self.labels)
            confidence = lowest + (1 - lowest) * self.random.random() ** 0.3
            trace_id = token_bytes(16) if number >= count - recorded else None
            self._count(inputs, label, confidence)
            if trace_id is not None:
                trace_ids.append(self._record(trace_id, now - (count - number) * MS, inputs, label, confidence, more))
        return trace_ids

    def predict_synthetic(self, count: int) -> None:
        """Send `count` predictions of generated traffic: they are recorded, and counted separately."""
        self.counts["ml.predictions.synthetic", self.model] += count
        for number in range(count):
            inputs = {feature.name: feature.draw(self.random) for feature in self.features}
            mark: dict[str, Value] = {"modeltrace.synthetic": True}
            self._record(token_bytes(16), time.time_ns() - number * MS, inputs, self.labels[0], 0.9, mark)

    def _count(self, inputs: Mapping[str, Any], label: str, confidence: float) -> None:
        answer = (*self.model, ("ml.prediction.label", label))
        self.counts["ml.predictions", answer] += 1
        buckets = self.confidences.setdefault(label, [0] * (len(CONFIDENCE_BOUNDS) + 1))
        buckets[bisect_left(CONFIDENCE_BOUNDS, confidence)] += 1
        if confidence < 0.6:
            self.counts["ml.predictions.low_confidence", self.model] += 1
        for feature in self.features:
            value = inputs[feature.name]
            of = (*self.model, ("ml.feature.name", feature.name))
            self.counts["ml.feature.observations", (*of, ("ml.feature.bin", feature.bin_of(value)))] += 1
            if isinstance(value, float):
                sign = "positive" if value > 0 else "negative"
                self.counts["ml.feature.sum", (*of, ("ml.feature.sign", sign))] += abs(value)

    def _record(
        self,
        trace_id: bytes,
        now: int,
        inputs: Mapping[str, Any],
        label: str,
        confidence: float,
        more: Mapping[str, Value],
    ) -> str:
        attributes: dict[str, Value] = {
            **dict(self.model),
            **{name.replace("__", "."): value for name, value in more.items()},
            "ml.prediction.id": f"p2.{trace_id.hex()}",
            "ml.prediction.label": label,
            "ml.prediction.confidence": confidence,
        }
        server = {"http.request.method": "POST", "http.route": "/predict", "http.response.status_code": 200}
        root = span(trace_id, "POST /predict", now, 4, kind=Span.SPAN_KIND_SERVER, attributes={**server, **attributes})
        self.sender.spans(root)
        recorded_inputs = {
            feature.name: feature.bin_of(inputs[feature.name]) if feature.privacy == "bucket" else inputs[feature.name]
            for feature in self.features
        }
        row = {
            **attributes,
            "ml.prediction.row": 0,
            "ml.model.hash": self.hash,
            "ml.prediction.inputs": recorded_inputs,
        }
        record = log_record(trace_id, root, f"predicted {label}", attributes=row)
        record.event_name = "ml.prediction"
        self.sender.logs(record)
        for feature in self.features:
            name = feature.bin_of(inputs[feature.name])
            where = (*self.model, ("ml.feature.name", feature.name), ("ml.feature.bin", name))
            self.latest["ml.feature.observations", where] = trace_id, root.span_id, now
        return trace_id.hex()

    def repeat(self, count: int, limit: float) -> None:
        """Count predictions for repeated rows, and send the limit of their share."""
        self.counts["ml.predictions.repeated", self.model] += count
        self.gauges({("ml.predictions.repeated.limit", "1"): {self.model: limit}}, time.time_ns())

    def violate(self, feature: str, reason: str, count: int = 1) -> str:
        """Send a request that violates the schema, and return its trace ID."""
        attributes: dict[str, Value] = {"ml.feature.name": feature, "ml.data.violation.reason": reason}
        self.counts["ml.data.violations", (*self.model, *attributes.items())] += count
        trace_id = token_bytes(16)
        root = span(trace_id, "POST /predict", time.time_ns(), 1, kind=Span.SPAN_KIND_SERVER)
        self.sender.spans(root)
        rows: dict[str, Value] = {**dict(self.model), **attributes, "ml.data.violation.rows": count}
        event = log_record(trace_id, root, f"{feature}: {reason}", attributes=rows)
        event.event_name = "ml.data.violation"
        self.sender.logs(event, scope="modeltrace.data")
        return trace_id.hex()

    def label(self, trace_id: str, predicted: str, truth: str) -> str:
        """Send a true label of a prediction, and return the trace ID of the request with the label."""
        series = (
            *self.model,
            ("ml.feedback.label", truth),
            ("ml.prediction.label", predicted),
            ("ml.feedback.age", "1h"),
        )
        self.counts["ml.feedback", series] += 1
        own = token_bytes(16)
        root = span(own, "POST /feedback", time.time_ns(), 2, kind=Span.SPAN_KIND_SERVER)
        self.sender.spans(root, span(own, "feedback", time.time_ns(), 1, parent=root))
        attributes: dict[str, Value] = {
            **dict(series),
            "ml.prediction.id": f"p2.{trace_id}",
            "ml.prediction.trace_id": trace_id,
        }
        event = log_record(own, root, f"labelled {truth}, predicted {predicted}", attributes=attributes)
        event.event_name = "ml.feedback"
        self.sender.logs(event, scope="modeltrace.feedback")
        return own.hex()

    def evaluate(self, model_hash: str | None = None, **figures: float) -> None:
        """Send metrics of an evaluation.

        `f1__yes` is the F1 score of the class `yes`, `f1__macro` and `f1__weighted` are the means over classes,
        `label_delay__0.5` is a quantile, and `baseline_state` is `ml.evaluation.baseline.state`. The hash is an
        attribute if several models have this version.
        """
        model = (*self.model, ("ml.model.hash", model_hash)) if model_hash else self.model
        values_by_metric: dict[tuple[str, str], dict[Attributes, float]] = {}
        for name, value in figures.items():
            metric, _, label = name.partition("__")
            prefix = "" if metric.startswith("concept_drift_") else "evaluation."
            metric = metric.replace("concept_drift_", "concept_drift.").replace("baseline_", "baseline.")
            metric = metric.replace("interval_", "interval.").replace("coverage_", "coverage.")
            key = "quantile" if metric in ("label_delay", "absolute_error") else "ml.evaluation.label"
            if label in ("macro", "weighted"):
                key = "ml.evaluation.average"
            attributes = (*model, (key, label)) if label else model
            values_by_metric.setdefault((f"ml.{prefix}{metric}", "1"), {})[attributes] = value
        self.gauges(values_by_metric, time.time_ns())

    def export(self, time_ns: int | None = None) -> None:
        """Send the cumulative counts."""
        now = time_ns or time.time_ns()
        sums: dict[str, list[NumberDataPoint]] = {}
        for (name, attributes), value in self.counts.items():
            point = NumberDataPoint(
                start_time_unix_nano=self.start_ns,
                time_unix_nano=now,
                as_double=float(value),
                attributes=key_values(dict(attributes)),
                exemplars=[
                    Exemplar(time_unix_nano=at, as_double=1, trace_id=trace_id, span_id=span_id)
                    for trace_id, span_id, at in filter(None, [self.latest.get((name, attributes))])
                ],
            )
            sums.setdefault(name, []).append(point)
        metrics = [
            Metric(name=name, sum=Sum(data_points=points, aggregation_temporality=CUMULATIVE, is_monotonic=True))
            for name, points in sums.items()
        ]
        points = [
            HistogramDataPoint(
                start_time_unix_nano=self.start_ns,
                time_unix_nano=now,
                count=sum(buckets),
                bucket_counts=buckets,
                explicit_bounds=CONFIDENCE_BOUNDS,
                attributes=key_values({**dict(self.model), "ml.prediction.label": label}),
            )
            for label, buckets in self.confidences.items()
        ]
        if points:
            histogram = Histogram(data_points=points, aggregation_temporality=CUMULATIVE)
            metrics.append(Metric(name="ml.prediction.confidence", unit="1", histogram=histogram))
        self.sender.metrics(*metrics)

    def gauges(self, values: Mapping[tuple[str, str], Mapping[Attributes, float]], time_ns: int) -> None:
        """Send gauges, by name and unit."""
        self.sender.metrics(*(gauge(name, unit, points.items(), time_ns) for (name, unit), points in values.items()))
