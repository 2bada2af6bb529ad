"""Arbitrary records, as strategies: whatever a client or a model can bring about, and more."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common._internal import _encode_resource
from opentelemetry.sdk.resources import Resource
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from service.telemetry.names import SPAN_FEATURES, SPAN_INFERENCE, SPAN_QUEUE, SPAN_VALIDATE
from service.telemetry.record import Answered, Batch, Failure, ModelInfo, Origin, Request, Value, Violated

T = TypeVar("T")

RESOURCE = Resource({"service.name": "records", "service.version": "1.2.3", "process.pid": 4711}, schema_url="")
# Text with everything in it that Python allows, half a surrogate pair among it.
TEXT = (
    st.text(st.characters(), max_size=20)
    | st.text(st.characters(max_codepoint=0xFF), max_size=40)
    | st.text("\ud83d\ude00é%?/ .", max_size=8)
)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TIME = st.integers(1_500_000_000_000_000_000, 2_000_000_000_000_000_000)
COUNT = st.integers(0, 300) | st.integers(0, 100_000)
PORT = st.integers(0, 65535) | st.just(80)
FLOAT = st.floats()
VALUE: st.SearchStrategy[Value] = (
    st.none() | st.booleans() | st.integers(-300, 300) | FLOAT | st.integers(-(1 << 70), 1 << 70) | TEXT
)


def some_id(size: int) -> st.SearchStrategy[bytes]:
    """An ID of so many bytes that are not all zero."""
    return st.binary(min_size=size, max_size=size).filter(any)


def tracestates() -> st.SearchStrategy[str]:
    """Headers: right, nearly right and not at all right."""
    member = st.from_regex(r"\A[a-z0-9][a-z0-9@_*/-]{0,4}=[!-+.-<>-~ ]{0,4}\Z") | st.just("")
    return (
        st.just("") | st.lists(member, max_size=40).map(",".join) | st.lists(member, max_size=3).map(" , ".join) | TEXT
    )


def origins() -> st.SearchStrategy[Origin]:
    """Processes."""
    return st.builds(
        Origin,
        resource=st.just(_encode_resource(RESOURCE).SerializeToString()),
        scope=st.just("modeltrace"),
    )


def models() -> st.SearchStrategy[ModelInfo]:
    """Models, alone or beside others."""
    return st.builds(
        ModelInfo,
        name=TEXT,
        version=TEXT,
        hash=st.text("0123456789abcdef", max_size=64),
        features=st.lists(TEXT.filter(bool), min_size=1, max_size=8, unique_by=cleaned).map(tuple),
        schema_hash=st.text("0123456789abcdef", max_size=64),
        role=st.sampled_from(["", "", "primary", "challenger"]),
    )


def answers(features: int) -> st.SearchStrategy[Answered]:
    """Answered rows of so many features; half of them all floats, as most are."""
    floats = st.tuples(*[FLOAT] * features)
    return st.builds(
        Answered,
        row=COUNT,
        prediction_id=TEXT,
        label=VALUE,
        confidence=st.none() | st.floats(0, 1),
        value=st.none() | FLOAT,
        inputs=floats | st.tuples(*[VALUE] * features),
        time=TIME,
    )


def failures() -> st.SearchStrategy[Failure]:
    """Exceptions of any stage, and of none."""
    return st.builds(
        Failure,
        stage=st.sampled_from(["", SPAN_VALIDATE, SPAN_QUEUE, SPAN_FEATURES, SPAN_INFERENCE, "elsewhere"]),
        error_type=TEXT,
        exception_type=st.sampled_from(["ZeroDivisionError", "service.errors.InferenceError", "a.f.<locals>.Élan"]),
        message=TEXT,
        stacktrace=TEXT,
        time=TIME,
    )


def violations() -> st.SearchStrategy[Violated]:
    """Ways to break a schema, of features and of none."""
    reasons = st.sampled_from(["missing", "range", "unknown"])
    return st.builds(Violated, feature=TEXT, reason=reasons, let_through=st.booleans(), rows=COUNT)


@st.composite
def requests(draw: st.DrawFn, among: Sequence[ModelInfo] = ()) -> Request:
    """Requests to one of these models, or to any, however far they came."""
    model = draw(st.none() | (st.sampled_from(list(among)) if among else models()))
    parent = draw(st.just(b"") | some_id(8))
    marks = sorted(draw(st.lists(TIME, min_size=7, max_size=7, unique=True)))
    start, *stages, end = marks
    reached = draw(st.integers(0, 5))
    host, port = draw(TEXT), draw(PORT)
    client = draw(st.just(("", 0)) | st.tuples(NAME, st.just(0)) | st.tuples(NAME, PORT))
    rows = draw(COUNT)
    return Request(
        trace_id=draw(some_id(16)),
        span_id=draw(some_id(8)),
        parent_span_id=parent,
        parent_remote=bool(parent) and draw(st.booleans()),
        trace_state=draw(tracestates()) if parent else "",
        trace_flags=draw(st.sampled_from([0, 1, 1, 1, 2, 3])),
        pinned=draw(st.booleans()),
        start=start,
        end=end,
        method=draw(st.sampled_from(["POST", "GET", "post", "BREW"])),
        route=draw(st.sampled_from(["/predict", "/predict/batch"])),
        path=draw(TEXT | st.sampled_from(["/predict", "/predict/batch"])),
        query=draw(TEXT),
        scheme=draw(st.sampled_from(["http", "https", ""])),
        http_version=draw(st.sampled_from(["1.0", "1.1", "2", ""])),
        server_address=host if port == 80 else f"{host}:{port}",
        server_port=port,
        client_address=client[0],
        client_port=client[1],
        user_agent=draw(TEXT | st.sampled_from(["GoogleBot/2.1", "x AlwaysOn bingbot"])),
        status=draw(st.sampled_from([0, 200, 200, 400, 404, 413, 422, 499, 500, 503])),
        validate_start=stages[0] if reached > 0 else 0,
        validate_end=stages[1] if reached > 1 else 0,
        features_start=stages[2] if reached > 2 else 0,
        inference_start=stages[3] if reached > 3 else 0,
        inference_end=stages[4] if reached > 4 else 0,
        many=draw(st.booleans()),
        rows=rows,
        rejected=draw(st.integers(0, rows)),
        shadow_of=None,
        called=None,
        model=model,
        violations=tuple(
            draw(st.lists(violations(), max_size=3) | st.lists(violations(), min_size=31, max_size=34)) if model else ()
        ),
        batch=draw(st.none() | st.tuples(some_id(16), some_id(8))),
        failure=draw(st.none() | failures()),
        answered=tuple(draw(st.lists(answers(len(model.features)), max_size=3)) if model else ()),
    )


def batches() -> st.SearchStrategy[Batch]:
    """Calls of the model for several requests, or for none that is sampled."""
    return st.builds(
        Batch,
        trace_id=some_id(16),
        span_id=some_id(8),
        start=TIME,
        end=TIME,
        rows=COUNT,
        error_type=st.just("") | TEXT,
        members=st.lists(st.tuples(some_id(16), some_id(8)), max_size=4).map(tuple),
        model=models(),
    )


@st.composite
def traffic(draw: st.DrawFn, most: int = 3) -> tuple[Origin, list[Request]]:
    """A process and requests to its models."""
    among = draw(st.lists(models(), min_size=1, max_size=3))
    return draw(origins()), draw(st.lists(requests(among), max_size=most))


def cleaned(value: T) -> T:
    """The same record with U+FFFD for each half of a surrogate pair: what telemetry can tell of it."""
    clean: Any = value
    if isinstance(value, str):
        clean = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    elif isinstance(value, tuple):
        fields = map(cleaned, value)
        clean = value._make(fields) if hasattr(value, "_make") else tuple(fields)
    return clean


@contextmanager
def in_span(request: Request) -> Iterator[None]:
    """Be in the SERVER span of a request, as what it logged was."""
    ids = int.from_bytes(request.trace_id), int.from_bytes(request.span_id)
    context = trace.SpanContext(*ids, is_remote=False, trace_flags=trace.TraceFlags(request.trace_flags))
    with trace.use_span(trace.NonRecordingSpan(context)):
        yield


def said_of(model: ModelInfo | None) -> dict[str, object]:
    """What every log record of a model's requests says of it."""
    assert model is not None
    said: dict[str, object] = {"ml.model.name": model.name, "ml.model.version": model.version}
    return {**said, **({"ml.model.role": model.role} if model.role else {}), "ml.model.hash": model.hash}


