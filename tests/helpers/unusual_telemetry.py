"""Invalid and unusual telemetry: requests of a model service with randomly replaced fields."""

import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

import modeltrace_hub
from tests.helpers.model_features import Feature
from tests.helpers.model_telemetry import ModelService
from tests.helpers.otlp_sender import Sender

MODEL = "churn"
MAX_NS = 2**63 - 1
SECOND = 10**9
_HUB = Path(modeltrace_hub.__file__).parent
_NAME = re.compile(r"\b(?:ml|http|service|error|exception|gen_ai|llm|openinference)\.[a-z_]+(?:\.[a-z_]+)*\b")

_STRINGS = (
    *("", " ", "x", "0", "00", "7", "-1", "NaN", "Infinity", "missing", "other", "true", "null", "[]", "{}", "1.0.0"),
    *("9" * 5000, "é" * 600, "a\0b", "<b>&\"'", "\u202e\n\r\t", "wrong", "psi", "low_confidence", "s", "By", "{row}"),
)
_INTEGERS = (0, 1, -1, 2, 200, 2**31, 2**53 + 1, MAX_NS, -(2**63))
_DOUBLES = (0.0, -0.0, 0.5, 1.0, -1.5, 1e-320, 1e16, 1.7e308, -1.7e308, float("nan"), float("inf"), float("-inf"))
_EVENT_BODIES: tuple[Any, ...] = (
    *(
        {"output_reference": {"shares": 5}},
        {"output_reference": {"shares": {"a": "b"}}},
        {"output_reference": []},
        {"features": 5},
    ),
    *({"features": [{"name": 5}]}, {"features": [{"name": "age", "edges": [0, "x"]}]}, [], 5, None),
    *({"features": [{"name": "age", "edges": [5.0, 1.0], "training_range": [1]}]},),
    *({"features": [{"name": "age", "bins": [[], {}, None], "privacy": ["hash"]}]},),
    *({"features": [{"name": "age", "edges": [], "bins": {"a": 1}, "training_range": [1e308, -1e308]}]},),
    *({"features": [{"name": "age", "edges": [10**400, 1]}, {"name": "", "edges": [True]}]},),
)


@dataclass(frozen=True)
class CollectingSender(Sender):
    """A sender that collects its requests."""

    requests: list[Message] = field(default_factory=list)

    def send(self, request: Message, signal: str) -> None:  # noqa: ARG002  the message tells the signal, too
        """Collect a request."""
        self.requests.append(request)


@cache
def known_names() -> Sequence[str]:
    """Return every attribute, metric and event name in the hub's own files."""
    files = [path for path in _HUB.rglob("*") if path.suffix in {".py", ".sql", ".html"}]
    return sorted({name for path in files for name in _NAME.findall(path.read_text(encoding="utf-8"))})


def model_requests() -> list[Message]:
    """Return the requests of a model service: model event, predictions, violations, labels and an evaluation."""
    sender = CollectingSender("")
    features = (Feature("age", shift=0.5, missing=0.1), Feature("plan", categories=("a", "b")))
    model = ModelService(sender, name=MODEL, features=features, start_ns=time.time_ns() - 600 * SECOND)
    model.start()
    traces = model.predict(300, recorded=2)
    model.violate("age", "range", 3)
    model.label(traces[0], "yes", "no")
    model.evaluate(
        accuracy=0.9, f1__yes=0.8, f1__macro=0.8, label_coverage=0.5, labels=50.0, label_delay__0=1.0,
        window=3600.0, time=time.time(), baseline_error=0.05, baseline_increase=0.05, baseline_threshold=0.03,
        baseline_state=1.0, concept_drift_level=1.0, concept_drift_error_rate=0.1,
    )  # fmt: skip
    model.export()
    sender.prediction()
    return sender.requests


def replace_fields(requests: Sequence[Message], rng: random.Random, changes: int) -> list[Message]:
    """Return copies of requests with some fields replaced."""
    copies = []
    for request in requests:
        copy = type(request)()
        copy.CopyFrom(request)
        copies.append(copy)
    messages = [message for request in copies for message in _messages(request)]
    spans = [message for message in messages if isinstance(message, Span)]
    for _ in range(changes):
        _replace_field(rng.choice(messages), rng, spans)
    return copies


def trace_ids(requests: Sequence[Message]) -> list[str]:
    """Return the trace IDs of the spans."""
    spans = (message for request in requests for message in _messages(request) if isinstance(message, Span))
    return sorted({span.trace_id.hex() for span in spans if len(span.trace_id) == 16 and any(span.trace_id)})


def random_value(rng: random.Random, depth: int = 0) -> AnyValue:
    """Return a value of any OTLP type."""
    value = AnyValue()
    match rng.randrange(8 if depth < 2 else 6):
        case 0:
            value.string_value = rng.choice(_STRINGS)
        case 1:
            value.int_value = rng.choice(_INTEGERS)
        case 2:
            value.double_value = rng.choice(_DOUBLES)
        case 3:
            value.bool_value = rng.random() < 0.5
        case 4:
            value.bytes_value = rng.randbytes(rng.randrange(4))
        case 5:
            pass
        case 6:
            value.array_value.SetInParent()
            value.array_value.values.extend(random_value(rng, depth + 1) for _ in range(rng.randrange(3)))
        case _:
            value.kvlist_value.SetInParent()
            pairs = (KeyValue(key=rng.choice(_STRINGS), value=random_value(rng, depth + 1)) for _ in range(2))
            value.kvlist_value.values.extend(pairs)
    return value


