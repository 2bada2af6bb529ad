"""Spans encoded from records equal those of the SDK and its instrumentation for the same request."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.asgi import collect_request_attributes, set_status_code
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from opentelemetry.util.http import sanitize_method

from modeltrace.sidecar.encode.spans import SpanEncoder, stage_bits
from modeltrace.telemetry.records.prediction import BatchRecord, Failure, Origin, RequestRecord
from tests.helpers.factories import RESOURCE, lookalike_requests, request_record
from tests.helpers.strategies import batches, replace_surrogates, requests, traffic


class FixedIdGenerator(IdGenerator):
    """Returns the IDs of a record."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_ids: list[int] = []

    def generate_trace_id(self) -> int:
        """Return the trace ID of the record."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Return the span ID of the record or of its stage."""
        return self.span_ids.pop()


class SdkSpans:
    """Creates the spans of records with the SDK and the functions of its instrumentation."""

    def __init__(self) -> None:
        self.ids = FixedIdGenerator()
        self.exporter = InMemorySpanExporter()
        self.providers = {}
        for sampled in (False, True):
            provider = TracerProvider(
                ParentBased(ALWAYS_ON if sampled else ALWAYS_OFF),
                RESOURCE,
                id_generator=self.ids,
                span_limits=SpanLimits(max_links=SpanLimits.UNSET),
                shutdown_on_exit=False,
            )
            provider.add_span_processor(SimpleSpanProcessor(self.exporter))
            self.providers[sampled] = provider

    def encode(
        self, origin: Origin, requests: Sequence[RequestRecord], batches: Sequence[BatchRecord]
    ) -> ExportTraceServiceRequest:
        """Return the export request of the SDK's exporter."""
        for request in requests:
            self.record_request(origin, request)
        for batch in batches:
            self.record_batch(origin, batch)
        return encode_spans(self.exporter.get_finished_spans())

    def record_request(self, origin: Origin, request: RequestRecord) -> None:
        """Create the spans of one request."""
        self.ids.trace_id, self.ids.span_ids = int.from_bytes(request.trace_id), [int.from_bytes(request.span_id)]
        sampled = bool(request.trace_flags & 1)
        tracer = self.providers[sampled].get_tracer(origin.scope)
        parent = None
        if request.parent_span_id:
            context = SpanContext(
                int.from_bytes(request.trace_id),
                int.from_bytes(request.parent_span_id),
                request.parent_remote,
                TraceFlags(int(sampled)),
                TraceState.from_header([request.trace_state]),
            )
            parent = trace.set_span_in_context(NonRecordingSpan(context))
        method = sanitize_method(request.method)
        name = f"{'HTTP' if method == '_OTHER' else method} {request.route}"
        server = tracer.start_span(name, parent, SpanKind.SERVER, start_time=request.start)
        if not isinstance(server, SdkSpan):
            self.ids.span_ids = []
            return
        server.set_attributes(collect_request_attributes(scope_of(request), _StabilityMode.HTTP))
        server.set_attribute("http.route", request.route)
        if request.model:
            server.set_attributes(request.model.span_attributes())
        flags = {"modeltrace.pin": request.pinned, "modeltrace.synthetic": request.synthetic}
        server.set_attributes({name: value for name, value in flags.items() if value})
        if request.api_key_name:
            server.set_attribute("enduser.id", request.api_key_name)

        failure = request.failure
        for stage, start, end, attributes, links in stages_of(request):
            fails = failure is not None and failure.stage == stage
            if start and (end or fails):
                context_of_server = trace.set_span_in_context(server)
                self.ids.span_ids = [int.from_bytes(request.span_id) ^ stage_bits(stage)]
                span = tracer.start_span(stage, context_of_server, attributes=attributes, links=links, start_time=start)
                assert isinstance(span, SdkSpan)
                add_violations(span, request, stage)
                if failure and fails:
                    fail(span, failure)
                    end, failure = end or failure.time, None  # noqa: PLW2901
                span.end(end)

        set_outputs(server, request)
        if failure:
            fail(server, failure)
        if request.status:
            set_status_code(server, request.status, {}, _StabilityMode.HTTP)
        server.end(request.end)

    def record_batch(self, origin: Origin, batch: BatchRecord) -> None:
        """Create the span of one call of the model for several requests."""
        if not batch.request_spans:
            return
        self.ids.trace_id, self.ids.span_ids = int.from_bytes(batch.trace_id), [int.from_bytes(batch.span_id)]
        attributes: dict[str, str | int] = {
            **batch.model.span_attributes(),
            "ml.inference.batch.size": batch.rows,
        }
        links = [trace.Link(context_of(*member)) for member in batch.request_spans]
        tracer = self.providers[True].get_tracer(origin.scope)
        span = tracer.start_span("batch", attributes=attributes, links=links, start_time=batch.start)
        if batch.error_type:
            span.set_attribute("error.type", batch.error_type)
            span.set_status(StatusCode.ERROR)
        span.end(batch.end)


