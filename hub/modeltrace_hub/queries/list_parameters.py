"""Query parameters of the API and the pages, validated and bounded.

Times are RFC 3339 (`2026-01-31T12:00:00Z`; without a zone, UTC), unix seconds, or an age (`15m` is 15 minutes ago).
Durations have a unit (`300ms`). `filter` is a filter line. `attr.KEY=VALUE` filters by an attribute of the record or of
its resource and may be repeated. An empty parameter counts as absent, because HTML forms send empty fields.
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from modeltrace_hub.durations import MAX_NS, parse_duration_ns
from modeltrace_hub.queries.filter_fields import (
    ATTRIBUTE_PREFIX,
    SEVERITIES,
    BoundCondition,
    FieldSet,
    bind_attribute,
    bind_field,
    bind_line,
    parse_required_duration,
    parse_severity,
)
from modeltrace_hub.queries.filter_line import MAX_LINE_LENGTH
from modeltrace_hub.queries.list_fields import LOG_FIELDS, METRIC_FIELDS, TRACE_FIELDS
from modeltrace_hub.queries.parameters import Parameters

# Largest value of each of three parameters: the row of a request, the span offset of a trace, and the page number.
MAX_ROW_INDEX: Final = 10**6
MAX_ATTRIBUTE_FILTERS: Final = 8

_SECONDS: Final = re.compile(r"\d{1,10}(?:\.\d{1,9})?")


def parse_time_ns(value: object) -> int:
    """Return a time in unix nanoseconds. The value is a time, or an age before now.

    Raises:
        ValueError: the value is neither.
    """
    text = str(value).strip()
    if (age := parse_duration_ns(text)) is not None:
        return max(0, time.time_ns() - age)
    if _SECONDS.fullmatch(text):
        whole, _, fraction = text.partition(".")
        return _check_time_range(int(whole) * 10**9 + int(f"{fraction:0<9}"))
    try:
        timestamp = datetime.fromisoformat(text)
    except ValueError:
        timestamp = None
    if timestamp is None:
        raise ValueError("a time is RFC 3339 such as 2026-01-31T12:00:00Z, unix seconds, or an age such as 15m")
    if timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=UTC)
    return _check_time_range(int(timestamp.timestamp()) * 10**9 + timestamp.microsecond * 1000)


def _check_time_range(ns: int) -> int:
    if not 0 <= ns <= MAX_NS:
        raise ValueError("the time is out of range")
    return ns


Time = Annotated[int | None, BeforeValidator(parse_time_ns)]
Duration = Annotated[int | None, BeforeValidator(parse_required_duration)]
LimitedText = Annotated[str | None, Field(max_length=500)]
TraceId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class TimeRangeFilter(Parameters):
    """Filter by time."""

    since: Time = Field(None, description="Not before this time.", json_schema_extra={"type": "string"})
    until: Time = Field(None, description="Not after this time.", json_schema_extra={"type": "string"})

    @property
    def time_range(self) -> dict[str, Any]:
        """The SQL parameters of the time range."""
        return {"since_ns": self.since or 0, "until_ns": MAX_NS if self.until is None else self.until}


class LineFilter(TimeRangeFilter):
    """Filter by time and by a filter line.

    `parameter_conditions` has the field and operator of each parameter that is a condition on a field. A parameter
    whose field the list does not have is ignored.
    """

    parameter_conditions: ClassVar[Mapping[str, tuple[str, str]]]

    filter: Annotated[str | None, Field(max_length=MAX_LINE_LENGTH)] = Field(
        None, description="A filter line, such as `service = shop http.route ~ predict error exists`."
    )

    @property
    def field_set(self) -> FieldSet:
        """The fields of the filter line."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _check_line(self) -> Self:
        bind_line(self.filter or "", self.field_set)
        return self

    @property
    def conditions(self) -> list[BoundCondition]:
        """The conditions of the parameters and of the filter line."""
        return self.bind(self.field_set)

    def bind(self, field_set: FieldSet) -> list[BoundCondition]:
        """Return the conditions of the parameters and of the filter line on some fields."""
        return [
            *(
                bind_field(field_set, field, operator, value)
                for name, (field, operator) in self.parameter_conditions.items()
                if (value := getattr(self, name)) is not None and field in field_set.fields
            ),
            *bind_line(self.filter or "", field_set),
        ]


class RecordFilter(LineFilter):
    """The filters that traces, logs and metric points share."""

    model_config = ConfigDict(extra="allow")
    pattern_names: ClassVar[tuple[str, ...]] = (f"{ATTRIBUTE_PREFIX}KEY",)

    service: LimitedText = Field(None, description="`service.name` of the record's resource.")

    @classmethod
    def _allows(cls, name: str) -> bool:
        return name.startswith(ATTRIBUTE_PREFIX) and name != ATTRIBUTE_PREFIX

    @model_validator(mode="after")
    def _check_extra_parameters(self) -> Self:
        if len(self.attributes) > MAX_ATTRIBUTE_FILTERS:
            raise ValueError(f"at most {MAX_ATTRIBUTE_FILTERS} attribute filters are allowed")
        return self

    @property
    def attributes(self) -> list[tuple[str, str]]:
        """The attribute filters as key and value."""
        return [
            (name.removeprefix(ATTRIBUTE_PREFIX), value)
            for name, values in (self.model_extra or {}).items()
            for value in ([values] if isinstance(values, str) else values)
        ]

    def bind(self, field_set: FieldSet) -> list[BoundCondition]:
        """Return the conditions of the parameters, of the filter line and of the attribute filters."""
        return [
            *super().bind(field_set),
            *(bind_attribute(field_set, f"{ATTRIBUTE_PREFIX}{key}", "=", value) for key, value in self.attributes),
        ]


