"""Convert traces in the JSON of Jaeger's API and user interface to OTLP/JSON.

The mapping of tags to fields is that of the specification "OpenTelemetry to Jaeger Transformation", in reverse.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from modeltrace_hub.archive.otlp_encoding import encode_attributes
from modeltrace_hub.errors import MalformedError
from modeltrace_hub.queries.reader import Record

_KINDS: Final = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_STATUSES: Final = {"OK": 1, "ERROR": 2}
_TRACE_ID_DIGITS: Final = 32
_SPAN_ID_DIGITS: Final = 16


# The reason why a span is not converted.
UNKNOWN_PROCESS: Final = "processID is not in the processes of the trace"


def convert_jaeger(document: Mapping[str, Any]) -> tuple[Record, int]:
    """Convert the traces of a document `{"data": [{"traceID", "spans", "processes"}]}`.

    Returns:
        An export request, and the number of spans whose process is unknown, which are not in it.

    Raises:
        MalformedError: a field is missing or has another type.
    """
    try:
        groups = [group for trace in document["data"] for group in _convert_trace(trace)]
        unknown = sum(
            span["processID"] not in trace["processes"] for trace in document["data"] for span in trace["spans"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"The file is not JSON of Jaeger: {type(error).__name__} {error}") from None
    return {"resourceSpans": groups}, unknown


def _convert_trace(trace: Mapping[str, Any]) -> Iterable[Record]:
    for process_id, process in trace["processes"].items():
        spans = [_convert_span(span) for span in trace["spans"] if span["processID"] == process_id]
        attributes = {"service.name": process["serviceName"], **_tags(process.get("tags"))}
        yield {"resource": {"attributes": encode_attributes(attributes)}, "scopeSpans": [{"spans": spans}]}


def _convert_span(span: Mapping[str, Any]) -> Record:
    tags = _tags(span.get("tags"))
    kind = tags.pop("span.kind", None)
    failed = tags.pop("error", False)
    status = tags.pop("otel.status_code", "ERROR" if failed is True or failed == "true" else None)
    message = tags.pop("otel.status_description", "")
    references = [
        (item["refType"], item["traceID"].zfill(_TRACE_ID_DIGITS), item["spanID"].zfill(_SPAN_ID_DIGITS))
        for item in span.get("references") or ()
    ]
    trace_id = span["traceID"].zfill(_TRACE_ID_DIGITS)
    parents = [span_id for type_, trace, span_id in references if type_ == "CHILD_OF" and trace == trace_id]
    start = int(span["startTime"]) * 1000
    return {
        "traceId": trace_id,
        "spanId": span["spanID"].zfill(_SPAN_ID_DIGITS),
        "parentSpanId": parents[0] if parents else "",
        "name": span["operationName"],
        "kind": _KINDS.get(str(kind), 0),
        "flags": int(span.get("flags") or 0),
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + int(span["duration"]) * 1000),
        "attributes": encode_attributes(tags),
        "events": [_convert_event(log) for log in span.get("logs") or ()],
        "links": [
            {"traceId": trace, "spanId": span_id}
            for type_, trace, span_id in references
            if (trace, span_id) != (trace_id, parents[0] if parents else None) or type_ != "CHILD_OF"
        ],
        "status": {"code": _STATUSES.get(str(status), 0), "message": str(message)},
    }


def _convert_event(log: Mapping[str, Any]) -> Record:
    fields = _tags(log.get("fields"))
    name = str(fields.pop("event", ""))
    return {"timeUnixNano": str(int(log["timestamp"]) * 1000), "name": name, "attributes": encode_attributes(fields)}


def _tags(tags: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    return {tag["key"]: _tag_value(tag) for tag in tags or ()}


def _tag_value(tag: Mapping[str, Any]) -> Any:  # noqa: ANN401  any JSON
    """Return the value of a tag. Numbers may be texts, since JavaScript reads no 64-bit integers."""
    value = tag["value"]
    match tag.get("type"):
        case "int64":
            return int(value)
        case "float64":
            return float(value)
        case "bool":
            return value is True or value == "true"
        case "binary":
            return {"bytes": str(value)}
        case _:
            return value