def scope_of(request: RequestRecord) -> dict[str, object]:
    """Return the ASGI scope of the request."""
    suffix = "" if request.server_port == 80 else f":{request.server_port}"
    return {
        "scheme": request.scheme,
        "server": (request.server_address.removesuffix(suffix), request.server_port),
        "http_version": request.http_version,
        "path": request.path,
        "query_string": request.query.encode(),
        "method": request.method,
        "headers": [(b"user-agent", request.user_agent.encode())],
        "client": (request.client_address, request.client_port) if request.client_address else None,
    }


def context_of(trace_id: bytes, span_id: bytes) -> SpanContext:
    """Return the context of a local span."""
    return SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), is_remote=False)


def stages_of(request: RequestRecord) -> list[tuple[str, int, int, dict[str, str | int], list[trace.Link]]]:
    """Return name, start, end, attributes and links of all stages that a request can have."""
    rejected: dict[str, str | int] = {}
    if request.rejected_rows:
        rejected = {"error.type": "invalid_features", "ml.inference.batch.rejected": request.rejected_rows}
    size: dict[str, str | int] = {"ml.inference.batch.size": request.rows - request.rejected_rows}
    links = [trace.Link(context_of(*request.batch_span))] if request.batch_span else []
    queue: list[tuple[str, int, int, dict[str, str | int], list[trace.Link]]] = []
    if request.batch_span:
        queue = [("queue", request.validate_end, request.features_start, {}, [])]
    return [
        ("validate", request.validate_start, request.validate_end, rejected, []),
        *queue,
        ("features", request.features_start, request.inference_start, {}, []),
        ("inference", request.inference_start, request.inference_end, size, links),
    ]


def add_violations(span: SdkSpan, request: RequestRecord, stage: str) -> None:
    """Add an event to the span `validate` for each of the first schema violations."""
    for violation in request.violations[:32] if stage == "validate" else ():
        name = {"ml.feature.name": violation.feature} if violation.feature else {}
        attributes = {
            "ml.data.violation.reason": violation.reason,
            "ml.data.violation.action": "counted" if violation.allowed else "rejected",
            "ml.data.violation.rows": violation.rows,
        }
        span.add_event("ml.data.violation", {**name, **attributes}, request.validate_end)


