"""Collect the statistics that the hub reports about itself: received and stored telemetry, storage, endpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modeltrace_hub.decode.batch import SignalName
from modeltrace_hub.ingest_stats import SignalCounts
from modeltrace_hub.queries.reader import Queries, Record
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import FILE_NAME, Store, StoreSize
from modeltrace_hub.writer import Writer


@dataclass(frozen=True, slots=True)
class StorageStats:
    """The size of the store, its limits, its rows by table, and the rows deleted by table since the start."""

    path: str | None
    size: StoreSize
    max_size: int
    max_age_seconds: float
    rows: Mapping[str, int]
    oldest_ns: int | None
    deleted_before_ns: int | None
    deleted_rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The OTLP endpoints of the hub."""

    http: str
    grpc: str
    needs_key: bool


@dataclass(frozen=True, slots=True)
class StatsSnapshot:
    """All statistics at one moment. `signals` counts since the start of the hub; `storage` is the current state."""

    generation: int
    signals: Mapping[SignalName, SignalCounts]
    storage: StorageStats
    endpoints: Endpoints
    services: Sequence[Record]


class HubStats:
    """Collect statistics from the store, the writer and the settings."""

    def __init__(self, store: Store, writer: Writer, settings: HubSettings, queries: Queries) -> None:
        self._store = store
        self._queries = queries
        self._writer = writer
        self._settings = settings

    @property
    def generation(self) -> int:
        """A number that increases with every commit."""
        return self._writer.generation

    def endpoints(self, request_host: str | None) -> Endpoints:
        """Return the OTLP endpoints. If the hub is not on loopback, they have the host name of the page request."""
        host = self._settings.host if self._settings.is_loopback else request_host or self._settings.host
        host = f"[{host}]" if ":" in host else host
        return Endpoints(
            http=f"http://{host}:{self._settings.http_port}",
            grpc=f"http://{host}:{self._settings.grpc_port}",
            needs_key=self._settings.key is not None,
        )

    def snapshot(self, request_host: str | None) -> StatsSnapshot:
        """Return all current statistics. Do not call this while a reader is open: it opens one itself."""
        size = self._store.size()
        with self._queries.open_reader() as reader:
            rows = reader.fetch_one("count_rows")
            services = reader.list_services()
        retention = self._writer.retention.state
        return StatsSnapshot(
            generation=self._writer.generation,
            signals=self._writer.stats.snapshot(),
            storage=StorageStats(
                path=None if self._settings.memory else str(self._settings.data / FILE_NAME),
                size=size,
                max_size=self._settings.max_size,
                max_age_seconds=self._settings.max_age.total_seconds(),
                oldest_ns=rows.pop("oldest_ns"),
                rows=rows,
                deleted_before_ns=retention.deleted_before_ns,
                deleted_rows=retention.deleted_rows,
            ),
            endpoints=self.endpoints(request_host),
            services=services,
        )
