"""Find the names and values that a filter line can have, from the newest records.

Answers are cached for some seconds.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import Field

from modeltrace_hub.queries.filter_fields import (
    ATTRIBUTE_PREFIX,
    SEVERITIES,
    FieldSet,
    FilterField,
    bind_attribute,
    parse_flag,
    parse_required_duration,
    parse_severity,
)
from modeltrace_hub.queries.list_fields import (
    LABEL_FIELDS,
    LLM_FIELDS,
    LOG_FIELDS,
    PREDICTION_FIELDS,
    TRACE_FIELDS,
    VIOLATION_FIELDS,
)
from modeltrace_hub.queries.list_parameters import LimitedText
from modeltrace_hub.queries.parameters import Parameters
from modeltrace_hub.queries.reader import Queries, Reader, json_pointer

MAX_RECORDS: Final = 5_000
MAX_NAMES: Final = 500
MAX_VALUES: Final = 100
MAX_VALUE_LENGTH: Final = 200
CACHE_SECONDS: Final = 10.0
MAX_CACHED: Final = 200

# Fields whose values are too many to choose from.
_FREE_FIELDS: Final = frozenset({"text", "trace_id", "span_id", "id", "value"})


@dataclass(frozen=True, slots=True)
class _Source:
    """The records of a list: their fields, table and event."""

    fields: FieldSet
    table: str
    event: str | None = None


_SOURCES: Final = {
    "traces": _Source(TRACE_FIELDS, "spans"),
    "logs": _Source(LOG_FIELDS, "logs"),
    "llm_calls": _Source(LLM_FIELDS, "llm_calls"),
    "predictions": _Source(PREDICTION_FIELDS, "logs", "ml.prediction"),
    "labels": _Source(LABEL_FIELDS, "logs", "ml.feedback"),
    "violations": _Source(VIOLATION_FIELDS, "logs", "ml.data.violation"),
}


class CompletionRequest(Parameters):
    """Select names or values of the filter line of a list."""

    list: Literal["traces", "logs", "llm_calls", "predictions", "labels", "violations"] = Field(description="The list.")
    name: LimitedText = Field(None, description="A field or attribute. Without it, the names are returned.")


class Completions:
    """Answer requests for names and values. Thread-safe."""

    def __init__(self, queries: Queries, clock: Callable[[], float] = time.monotonic) -> None:
        self._queries = queries
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, str | None], tuple[float, dict[str, Any]]] = {}

    def complete(self, request: CompletionRequest) -> dict[str, Any]:
        """Return `{"names": [{"name", "description"}]}`, or `{"values": […]}` if the request has a name."""
        key, now = (request.list, request.name), self._clock()
        with self._lock:
            expires, answer = self._answers.get(key, (now, {}))
        if expires > now:
            return answer
        source = _SOURCES[request.list]
        with self._queries.open_reader() as reader:
            answer = (
                {"names": _names(reader, source)}
                if request.name is None
                else {"values": _values(reader, source, request.name)}
            )
        with self._lock:
            if len(self._answers) >= MAX_CACHED:
                self._answers.clear()
            self._answers[key] = now + CACHE_SECONDS, answer
        return answer


def _names(reader: Reader, source: _Source) -> list[dict[str, str]]:
    """Return the fields, then the values inside attributes, then the attributes."""
    names = {name: field.description.replace("`", "") for name, field in source.fields.fields.items()}
    records = _records(source)
    for start, prefix in source.fields.prefixes.items():
        if prefix.nested:
            rows = reader.fetch_all("list_nested_names", **records, key=json_pointer(prefix.key), limit=MAX_NAMES)
            names |= {f"{start}{row['name']}": prefix.description for row in rows}
    for row in reader.fetch_all("list_attribute_names", **records, limit=MAX_NAMES):
        key = row["name"]
        prefixes = [item for item in source.fields.prefixes.items() if key.startswith(item[1].key)]
        for start, prefix in prefixes:
            if not prefix.nested:
                names[f"{start}{key.removeprefix(prefix.key)}"] = prefix.description
        if not prefixes:
            names[f"{ATTRIBUTE_PREFIX}{key}" if key in names else key] = "attribute"
    return [{"name": name, "description": description} for name, description in names.items()]


def _values(reader: Reader, source: _Source, name: str) -> list[str]:
    """Return the most frequent values of a field or attribute."""
    limits: dict[str, Any] = {"max_length": MAX_VALUE_LENGTH, "limit": MAX_VALUES}
    field, _ = source.fields.find(name)
    if field is None:
        condition = bind_attribute(source.fields, name, "=", "")
        pointer = json_pointer(condition.attribute)
        if condition.nested is not None:
            pointer += json_pointer(condition.nested)
        rows = reader.fetch_all("list_attribute_values", **_records(source), **limits, key=pointer)
    elif field.parse is parse_flag:
        return ["true", "false"]
    elif field.parse is parse_severity:
        return [*SEVERITIES]
    elif name in _FREE_FIELDS or field.parse is parse_required_duration:
        return []
    elif field.of_label:
        rows = _field_values(reader, _SOURCES["labels"], LABEL_FIELDS.fields[name], limits)
    else:
        rows = _field_values(reader, source, field, limits)
    return [row["value"] for row in rows]


def _field_values(reader: Reader, source: _Source, field: FilterField, limits: dict[str, Any]) -> list[dict[str, Any]]:
    expression = {"expression": f"unnest({field.sql})" if field.is_list else field.sql}
    if field.of_trace:
        return reader.fetch_all("list_trace_values", (), expression, records=MAX_RECORDS, **limits)
    return reader.fetch_all("list_field_values", (), expression, **_records(source), **limits)


def _records(source: _Source) -> dict[str, Any]:
    return {"table": source.table, "event": source.event, "records": MAX_RECORDS}