def fail(span: SdkSpan, failure: Failure) -> None:
    """Record an exception on a span like `start_as_current_span`."""
    kind = type(failure.exception_type.rpartition(".")[2], (Exception,), {"__module__": "builtins"})
    kind.__qualname__ = failure.exception_type
    error = kind(failure.message)
    span.record_exception(error, {"exception.stacktrace": failure.stacktrace}, failure.time)
    span.set_status(trace.Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    if failure.error_type:
        span.set_attribute("error.type", failure.error_type)


def set_outputs(server: SdkSpan, request: RequestRecord) -> None:
    """Set the attributes of the SERVER span about the predictions."""
    if request.is_batch:
        if request.model and request.failure is None:
            rows = {"ml.inference.batch.size": request.rows, "ml.inference.batch.rejected": request.rejected_rows}
            server.set_attributes(rows)
            if confidences := [row.confidence for row in request.predictions if row.confidence is not None]:
                server.set_attribute("ml.inference.batch.lowest_confidence", min(confidences))
    elif request.predictions:
        row = request.predictions[0]
        server.set_attribute("ml.prediction.id", row.prediction_id)
        if row.value is not None:
            server.set_attribute("ml.prediction.value", row.value)
        elif row.label is not None:
            server.set_attribute("ml.prediction.label", str(row.label))
        if row.confidence is not None:
            server.set_attribute("ml.prediction.confidence", row.confidence)


def serialize_sorted(message: ExportTraceServiceRequest) -> bytes:
    """Serialize a message with sorted attributes: their order is irrelevant, but duplicates remain visible."""
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.attributes.sort(key=lambda attribute: attribute.key)
    return message.SerializeToString(deterministic=True)


def spans_of(encoder: SpanEncoder, *records: RequestRecord, batches: Sequence[BatchRecord] = ()) -> dict[str, Span]:
    """Return the spans of requests by name."""
    ((body, _),) = encoder.encode([*records, *batches])
    message = ExportTraceServiceRequest.FromString(body)
    return {span.name: span for span in message.resource_spans[0].scope_spans[0].spans}


def attributes_of(span: Span) -> dict[str, object]:
    """Return the attributes of a span by name."""
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


@pytest.mark.slow
@settings(deadline=None)
@given(traffic(), st.lists(batches(), max_size=2))
@example(lookalike_requests(), [])
def test_spans_are_those_of_the_sdk(recorded: tuple[Origin, list[RequestRecord]], called: list[BatchRecord]) -> None:
    """Every field of every span equals the output of the SDK's encoder."""
    origin, records = recorded
    ((body, number),) = SpanEncoder(origin).encode([*records, *called]) or [(b"", 0)]

    expected = SdkSpans().encode(
        replace_surrogates(origin), list(map(replace_surrogates, records)), list(map(replace_surrogates, called))
    )
    assert number == sum(len(scope.spans) for r in expected.resource_spans for scope in r.scope_spans)
    assert serialize_sorted(ExportTraceServiceRequest.FromString(body)) == serialize_sorted(expected)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.lists(requests(), min_size=1, max_size=3))
def test_caches_do_not_change_the_encoding(records: list[RequestRecord]) -> None:
    """An encoder that has encoded a request before returns the same bytes as a new one."""
    origin, _ = request_record(3)
    used = SpanEncoder(origin)
    used.encode(records)
    for request in records:
        assert used.encode([request]) == SpanEncoder(origin).encode([request])


@pytest.mark.parametrize(
    "header",
    [
        *(",".join(f"k{number}=v" for number in range(members)) for members in (1, 32, 33)),
        *(f"k={'v' * length}" for length in (256, 257)),
        *(f"{'k' * length}=v" for length in (256, 257)),
        " a=1 ,\tb=2\t,, c= 3",
        "a=1,a=2",
        "a=1,b",
        "a=1\x0b",
        "9@a=1",
        "9=1",
        "a=1=2",
        "",
    ],
)
def test_tracestate_is_parsed_like_by_the_api(header: str) -> None:
    """Up to 32 members are kept in order; a malformed header is ignored completely."""
    origin, request = request_record()
    record = request._replace(parent_span_id=b"p" * 8, parent_remote=True, trace_state=header)

    states = {span.trace_state for span in spans_of(SpanEncoder(origin), record).values()}
    assert states == {TraceState.from_header([header]).to_header()}


