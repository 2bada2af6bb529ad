"""The instruments of the prediction path, and the Views that give all instruments their bounds and limits."""

from dataclasses import dataclass

from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View
from opentelemetry.semconv.metrics.http_metrics import HTTP_SERVER_REQUEST_DURATION

from service.telemetry.exemplars import reservoir_factory
from service.telemetry.names import (
    CONFIDENCE_BOUNDS,
    DURATION_BOUNDS,
    METRIC_CONFIDENCE,
    METRIC_INFERENCE_DURATION,
    METRIC_PREDICTIONS,
)


@dataclass(frozen=True, slots=True)
class Instruments:
    """What the prediction path records into."""

    inference_duration: Histogram
    predictions: Counter
    confidence: Histogram


def build_instruments(meter: Meter) -> Instruments:
    """Create each instrument once."""
    return Instruments(
        inference_duration=meter.create_histogram(
            METRIC_INFERENCE_DURATION, unit="s", description="Duration of one call of the model, for all its rows."
        ),
        predictions=meter.create_counter(METRIC_PREDICTIONS, unit="{prediction}", description="Predictions answered."),
        confidence=meter.create_histogram(
            METRIC_CONFIDENCE, unit="1", description="Probability that the model gave to the label it answered."
        ),
    )


def build_views() -> list[View]:
    """Bounds where the alerts look, exemplars worth following, and a limit to what clients can make us keep."""
    duration = ExplicitBucketHistogramAggregation(boundaries=DURATION_BOUNDS)
    share = ExplicitBucketHistogramAggregation(boundaries=CONFIDENCE_BOUNDS)
    return [
        View(
            instrument_name=HTTP_SERVER_REQUEST_DURATION,
            aggregation=duration,
            exemplar_reservoir_factory=reservoir_factory,
            aggregation_cardinality_limit=500,
        ),
        View(
            instrument_name=METRIC_INFERENCE_DURATION,
            aggregation=duration,
            exemplar_reservoir_factory=reservoir_factory,
            aggregation_cardinality_limit=100,
        ),
        View(
            instrument_name=METRIC_CONFIDENCE,
            aggregation=share,
            exemplar_reservoir_factory=reservoir_factory,
            aggregation_cardinality_limit=1000,
        ),
        View(
            instrument_name=METRIC_PREDICTIONS,
            exemplar_reservoir_factory=reservoir_factory,
            aggregation_cardinality_limit=1000,
        ),
        # The stock bounds are for milliseconds.
        View(instrument_name="otel.sdk.*.duration", aggregation=duration),
        # The instrumentation keeps the response's size on itself, not on the request: wrong under concurrency.
        View(instrument_name="http.server.*.body.size", aggregation=DropAggregation()),
    ]