class TraceFilter(RecordFilter):
    """Filter traces.

    One span must match `service`, `name`, `kind`, the attributes and `error=true`. Other filters apply to the whole
    trace.
    """

    parameter_conditions: ClassVar[Mapping[str, tuple[str, str]]] = {
        "service": ("service", "="),
        "name": ("name", "~"),
        "min_duration": ("duration", ">="),
        "max_duration": ("duration", "<="),
        "error": ("error", "="),
    }

    limit: int = Field(100, ge=1, le=1000, description="The maximum number of traces.")
    name: LimitedText = Field(None, description="Part of a span's name; case is ignored.")
    min_duration: Duration = Field(None, description="At least this long.", json_schema_extra={"type": "string"})
    max_duration: Duration = Field(None, description="At most this long.", json_schema_extra={"type": "string"})
    error: bool | None = Field(None, description="With an error in some span (true), or in none (false).")
    cursor: Annotated[str | None, Field(pattern="^[0-9]{1,19}-[0-9a-f]{32}$")] = Field(
        None, description="`next` of the previous page."
    )

    @property
    def field_set(self) -> FieldSet:
        """The fields of the filter line."""
        return TRACE_FIELDS

    @property
    def cursor_position(self) -> tuple[int, str]:
        """Start time and ID of the last trace of the previous page; without a cursor, a time after all traces."""
        start, _, trace_id = (self.cursor or f"{MAX_NS}-").partition("-")
        return min(int(start), MAX_NS), trace_id


class RecordPage(RecordFilter):
    """A page of the records that match, newest first."""

    limit: int = Field(100, ge=1, le=1000, description="The maximum number of records.")
    cursor: Annotated[str | None, Field(pattern="^[0-9]{1,19}-[0-9]{1,19}-[0-9]{1,7}$")] = Field(
        None, description="`next` of the previous page."
    )

    @property
    def cursor_position(self) -> tuple[int, int, int]:
        """Time and arrival of the last record of the previous page, and how many of its records have both times."""
        time_ns, received_ns, count = map(int, (self.cursor or f"{MAX_NS}-{MAX_NS}-0").split("-"))
        return min(time_ns, MAX_NS), min(received_ns, MAX_NS), count


class LogFilter(RecordPage):
    """Filter log records."""

    parameter_conditions: ClassVar[Mapping[str, tuple[str, str]]] = {
        "service": ("service", "="),
        "trace_id": ("trace_id", "="),
        "span_id": ("span_id", "="),
        "severity": ("severity", ">="),
        "severity_number": ("severity_number", "="),
        "event": ("event", "="),
        "scope": ("scope", "="),
        "q": ("text", "~"),
    }

    trace_id: TraceId | None = Field(None, description="Written in this trace.")
    span_id: Annotated[str | None, Field(pattern="^[0-9a-f]{16}$")] = Field(None, description="Written in this span.")
    severity: Annotated[int | None, BeforeValidator(parse_severity)] = Field(
        None, description="This severity or a higher one.", json_schema_extra={"enum": [*SEVERITIES]}
    )
    severity_number: int | None = Field(
        None, ge=-(2**31), lt=2**31, description="Exactly this severity, by its number."
    )
    event: LimitedText = Field(None, description="The event name.")
    scope: LimitedText = Field(None, description="The name of the scope: the logger.")
    q: LimitedText = Field(None, description="Part of the body; case is ignored.")
    pattern: Annotated[str | None, Field(max_length=4000)] = Field(
        None, description="The text with numbers and IDs replaced, as in `GET /api/logs/groups`."
    )
    around: Annotated[int | None, Field(ge=0, le=MAX_NS)] = Field(
        None, description="List the 50 records before and after this time, in unix nanoseconds; `limit` is ignored."
    )

    @property
    def field_set(self) -> FieldSet:
        """The fields of the filter line."""
        return LOG_FIELDS


class MetricFilter(RecordFilter):
    """Filter the points of a metric. Without a name, the API lists the metrics."""

    parameter_conditions: ClassVar[Mapping[str, tuple[str, str]]] = {"service": ("service", "="), "name": ("name", "=")}

    limit: int = Field(1000, ge=1, le=10_000, description="The maximum number of points, the newest first.")
    name: LimitedText = Field(None, description="The metric.")

    @property
    def field_set(self) -> FieldSet:
        """The fields of the filter line."""
        return METRIC_FIELDS


class TraceLimits(Parameters):
    """Limit the size of one trace in the API."""

    limit: int = Field(1000, ge=1, le=20_000, description="The maximum number of each: spans, logs, predictions, …")
