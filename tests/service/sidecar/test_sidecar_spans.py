"""Spans from records are the spans that the SDK and the stock instrumentation make of the same request."""

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


class Ids(IdGenerator):
    """Gives a span the ID that it is to have."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_ids: list[int] = []

    def generate_trace_id(self) -> int:
        """The trace ID of the record."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """The span ID of the record, or of its stage."""
        return self.span_ids.pop()


class Stock:
    """Makes spans as the service did before it wrote records: with the SDK and what the instrumentation calls."""

    def __init__(self) -> None:
        self.ids = Ids()
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
        """What the stock exporter would send."""
        for request in requests:
            self.request(origin, request)
        for batch in batches:
            self.batch(origin, batch)
        return encode_spans(self.exporter.get_finished_spans())

    def request(self, origin: Origin, request: RequestRecord) -> None:
        """The spans of one request."""
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
        marks = {"modeltrace.pin": request.pinned, "modeltrace.synthetic": request.synthetic}
        server.set_attributes({name: marked for name, marked in marks.items() if marked})

        failure = request.failure
        for stage, start, end, attributes, links in stages_of(request):
            fails = failure is not None and failure.stage == stage
            if start and (end or fails):
                around = trace.set_span_in_context(server)
                self.ids.span_ids = [int.from_bytes(request.span_id) ^ stage_bits(stage)]
                span = tracer.start_span(stage, around, attributes=attributes, links=links, start_time=start)
                assert isinstance(span, SdkSpan)
                tell_violations(span, request, stage)
                if failure and fails:
                    fail(span, failure)
                    end, failure = end or failure.time, None  # noqa: PLW2901
                span.end(end)

        answer(server, request)
        if failure:
            fail(server, failure)
        if request.status:
            set_status_code(server, request.status, {}, _StabilityMode.HTTP)
        server.end(request.end)

    def batch(self, origin: Origin, batch: BatchRecord) -> None:
        """The span of one call of the model for several requests."""
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
    """The ASGI scope that a server would have made of the request."""
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
    """The context of a span of this process."""
    return SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), is_remote=False)


def stages_of(request: RequestRecord) -> list[tuple[str, int, int, dict[str, str | int], list[trace.Link]]]:
    """Name, start, end, attributes and links of every stage that a request can have."""
    refused: dict[str, str | int] = {}
    if request.rejected_rows:
        refused = {"error.type": "invalid_features", "ml.inference.batch.rejected": request.rejected_rows}
    size: dict[str, str | int] = {"ml.inference.batch.size": request.rows - request.rejected_rows}
    links = [trace.Link(context_of(*request.batch_span))] if request.batch_span else []
    queue: list[tuple[str, int, int, dict[str, str | int], list[trace.Link]]] = []
    if request.batch_span:
        queue = [("queue", request.validate_end, request.features_start, {}, [])]
    return [
        ("validate", request.validate_start, request.validate_end, refused, []),
        *queue,
        ("features", request.features_start, request.inference_start, {}, []),
        ("inference", request.inference_start, request.inference_end, size, links),
    ]


def tell_violations(span: SdkSpan, request: RequestRecord, stage: str) -> None:
    """On `validate` an event for each of the first ways in which rows broke the schema."""
    for violated in request.violations[:32] if stage == "validate" else ():
        name = {"ml.feature.name": violated.feature} if violated.feature else {}
        said = {
            "ml.data.violation.reason": violated.reason,
            "ml.data.violation.action": "counted" if violated.allowed else "rejected",
            "ml.data.violation.rows": violated.rows,
        }
        span.add_event("ml.data.violation", {**name, **said}, request.validate_end)


def fail(span: SdkSpan, failure: Failure) -> None:
    """End a span by an exception, as `start_as_current_span` does."""
    kind = type(failure.exception_type.rpartition(".")[2], (Exception,), {"__module__": "builtins"})
    kind.__qualname__ = failure.exception_type
    error = kind(failure.message)
    span.record_exception(error, {"exception.stacktrace": failure.stacktrace}, failure.time)
    span.set_status(trace.Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    if failure.error_type:
        span.set_attribute("error.type", failure.error_type)


def answer(server: SdkSpan, request: RequestRecord) -> None:
    """Say on the SERVER span what the request was answered with."""
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
        else:
            server.set_attribute("ml.prediction.label", str(row.label))
        if row.confidence is not None:
            server.set_attribute("ml.prediction.confidence", row.confidence)


def in_order(message: ExportTraceServiceRequest) -> bytes:
    """A message as bytes, attributes by name: their order says nothing, and a duplicate stays a difference."""
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.attributes.sort(key=lambda attribute: attribute.key)
    return message.SerializeToString(deterministic=True)


def spans_of(encoder: SpanEncoder, *asked: RequestRecord, batches: Sequence[BatchRecord] = ()) -> dict[str, Span]:
    """The spans of some requests, by name."""
    message = ExportTraceServiceRequest.FromString(encoder.encode(asked, batches)[0])
    return {span.name: span for span in message.resource_spans[0].scope_spans[0].spans}


def attributes_of(span: Span) -> dict[str, object]:
    """The attributes of a span, by name."""
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


@settings(deadline=None)
@given(traffic(), st.lists(batches(), max_size=2))
@example(lookalike_requests(), [])
def test_spans_are_those_of_the_sdk(known: tuple[Origin, list[RequestRecord]], called: list[BatchRecord]) -> None:
    """Every field of every span is what the SDK's encoder sends for the same facts."""
    origin, asked = known
    body, number = SpanEncoder(origin).encode(asked, called)

    stock = Stock().encode(
        replace_surrogates(origin), list(map(replace_surrogates, asked)), list(map(replace_surrogates, called))
    )
    assert number == sum(len(scope.spans) for r in stock.resource_spans for scope in r.scope_spans)
    assert in_order(ExportTraceServiceRequest.FromString(body)) == in_order(stock)


