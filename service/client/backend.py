"""What a store of telemetry can be asked about one trace, whichever store it is."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogSeen:
    """A log record that was found: who wrote it, and the event that it is (`""`: none)."""

    logger: str
    event_name: str


class Backend(Protocol):
    """Where telemetry ends up. Each question is about one trace ID (32 hex digits); nothing found is an empty list.

    All of them raise `UnreachableError` when the backend cannot be asked.
    """

    async def check(self) -> None:
        """See that it can be asked."""

    async def spans(self, trace_id: str) -> list[str]:
        """The names of its spans."""

    async def logs(self, trace_id: str) -> list[LogSeen]:
        """Its log records."""

    async def exemplars(self, trace_id: str) -> list[str]:
        """The names of the metrics with an exemplar of it."""

    def link(self, trace_id: str) -> str:
        """Where a person looks at it."""
