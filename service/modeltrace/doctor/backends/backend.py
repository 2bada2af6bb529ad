"""What a store of telemetry can be asked about one trace, whichever store it is."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

Signal = Literal["span", "log record", "exemplar"]


@dataclass(frozen=True, slots=True)
class LogRecordRef:
    """A log record that was found: who wrote it, and the event that it is (`""`: none)."""

    logger: str
    event_name: str


@dataclass(frozen=True, slots=True)
class Link:
    """Where a person looks at a trace; `query` is what to paste where the address alone shows no page."""

    name: str
    url: str
    query: str = ""


@dataclass(frozen=True, slots=True)
class UnresolvedExemplars:
    """How many traces the latest exemplars name, and how many of those traces are not there."""

    traces_checked: int
    traces_missing: int


class Backend(Protocol):
    """Where telemetry ends up. Each question is about one trace ID (32 hex digits); nothing found is an empty list.

    All of them raise `UnreachableError` when the backend cannot be asked. `entry` names what takes OTLP for it.
    """

    receiver: str

    async def check(self) -> None:
        """See that it can be asked."""

    async def span_names(self, trace_id: str) -> list[str]:
        """The names of its spans."""

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """Its log records."""

    async def exemplar_metrics(self, trace_id: str) -> list[str]:
        """The names of the metrics with an exemplar of it."""

    async def links(self, trace_id: str) -> list[Link]:
        """Where a person looks at it, the most telling place first."""

    async def explain_missing(self, missing: Collection[Signal]) -> list[str]:
        """What it knows of why these did not arrive while others did, each with what to do."""

    async def unresolved_exemplars(self) -> UnresolvedExemplars | None:
        """Which of the latest exemplars lead to a trace; `None`: it does not keep count."""