def audit_records(request: Request) -> Iterator[logging.LogRecord]:
    """What the audit trail gives to stdlib logging, one for each answered row."""
    for row in request.answered:
        extra: dict[str, object] = {
            "otel.event.name": "ml.prediction",
            **said_of(request.model),
            "ml.prediction.id": row.prediction_id,
            "ml.prediction.row": row.row,
            "ml.prediction.inputs": dict(zip(request.model.features, row.inputs, strict=True)),  # type: ignore[union-attr]  # said above
        }
        if row.value is not None:
            extra["ml.prediction.value"] = row.value
        else:
            extra["ml.prediction.label"] = str(row.label)
        if row.confidence is not None:
            extra["ml.prediction.confidence"] = row.confidence
        answer = row.label if row.value is None else row.value
        yield _log_record("modeltrace.audit", row.time, "predicted %s", (answer,), extra)


def data_records(request: Request) -> Iterator[logging.LogRecord]:
    """What is given to stdlib logging of rows that broke the schema: one for each of the first ways."""
    for one in request.violations[:32]:
        extra: dict[str, object] = {
            "otel.event.name": "ml.data.violation",
            **said_of(request.model),
            **({"ml.feature.name": one.feature} if one.feature else {}),
            "ml.data.violation.reason": one.reason,
            "ml.data.violation.action": one.action,
            "ml.data.violation.rows": one.rows,
        }
        words = f"{one.feature or 'none of the features'}: {one.reason}, {one.action}, rows: {one.rows}"
        yield _log_record("modeltrace.data", request.validate_end, "%s", (words,), extra)


