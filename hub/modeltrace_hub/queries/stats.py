"""What the hub knows about itself: what has arrived, what has become of it, how much is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modeltrace_hub.decode.batch import SignalName
from modeltrace_hub.ingest_stats import SignalCounts
from modeltrace_hub.queries.queries import Queries, Record
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import FILE_NAME, Size, Store
from modeltrace_hub.writer import Writer


@dataclass(frozen=True, slots=True)
class Storage:
    """What is kept: rows by table, bytes, the limits, and since when."""

    path: str | None
    size: Size
    max_size: int
    max_age_seconds: float
    rows: Mapping[str, int]
    oldest_ns: int | None
    pruned_before_ns: int | None
    deleted: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where senders send to."""

    http: str
    grpc: str
    needs_key: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it at one moment. `signals` counts since the start of the hub, `storage` what there is."""

    generation: int
    signals: Mapping[SignalName, SignalCounts]
    storage: Storage
    endpoints: Endpoints
    services: Sequence[Record]


class Stats:
    """Puts the figures together."""

    def __init__(self, store: Store, writer: Writer, settings: HubSettings, queries: Queries) -> None:
        self._store = store
        self._queries = queries
        self._writer = writer
        self._settings = settings

    @property
    def generation(self) -> int:
        """Grows with every commit."""
        return self._writer.generation

    def endpoints(self, reached_as: str | None) -> Endpoints:
        """Where senders send to. Beyond loopback that is the name by which the page was reached."""
        host = self._settings.host if self._settings.loopback else reached_as or self._settings.host
        host = f"[{host}]" if ":" in host else host
        return Endpoints(
            http=f"http://{host}:{self._settings.http_port}",
            grpc=f"http://{host}:{self._settings.grpc_port}",
            needs_key=self._settings.key is not None,
        )

    def read(self, reached_as: str | None) -> Snapshot:
        """All figures as of now. Not to be called while asking the store something else."""
        size = self._store.size()
        with self._queries.ask() as reader:
            rows = reader.one("kept")
            services = reader.services()
        kept = self._writer.retention.kept
        return Snapshot(
            generation=self._writer.generation,
            signals=self._writer.counts.snapshot(),
            storage=Storage(
                path=None if self._settings.memory else str(self._settings.data / FILE_NAME),
                size=size,
                max_size=self._settings.max_size,
                max_age_seconds=self._settings.max_age.total_seconds(),
                oldest_ns=rows.pop("oldest_ns"),
                rows=rows,
                pruned_before_ns=kept.pruned_before_ns,
                deleted=kept.deleted,
            ),
            endpoints=self.endpoints(reached_as),
            services=services,
        )
