"""Strategies for JSON values, rows of `schemas.SCHEMA`, and request records with any value of a client or model."""

from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._internal import _encode_resource

from modeltrace.telemetry.names import SPAN_FEATURES, SPAN_INFERENCE, SPAN_QUEUE, SPAN_VALIDATE
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import (
    BatchRecord,
    Failure,
    Origin,
    PredictedRow,
    RequestRecord,
    SchemaViolation,
    Value,
)
from tests.helpers.factories import RESOURCE

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)

valid_rows = st.fixed_dictionaries(
    {
        "size": st.floats(0, 10) | st.integers(0, 10),
        "rooms": st.integers(-(2**63 - 1024), 2**63 - 1024) | st.integers(-1000, 1000).map(float),
        "garden": st.booleans(),
        "city": st.text(max_size=10),
    },
    optional={
        "weight": st.none() | st.floats(-1e30, 1e30) | st.integers(-(2**80), 2**80),
        "heating": st.none() | st.sampled_from(("gas", "wood")),
    },
)

T = TypeVar("T")

# Text with everything in it that Python allows, half a surrogate pair among it.
TEXTS = (
    st.text(st.characters(), max_size=20)
    | st.text(st.characters(max_codepoint=0xFF), max_size=40)
    | st.text("\ud83d\ude00é%?/ .", max_size=8)
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TIMES = st.integers(1_500_000_000_000_000_000, 2_000_000_000_000_000_000)
COUNTS = st.integers(0, 300) | st.integers(0, 100_000)
PORTS = st.integers(0, 65535) | st.just(80)
FLOATS = st.floats()
VALUES: st.SearchStrategy[Value] = (
    st.none() | st.booleans() | st.integers(-300, 300) | FLOATS | st.integers(-(1 << 70), 1 << 70) | TEXTS
)


def ids(size: int) -> st.SearchStrategy[bytes]:
    """Draw IDs of `size` bytes, which are not all zero."""
    return st.binary(min_size=size, max_size=size).filter(any)


def tracestates() -> st.SearchStrategy[str]:
    """Draw `tracestate` headers: valid, nearly valid and invalid."""
    member = st.from_regex(r"\A[a-z0-9][a-z0-9@_*/-]{0,4}=[!-+.-<>-~ ]{0,4}\Z") | st.just("")
    return (
        st.just("") | st.lists(member, max_size=40).map(",".join) | st.lists(member, max_size=3).map(" , ".join) | TEXTS
    )


def origins() -> st.SearchStrategy[Origin]:
    """Draw the process that requests came from."""
    return st.builds(
        Origin, resource=st.just(_encode_resource(RESOURCE).SerializeToString()), scope=st.just("modeltrace")
    )


def models() -> st.SearchStrategy[ModelInfo]:
    """Draw models, alone or with a role."""
    return st.builds(
        ModelInfo,
        name=TEXTS,
        version=TEXTS,
        hash=st.text("0123456789abcdef", max_size=64),
        features=st.lists(TEXTS.filter(bool), min_size=1, max_size=8, unique_by=replace_surrogates).map(tuple),
        schema_hash=st.text("0123456789abcdef", max_size=64),
        role=st.sampled_from(["", "", "primary", "challenger"]),
        outputs=st.lists(TEXTS.filter(bool), max_size=3, unique_by=replace_surrogates).map(tuple),
        interval_level=st.none() | st.floats(0, 1),
    )


def answered_rows(features: int, outputs: int) -> st.SearchStrategy[PredictedRow]:
    """Draw answered rows with numbers of features and named outputs; half of the rows have floats only."""
    floats = st.tuples(*[FLOATS] * features)
    return st.builds(
        PredictedRow,
        row_index=COUNTS,
        prediction_id=TEXTS,
        label=VALUES,
        confidence=st.none() | st.floats(0, 1),
        value=st.none() | FLOATS,
        inputs=floats | st.tuples(*[VALUES] * features),
        time=TIMES,
        probabilities=st.none() | st.lists(st.floats(0, 1), min_size=1, max_size=3),
        outputs=st.none() | st.tuples(*[FLOATS] * outputs) | st.tuples(*[VALUES] * outputs) if outputs else st.none(),
        interval=st.none() | st.tuples(FLOATS, FLOATS),
    )


def failures() -> st.SearchStrategy[Failure]:
    """Draw exceptions of any stage, and of none."""
    return st.builds(
        Failure,
        stage=st.sampled_from(["", SPAN_VALIDATE, SPAN_QUEUE, SPAN_FEATURES, SPAN_INFERENCE, "elsewhere"]),
        error_type=TEXTS,
        exception_type=st.sampled_from(["ZeroDivisionError", "modeltrace.errors.InferenceError", "a.f.<locals>.Élan"]),
        message=TEXTS,
        stacktrace=TEXTS,
        time=TIMES,
    )


def violations() -> st.SearchStrategy[SchemaViolation]:
    """Draw schema violations, of features and of none."""
    reasons = st.sampled_from(["missing", "range", "unknown"])
    return st.builds(SchemaViolation, feature=TEXTS, reason=reasons, allowed=st.booleans(), rows=COUNTS)


@st.composite
def requests(draw: st.DrawFn, among: Sequence[ModelInfo] = ()) -> RequestRecord:
    """Draw requests to one of these models, or to any, which ended at any stage."""
    model = draw(st.none() | (st.sampled_from(list(among)) if among else models()))
    parent = draw(st.just(b"") | ids(8))
    marks = sorted(draw(st.lists(TIMES, min_size=7, max_size=7, unique=True)))
    start, *stages, end = marks
    reached = draw(st.integers(0, 5))
    host, port = draw(TEXTS), draw(PORTS)
    client = draw(st.just(("", 0)) | st.tuples(NAMES, st.just(0)) | st.tuples(NAMES, PORTS))
    rows = draw(COUNTS)
    return RequestRecord(
        trace_id=draw(ids(16)),
        span_id=draw(ids(8)),
        parent_span_id=parent,
        parent_remote=bool(parent) and draw(st.booleans()),
        trace_state=draw(tracestates()) if parent else "",
        trace_flags=draw(st.sampled_from([0, 1, 1, 1, 2, 3])),
        pinned=draw(st.booleans()),
        start=start,
        end=end,
        method=draw(st.sampled_from(["POST", "GET", "post", "BREW"])),
        route=draw(st.sampled_from(["/predict", "/predict/batch"])),
        path=draw(TEXTS | st.sampled_from(["/predict", "/predict/batch"])),
        query=draw(TEXTS),
        scheme=draw(st.sampled_from(["http", "https", ""])),
        http_version=draw(st.sampled_from(["1.0", "1.1", "2", ""])),
        server_address=host if port == 80 else f"{host}:{port}",
        server_port=port,
        client_address=client[0],
        client_port=client[1],
        user_agent=draw(TEXTS | st.sampled_from(["GoogleBot/2.1", "x AlwaysOn bingbot"])),
        status=draw(st.sampled_from([0, 200, 200, 400, 404, 413, 422, 499, 500, 503])),
        validate_start=stages[0] if reached > 0 else 0,
        validate_end=stages[1] if reached > 1 else 0,
        features_start=stages[2] if reached > 2 else 0,
        inference_start=stages[3] if reached > 3 else 0,
        inference_end=stages[4] if reached > 4 else 0,
        is_batch=draw(st.booleans()),
        rows=rows,
        rejected_rows=draw(st.integers(0, rows)),
        shadow_of=None,
        remote_call=None,
        model=model,
        violations=tuple(
            draw(st.lists(violations(), max_size=3) | st.lists(violations(), min_size=31, max_size=34)) if model else ()
        ),
        batch_span=draw(st.none() | st.tuples(ids(16), ids(8))),
        failure=draw(st.none() | failures()),
        predictions=tuple(
            draw(st.lists(answered_rows(len(model.features), len(model.outputs)), max_size=3)) if model else ()
        ),
        synthetic=draw(st.booleans()),
    )


def batches() -> st.SearchStrategy[BatchRecord]:
    """Draw calls of the model for several requests, or for none that is sampled."""
    return st.builds(
        BatchRecord,
        trace_id=ids(16),
        span_id=ids(8),
        start=TIMES,
        end=TIMES,
        rows=COUNTS,
        error_type=st.just("") | TEXTS,
        request_spans=st.lists(st.tuples(ids(16), ids(8)), max_size=4).map(tuple),
        model=models(),
    )


@st.composite
def traffic(draw: st.DrawFn, most: int = 3) -> tuple[Origin, list[RequestRecord]]:
    """Draw a process and requests to its models."""
    among = draw(st.lists(models(), min_size=1, max_size=3))
    return draw(origins()), draw(st.lists(requests(among), max_size=most))


def replace_surrogates(value: T) -> T:
    """Return the same record with U+FFFD for each half of a surrogate pair, as telemetry encodes it."""
    clean: Any = value
    if isinstance(value, str):
        clean = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    elif isinstance(value, tuple):
        fields = map(replace_surrogates, value)
        clean = value._make(fields) if hasattr(value, "_make") else tuple(fields)
    return clean