@settings(deadline=None, max_examples=30)
@given(st.lists(requests(), min_size=1, max_size=3))
def test_what_is_kept_from_earlier_requests_changes_nothing(asked: list[RequestRecord]) -> None:
    """A request is encoded alike by an encoder that has seen it before and by one that has not."""
    origin, _ = request_record(3)
    used = SpanEncoder(origin)
    used.encode(asked)
    for request in asked:
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
def test_a_tracestate_is_taken_as_the_api_takes_it(header: str) -> None:
    """Up to 32 members, in their order; of a malformed header nothing."""
    origin, request = request_record()
    asked = request._replace(parent_span_id=b"p" * 8, parent_remote=True, trace_state=header)

    states = {span.trace_state for span in spans_of(SpanEncoder(origin), asked).values()}
    assert states == {TraceState.from_header([header]).to_header()}


def test_equal_labels_of_different_types_keep_their_text() -> None:
    """1, 1.0 and True are equal to Python, and three labels to whoever reads the span."""
    origin, request = request_record()
    encoder = SpanEncoder(origin)

    said = []
    for label in (1, 1.0, True):
        asked = request._replace(predictions=(request.predictions[0]._replace(label=label),))
        said.append(attributes_of(spans_of(encoder, asked)["POST /predict"])["ml.prediction.label"])
    assert said == ["1", "1.0", "True"]


def test_nothing_sampled_is_no_request() -> None:
    """There is nothing to send, not even an envelope."""
    origin, request = request_record()

    assert SpanEncoder(origin).encode([request._replace(trace_flags=0)]) == (b"", 0)
    assert SpanEncoder(origin).split([request._replace(trace_flags=0)], max_bytes=1000) == []


def test_a_request_that_is_told_again_makes_the_same_spans() -> None:
    """Another process gives its stages the same span IDs; those of another request, and of each stage, are others."""
    origin, request = request_record()
    other = request._replace(span_id=bytes(reversed(request.span_id)))

    ids = [span.span_id for each in (request, other) for span in spans_of(SpanEncoder(origin), each).values()]
    assert len(set(ids)) == len(ids) == 8
    assert SpanEncoder(origin).encode([request]) == SpanEncoder(origin).encode([request])


def test_a_request_that_waited_for_a_batch_has_a_queue_and_a_link() -> None:
    """`queue` fills the time until the batch began, `inference` links to the batch, the batch to the request."""
    origin, request = request_record()
    assert request.model is not None
    members = ((request.trace_id, request.span_id),)
    batch = BatchRecord(b"b" * 16, b"b" * 8, request.features_start, request.end, 9, "", members, request.model)
    waited = request._replace(batch_span=(batch.trace_id, batch.span_id), features_start=request.features_start + 5)

    spans = spans_of(SpanEncoder(origin), waited, batches=[batch])
    assert list(spans) == ["validate", "queue", "features", "inference", "POST /predict", "batch"]
    queue = spans["queue"]
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == 5
    assert [link.span_id for link in spans["inference"].links] == [batch.span_id]
    assert [link.span_id for link in spans["batch"].links] == [request.span_id]
    assert spans["batch"].trace_id != request.trace_id
    assert not spans["batch"].parent_span_id


def test_a_batch_is_linked_to_all_of_its_members() -> None:
    """However many there are; the SDK would keep the last 128."""
    origin, request = request_record()
    assert request.model is not None
    members = tuple((bytes(16), number.to_bytes(8)) for number in range(1, 1000))
    batch = BatchRecord(b"b" * 16, b"b" * 8, 1, 2, 999, "", members, request.model)

    assert len(spans_of(SpanEncoder(origin), batches=[batch])["batch"].links) == 999


def test_an_exception_without_a_stage_of_its_own_is_on_the_server_span() -> None:
    """What failed before or between the stages is lost nowhere."""
    origin, request = request_record()
    failure = Failure("features", "KeyError", "KeyError", "'x'", "Traceback", request.end)
    failed = request._replace(features_start=0, inference_start=0, inference_end=0, predictions=(), failure=failure)

    spans = spans_of(SpanEncoder(origin), failed._replace(status=500))
    assert list(spans) == ["validate", "POST /predict"]
    assert [event.name for event in spans["POST /predict"].events] == ["exception"]
    assert attributes_of(spans["POST /predict"])["error.type"] == "500"
    assert spans["POST /predict"].status.code == Status.STATUS_CODE_ERROR


def test_spans_are_cut_into_requests_that_a_receiver_takes() -> None:
    """Each piece is a whole export request within the limit, and none of the spans is lost."""
    origin, request = request_record()
    pieces = SpanEncoder(origin).split([request] * 100, max_bytes=10_000)

    assert len(pieces) > 5
    assert all(len(body) <= 10_000 for body, _ in pieces)
    spans: list[Span] = []
    for body, number in pieces:
        scope = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0]
        assert len(scope.spans) == number
        spans.extend(scope.spans)
    whole = ExportTraceServiceRequest.FromString(SpanEncoder(origin).encode([request] * 100)[0])
    assert spans == list(whole.resource_spans[0].scope_spans[0].spans)