def test_equal_labels_of_different_types_keep_their_text() -> None:
    """1, 1.0 and True are equal in Python but are three different labels."""
    origin, request = request_record()
    encoder = SpanEncoder(origin)

    labels = []
    for label in (1, 1.0, True):
        record = request._replace(predictions=(request.predictions[0]._replace(label=label),))
        labels.append(attributes_of(spans_of(encoder, record)["POST /predict"])["ml.prediction.label"])
    assert labels == ["1", "1.0", "True"]


def test_unsampled_requests_make_no_export_request() -> None:
    """Without sampled spans there is no export request."""
    origin, request = request_record()

    assert SpanEncoder(origin).encode([request._replace(trace_flags=0)]) == []


def test_a_request_that_is_encoded_again_has_the_same_span_ids() -> None:
    """Another process derives the same span IDs; those of other requests and stages differ."""
    origin, request = request_record()
    other = request._replace(span_id=bytes(reversed(request.span_id)))

    ids = [span.span_id for each in (request, other) for span in spans_of(SpanEncoder(origin), each).values()]
    assert len(set(ids)) == len(ids) == 8
    assert SpanEncoder(origin).encode([request]) == SpanEncoder(origin).encode([request])


def test_a_request_that_waited_for_a_batch_has_a_queue_and_a_link() -> None:
    """`queue` lasts until the batch starts; `inference` links to the batch, and the batch to the request."""
    origin, request = request_record()
    assert request.model is not None
    request_spans = ((request.trace_id, request.span_id),)
    batch = BatchRecord(b"b" * 16, b"b" * 8, request.features_start, request.end, 9, "", request_spans, request.model)
    waited = request._replace(batch_span=(batch.trace_id, batch.span_id), features_start=request.features_start + 5)

    spans = spans_of(SpanEncoder(origin), waited, batches=[batch])
    assert list(spans) == ["validate", "queue", "features", "inference", "POST /predict", "batch"]
    queue = spans["queue"]
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == 5
    assert [link.span_id for link in spans["inference"].links] == [batch.span_id]
    assert [link.span_id for link in spans["batch"].links] == [request.span_id]
    assert spans["batch"].trace_id != request.trace_id
    assert not spans["batch"].parent_span_id


def test_a_batch_links_to_all_its_requests() -> None:
    """The number of links is not limited; the SDK would keep the last 128."""
    origin, request = request_record()
    assert request.model is not None
    request_spans = tuple((bytes(16), number.to_bytes(8)) for number in range(1, 1000))
    batch = BatchRecord(b"b" * 16, b"b" * 8, 1, 2, 999, "", request_spans, request.model)

    assert len(spans_of(SpanEncoder(origin), batches=[batch])["batch"].links) == 999


def test_an_exception_without_a_stage_of_its_own_is_on_the_server_span() -> None:
    """An exception before or between the stages is reported by the SERVER span."""
    origin, request = request_record()
    failure = Failure("features", "KeyError", "KeyError", "'x'", "Traceback", request.end)
    failed = request._replace(features_start=0, inference_start=0, inference_end=0, predictions=(), failure=failure)

    spans = spans_of(SpanEncoder(origin), failed._replace(status=500))
    assert list(spans) == ["validate", "POST /predict"]
    assert [event.name for event in spans["POST /predict"].events] == ["exception"]
    assert attributes_of(spans["POST /predict"])["error.type"] == "500"
    assert spans["POST /predict"].status.code == Status.STATUS_CODE_ERROR


def test_spans_are_split_into_requests_within_the_limit() -> None:
    """Each part is a complete export request within the limit, and no span is lost."""
    origin, request = request_record()
    parts = SpanEncoder(origin, max_bytes=10_000).encode([request] * 100)

    assert len(parts) > 5
    assert all(len(body) <= 10_000 for body, _ in parts)
    spans: list[Span] = []
    for body, number in parts:
        scope = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0]
        assert len(scope.spans) == number
        spans.extend(scope.spans)
    ((body, _),) = SpanEncoder(origin).encode([request] * 100)
    single_request = ExportTraceServiceRequest.FromString(body)
    assert spans == list(single_request.resource_spans[0].scope_spans[0].spans)
