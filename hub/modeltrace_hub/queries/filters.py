"""What may be asked of the API and the pages: query parameters, checked and bounded, the same for both.

Times are RFC 3339 (`2026-01-31T12:00:00Z`), unix seconds, or an age (`15m` is fifteen minutes ago). Durations have a
unit (`300ms`). `attr.KEY=VALUE` asks for an attribute of the record or its resource and may be repeated. An empty
parameter is one that was not given, which is what forms send.
"""

import re
import time
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_NS: Final = 2**63 - 1
# Rows of a request, spans of a trace, pages: more of them cannot be asked for.
MOST_ROW: Final = 10**6
ATTRIBUTE_PREFIX: Final = "attr."
MOST_ATTRIBUTES: Final = 8

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ns|us|µs|ms|s|m|h|d)")
_SECONDS: Final = re.compile(r"\d{1,10}(?:\.\d{1,9})?")

# A log record's severity number starts at these, four numbers a name (OpenTelemetry's log data model).
SEVERITIES: Final = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}


def duration_ns(text: str) -> int:
    """Nanoseconds of `300ms`, `1.5s`, `2h`.

    Raises:
        ValueError: it is not written so.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("a duration is a number and a unit (ns us ms s m h d), such as 300ms or 1.5s")
    return _bounded(round(float(match[1]) * _UNITS[match[2]]))


def time_ns(text: str) -> int:
    """Unix nanoseconds of a time, or of an age before now.

    Raises:
        ValueError: it is neither.
    """
    text = text.strip()
    if _DURATION.fullmatch(text):
        return max(0, time.time_ns() - duration_ns(text))
    if _SECONDS.fullmatch(text):
        whole, _, fraction = text.partition(".")
        return _bounded(int(whole) * 10**9 + int(f"{fraction:0<9}"))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("a time is RFC 3339 such as 2026-01-31T12:00:00Z, unix seconds, or an age such as 15m")
    return _bounded(int(moment.timestamp()) * 10**9 + moment.microsecond * 1000)


def _bounded(ns: int) -> int:
    if not 0 <= ns <= MAX_NS:
        raise ValueError("the time is out of range")
    return ns


def _severity(text: str) -> int:
    number = SEVERITIES.get(text.strip().upper())
    if number is None:
        raise ValueError(f"a severity is one of {', '.join(SEVERITIES)}")
    return number


Time = Annotated[int | None, BeforeValidator(lambda value: time_ns(str(value)))]
Duration = Annotated[int | None, BeforeValidator(lambda value: duration_ns(str(value)))]
Text = Annotated[str | None, Field(max_length=500)]
TraceId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class Filter(BaseModel):
    """What all questions have in common."""

    model_config = ConfigDict(frozen=True, extra="allow")

    service: Text = Field(None, description="`service.name` of the record's resource.")
    since: Time = Field(None, description="Not before this time.", json_schema_extra={"type": "string"})
    until: Time = Field(None, description="Not after this time.", json_schema_extra={"type": "string"})

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:  # noqa: ANN401  pydantic hands over what came
        return {key: value for key, value in values.items() if value != ""} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _only_attributes_besides(self) -> Self:
        for name in self.model_extra or {}:
            if not name.startswith(ATTRIBUTE_PREFIX) or name == ATTRIBUTE_PREFIX:
                raise ValueError(f"there is no parameter {name[:80]!r}; an attribute is asked for as attr.KEY=VALUE")
        if len(self.attributes) > MOST_ATTRIBUTES:
            raise ValueError(f"at most {MOST_ATTRIBUTES} attributes may be asked for at once")
        return self

    @property
    def attributes(self) -> list[tuple[str, str]]:
        """Attributes asked for, as key and value."""
        return [
            (name.removeprefix(ATTRIBUTE_PREFIX), value)
            for name, values in (self.model_extra or {}).items()
            for value in ([values] if isinstance(values, str) else values)
        ]


class TraceFilter(Filter):
    """Which traces. `service`, `name` and attributes are those of one span, the rest is the whole trace's."""

    limit: int = Field(100, ge=1, le=1000, description="The most traces answered.")
    name: Text = Field(None, description="Part of a span's name, in any case.")
    min_duration: Duration = Field(None, description="At least this long.", json_schema_extra={"type": "string"})
    max_duration: Duration = Field(None, description="At most this long.", json_schema_extra={"type": "string"})
    error: bool | None = Field(None, description="With an error in some span (true), or in none (false).")
    cursor: Annotated[str | None, Field(pattern="^[0-9]{1,19}-[0-9a-f]{32}$")] = Field(
        None, description="`next` of the answer before."
    )

    @property
    def place(self) -> tuple[int, str]:
        """Start and ID of the trace after which the list goes on; past all of them when there was no answer before."""
        start, _, trace_id = (self.cursor or f"{MAX_NS}-").partition("-")
        return min(int(start), MAX_NS), trace_id


class LogFilter(Filter):
    """Which log records."""

    limit: int = Field(100, ge=1, le=1000, description="The most records answered.")
    trace_id: TraceId | None = Field(None, description="Written in this trace.")
    severity: Annotated[int | None, BeforeValidator(_severity)] = Field(
        None, description="This severity or a higher one.", json_schema_extra={"enum": [*SEVERITIES]}
    )
    q: Text = Field(None, description="Part of the body, in any case.")


class MetricFilter(Filter):
    """Which metric's points; without a name, the list of metrics is asked for."""

    limit: int = Field(1000, ge=1, le=10_000, description="The most points answered, the newest first.")
    name: Text = Field(None, description="The metric.")


class TraceDetail(BaseModel):
    """How much of one trace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(1000, ge=1, le=20_000, description="The most answered of each: spans, logs, predictions, …")


class PageView(BaseModel):
    """What of one trace the page has open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    span: Annotated[str | None, Field(pattern="^[0-9a-f]{16}$")] = None
    logs: Literal["all", "span"] = "all"
    offset: int = Field(0, ge=0, le=MOST_ROW)
    row: int = Field(0, ge=0, le=MOST_ROW)
    version: Text = None
    page: int = Field(0, ge=0, le=MOST_ROW)