def access_record(request: Request) -> logging.LogRecord:
    """What uvicorn gives to stdlib logging."""
    scope: Any = {
        "client": (request.client_address, request.client_port) if request.client_address else None,
        "path": request.path,
        "query_string": _AnyText(request.query),
    }
    arguments = (
        get_client_addr(scope),
        request.method,
        get_path_with_query_string(scope),
        request.http_version,
        request.status,
    )
    return _log_record("uvicorn.access", request.end, '%s - "%s %s HTTP/%s" %d', arguments)


class _AnyText(str):
    """A query as uvicorn takes it apart: bytes, but not only of ASCII."""

    __slots__ = ()

    def decode(self, _: str) -> str:
        """The text."""
        return str(self)


def _log_record(
    logger: str, time: int, message: str, arguments: tuple[object, ...], extra: dict[str, object] | None = None
) -> logging.LogRecord:
    record = logging.getLogger(logger).makeRecord(logger, logging.INFO, "", 0, message, arguments, None, extra=extra)
    record.created = time / 1e9
    return record


def one_request(features: int = 30) -> tuple[Origin, Request]:
    """A process and an everyday request of one row of floats."""
    origin = Origin(
        resource=_encode_resource(RESOURCE).SerializeToString(),
        scope="modeltrace",
    )
    model = ModelInfo(
        name="breast-cancer",
        version="1.0.0",
        hash="9c0d4d033e1c4c65e4aff80a620556b682276882f6d033e6a31842f5b9c3c9fa",
        features=tuple(f"feature_{number}" for number in range(features)),
        schema_hash="4a" * 32,
    )
    inputs = tuple(0.1 + number for number in range(features))
    start = 1_795_545_013_393_236_969
    marks = [start + 100_000 * step for step in range(8)]
    answered = Answered(0, "AQr3ZRkWzUPdhEjrIRyAMZwTPk_GK0R6swAA", "benign", 0.98, None, inputs, marks[6])
    return origin, Request(
        trace_id=bytes(range(16)),
        span_id=bytes(range(1, 9)),
        parent_span_id=b"",
        parent_remote=False,
        trace_state="",
        trace_flags=1,
        pinned=False,
        start=start,
        end=marks[7],
        method="POST",
        route="/predict",
        path="/predict",
        query="",
        scheme="http",
        http_version="1.1",
        server_address="127.0.0.1:8000",
        server_port=8000,
        client_address="127.0.0.1",
        client_port=50_000,
        user_agent="python-httpx/0.28.1",
        status=200,
        validate_start=marks[1],
        validate_end=marks[2],
        features_start=marks[2],
        inference_start=marks[3],
        inference_end=marks[4],
        many=False,
        rows=1,
        rejected=0,
        shadow_of=None,
        called=None,
        model=model,
        violations=(),
        batch=None,
        failure=None,
        answered=(answered,),
    )


def look_alikes() -> tuple[Origin, list[Request]]:
    """Answers that are zero, and labels and inputs that are equal, but not to a reader; each row alone, then all."""
    origin, request = one_request(3)
    time = request.end - 1
    rows = (
        Answered(0, "a", None, 0.0, 0.0, (1, 1, True), time),
        Answered(1, "b", 1, 1.0, None, (1.0, True, 1), time),
        Answered(2, "c", label=True, confidence=0.5, value=None, inputs=(True, 1.0, 0), time=time),
        Answered(3, "d", 1.0, None, None, (0.0, False, 0), time),
        Answered(4, "e", 0.0, None, None, (0.0, 1.5, True), time),
        Answered(5, "f", -0.0, None, None, (-0.0, 1.5, 1), time),
        Answered(6, "g", 1.0, None, None, (0.0, -0.0, 0.0), time),
    )
    alone = [request._replace(answered=(row,)) for row in rows]
    return origin, [*alone, request._replace(many=True, rows=9, rejected=2, answered=rows[1:] + rows[:1])]