def _messages(message: Message) -> Iterator[Message]:
    """Yield a message and its nested messages, except inside attributes."""
    yield message
    if isinstance(message, KeyValue):
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for inner in value if descriptor.is_repeated else (value,):
                yield from _messages(inner)


def _replace_field(message: Message, rng: random.Random, spans: Sequence[Span]) -> None:
    """Replace one field of a message."""
    if isinstance(message, KeyValue):
        message.value.CopyFrom(random_value(rng))
        if rng.random() < 0.2:
            message.key = rng.choice(known_names())
        return
    if isinstance(message, Metric) and rng.random() < 0.5:
        _change_type(message, rng)
        return
    descriptor = rng.choice(message.DESCRIPTOR.fields)
    if descriptor.name == "attributes" and rng.random() < 0.8:
        message.attributes.add(key=rng.choice(known_names()), value=random_value(rng))  # type: ignore[attr-defined]  it is named so
    elif descriptor.name == "exemplars":
        _add_exemplar(message, rng, spans)
    elif descriptor.message_type is AnyValue.DESCRIPTOR and not descriptor.is_repeated:
        body = AnyValue(string_value=json.dumps(rng.choice(_EVENT_BODIES)))
        getattr(message, descriptor.name).CopyFrom(body if rng.random() < 0.6 else random_value(rng))
    elif descriptor.message_type is not None or rng.random() < 0.2:
        message.ClearField(descriptor.name)  # type: ignore[arg-type]  a field of it
    elif descriptor.is_repeated:
        values = getattr(message, descriptor.name)
        del values[:]
        values.extend(_scalar(descriptor, rng, spans) for _ in range(rng.randrange(4)))
    else:
        setattr(message, descriptor.name, _scalar(descriptor, rng, spans))


def _scalar(descriptor: FieldDescriptor, rng: random.Random, spans: Sequence[Span]) -> Any:
    """Return a value of a field's type, mostly one that the hub knows."""
    kind = FieldDescriptor
    if descriptor.name.endswith("unix_nano"):
        now = time.time_ns()
        times = (0, 1, 1000 * SECOND, now - 30 * SECOND, now, now + 400 * 86400 * SECOND, MAX_NS, MAX_NS + 1, 2**64 - 1)
        return rng.choice(times)
    match descriptor.cpp_type:
        case kind.CPPTYPE_STRING if descriptor.type == kind.TYPE_BYTES:
            size = 16 if "trace" in descriptor.name else 8
            known = [getattr(span, descriptor.name, span.span_id) for span in spans]
            return rng.choice([b"", bytes(size), rng.randbytes(size), rng.randbytes(3), *known])
        case kind.CPPTYPE_STRING:
            return rng.choice([*_STRINGS, *known_names()])
        case kind.CPPTYPE_DOUBLE:
            return rng.choice(_DOUBLES)
        case kind.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case kind.CPPTYPE_INT64:
            return rng.choice(_INTEGERS)
        case kind.CPPTYPE_UINT64:
            return rng.choice((0, 1, 5, 2**53, MAX_NS, 2**64 - 1))
        case kind.CPPTYPE_UINT32:
            return rng.choice((0, 1, 2**32 - 1))
        case kind.CPPTYPE_ENUM:
            return rng.choice((0, 1, 2, 3, 9, 17, 2**31 - 1, -1))
        case _:
            return rng.choice((0, 1, -1, 20, 2**31 - 1, -(2**31)))


def _change_type(metric: Metric, rng: random.Random) -> None:
    """Change the type of a metric; its points keep the fields that both types have."""
    old = metric.WhichOneof("data")
    points = [*getattr(metric, old).data_points] if old else []
    new = rng.choice(("gauge", "sum", "histogram", "exponential_histogram", "summary"))
    metric.ClearField(old) if old else None
    data = getattr(metric, new)
    data.SetInParent()
    if new in {"sum", "histogram", "exponential_histogram"}:
        data.aggregation_temporality = rng.randrange(4)
    if new == "sum":
        data.is_monotonic = rng.random() < 0.8
    for point in points:
        other = data.data_points.add(
            attributes=point.attributes,
            start_time_unix_nano=point.start_time_unix_nano,
            time_unix_nano=point.time_unix_nano,
        )
        if new != "summary" and hasattr(point, "exemplars"):
            other.exemplars.extend(point.exemplars)
        if new in {"gauge", "sum"} and rng.random() < 0.7:
            other.as_double = rng.choice(_DOUBLES)
        if new == "histogram" and rng.random() < 0.7:
            bounds = [rng.choice(_DOUBLES) for _ in range(rng.randrange(4))]
            other.explicit_bounds.extend(bounds)
            other.bucket_counts.extend(rng.choice((0, 1, 2**64 - 1)) for _ in range(len(bounds) + 1))


def _add_exemplar(point: Message, rng: random.Random, spans: Sequence[Span]) -> None:
    """Add an exemplar of one of the traces to a point."""
    span = rng.choice(spans)
    exemplar = Exemplar(trace_id=span.trace_id, span_id=span.span_id, time_unix_nano=span.end_time_unix_nano)
    if rng.random() < 0.7:
        exemplar.as_double = rng.choice(_DOUBLES)
    point.exemplars.append(exemplar)  # type: ignore[attr-defined]  points have them
