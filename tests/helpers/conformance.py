"""Convert the spans and metrics of the sidecar path and the SDK path to a form in which they must be equal."""

from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics.export import Metric

from modeltrace.telemetry.metrics.instruments import REFERENCE_GAUGES
from modeltrace.telemetry.metrics.predictions import PredictionMetrics
from modeltrace.telemetry.records.prediction import RequestRecord
from modeltrace_hub.decode.values import Json, to_json
from tests.helpers.decoding import unlimited
from tests.helpers.in_process_services import SdkService, spans_of

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
BUNDLE_METRICS = {gauge.name for gauge in REFERENCE_GAUGES}
VARYING_ATTRIBUTES = {"ml.prediction.id", "client.port"}


def json_of(value: AnyValue) -> Json:
    """Return the value of an attribute as JSON has it, however large it is."""
    return to_json(value, unlimited())


def sdk_spans(service: SdkService) -> list[Span]:
    """List the spans that the OTLP exporter of the SDK would send."""
    encoded = encode_spans(service.span_exporter.get_finished_spans()).SerializeToString()
    return spans_of(ExportTraceServiceRequest.FromString(encoded))


def comparable_spans(spans: list[Span]) -> dict[str, dict[str, Any]]:
    """Return what must be equal of each span, by name: not its IDs, times and code location."""
    names = {span.span_id: span.name for span in spans}
    return {
        span.name: {
            "kind": span.kind,
            "parent": names.get(span.parent_span_id, span.parent_span_id.hex()),
            "flags": span.flags,
            "trace_state": span.trace_state,
            "attributes": {a.key: json_of(a.value) for a in span.attributes if a.key not in VARYING_ATTRIBUTES},
            "varying": sorted(a.key for a in span.attributes if a.key in VARYING_ATTRIBUTES),
            "events": [
                (e.name, {a.key: json_of(a.value) for a in e.attributes if a.key != "exception.stacktrace"})
                for e in span.events
            ],
            "status": (span.status.code, span.status.message),
            "links": len(span.links),
            "in order": span.start_time_unix_nano <= span.end_time_unix_nano,
        }
        for span in spans
    }


def comparable_metrics(metrics: list[Metric]) -> dict[str, Any]:
    """Return what must be equal of each metric, by name: not its durations."""
    return {
        metric.name: (
            metric.unit,
            metric.description,
            metric.data.aggregation_temporality,
            sorted(
                (
                    str(sorted(point.attributes.items())),
                    getattr(point, "explicit_bounds", None),
                    getattr(point, "count", None) or point.value,
                    None if metric.name.endswith(("duration", "delay")) else getattr(point, "sum", None),
                    # Observable instruments have no exemplars.
                    len(point.exemplars) > 0 and not metric.name.startswith("ml.feature."),
                )
                for point in metric.data.data_points
            ),
        )
        for metric in metrics
        # Counted before the instrumentation; or reference data, which does not depend on requests.
        if metric.name != "http.server.active_requests" and metric.name not in BUNDLE_METRICS
    }


def traceparent_headers(flags: str, **more: str) -> dict[str, dict[str, str]]:
    """Return the headers of a client that traces, as arguments of a request."""
    return {"headers": {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-{flags}", **more}}


def counts_by_version(requests: list[RequestRecord]) -> dict[tuple[str, str], int]:
    """Count calls and predictions by metric and model version."""
    points = PredictionMetrics(exemplar_filter="always_off")
    points.add(requests)
    return {
        (metric.name, str(point.attributes["ml.model.version"])): getattr(point, "count", None) or point.value  # type: ignore[index, union-attr]
        for metric in points.collect()
        if metric.name in ("ml.inference.duration", "ml.prediction.confidence")
        for point in metric.data.data_points
    }


def comparable_spans_of_both(spans: list[Any]) -> list[dict[str, dict[str, Any]]]:
    """Return `comparable_spans` of the request, then of the shadow, whose spans have the same names."""
    shadow = next(span for span in spans if span.name == "shadow")
    server = next(span for span in spans if span.name.startswith("POST"))
    assert shadow.parent_span_id == server.span_id
    below = [span for span in spans if shadow.span_id in (span.span_id, span.parent_span_id)]
    of_shadow = comparable_spans(below)
    del of_shadow["shadow"]["parent"]  # its name is among the names of the other spans
    return [comparable_spans([span for span in spans if span not in below]), of_shadow]
