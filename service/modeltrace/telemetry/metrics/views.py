"""The Views of the SDK, which set bounds, exemplars and cardinality limits of the instruments."""

from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View

from modeltrace.telemetry.metrics.exemplars import reservoir_factory
from modeltrace.telemetry.metrics.instruments import (
    DURATION_BOUNDS,
    EVALUATION_GAUGES,
    FEATURE_DIFFERENCE,
    FEATURE_OBSERVATIONS,
    FEATURE_SUM,
    OUTPUT_DIFFERENCE,
    OUTPUT_OBSERVATIONS,
    PREDICTION_DIFFERENCE,
    REFERENCE_GAUGES,
    REPEATED_PREDICTIONS,
    REQUEST_PAIRS,
    WITH_EXEMPLARS,
)


def build_views() -> list[View]:
    """Return the Views with the bounds that alerts need, the choice of exemplars, and cardinality limits."""
    views = [
        View(
            instrument_name=instrument.name,
            aggregation=ExplicitBucketHistogramAggregation(boundaries=instrument.bounds) if instrument.bounds else None,
            exemplar_reservoir_factory=reservoir_factory,
            aggregation_cardinality_limit=instrument.cardinality_limit,
        )
        for instrument in WITH_EXEMPLARS
    ]
    views += [
        View(instrument_name=instrument.name, aggregation_cardinality_limit=instrument.cardinality_limit)
        for instrument in (
            FEATURE_OBSERVATIONS,
            FEATURE_SUM,
            FEATURE_DIFFERENCE,
            PREDICTION_DIFFERENCE,
            OUTPUT_OBSERVATIONS,
            OUTPUT_DIFFERENCE,
            REQUEST_PAIRS,
            REPEATED_PREDICTIONS,
            *REFERENCE_GAUGES,
            *EVALUATION_GAUGES,
        )
    ]
    # The default bounds are for milliseconds.
    durations = ExplicitBucketHistogramAggregation(boundaries=DURATION_BOUNDS)
    views.append(View(instrument_name="otel.sdk.*.duration", aggregation=durations))
    # The instrumentation stores the response size in a shared object, so the size is wrong with concurrent requests.
    views.append(View(instrument_name="http.server.*.body.size", aggregation=DropAggregation()))
    return views
