"""Interface of a telemetry backend."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

Signal = Literal["span", "log record", "exemplar"]


@dataclass(frozen=True, slots=True)
class LogRecordRef:
    """A stored log record: the logger that wrote it, and the name of its event (`""`: not an event)."""

    logger: str
    event_name: str


@dataclass(frozen=True, slots=True)
class Link:
    """A page that shows a trace. If the URL alone is not sufficient, `query` is the text to paste into the page."""

    name: str
    url: str
    query: str = ""


@dataclass(frozen=True, slots=True)
class UnresolvedExemplars:
    """The number of traces of the latest exemplars that were looked up, and the number of those that do not exist."""

    traces_checked: int
    traces_missing: int


class Backend(Protocol):
    """A store of traces, log records and metrics.

    Trace IDs have 32 hexadecimal digits. The methods return an empty list for an unknown trace, and raise
    `UnreachableError` if the backend cannot be queried. `receiver` is the name of the backend's OTLP receiver.
    """

    receiver: str

    async def check(self) -> None:
        """Check that the backend can be queried."""

    async def span_names(self, trace_id: str) -> list[str]:
        """Return the names of the spans of a trace."""

    async def log_records(self, trace_id: str) -> list[LogRecordRef]:
        """Return the log records of a trace."""

    async def exemplar_metrics(self, trace_id: str) -> list[str]:
        """Return the names of the metrics that have an exemplar of a trace."""

    async def links(self, trace_id: str) -> list[Link]:
        """Return the pages that show a trace, the most useful one first."""

    async def explain_missing(self, missing: Collection[Signal]) -> list[str]:
        """Return known reasons why only these signals are missing, each with its solution."""

    async def unresolved_exemplars(self) -> UnresolvedExemplars | None:
        """Count the latest exemplars whose trace does not exist; `None` if the backend does not support this."""

    async def health_findings(self, trace_id: str) -> list[str]:
        """Return known faults of the recent telemetry of the services of a trace, each with its solution."""
