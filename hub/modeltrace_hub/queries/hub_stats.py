"""Collect the statistics that the hub reports about itself: received and stored telemetry, storage, endpoints."""

from collections.abc import Callable

from modeltrace_hub.queries.reader import Queries, Record
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import FILE_NAME, Store
from modeltrace_hub.writer import Writer

# Returns all statistics. The argument is the host name of the page request.
StatsSource = Callable[[str | None], Record]


def collect_stats(
    store: Store, writer: Writer, settings: HubSettings, queries: Queries, request_host: str | None
) -> Record:
    """Return all current statistics. Do not call this while a reader is open: it opens one itself.

    Args:
        store: the store.
        writer: counts received telemetry since the start of the hub.
        settings: the settings.
        queries: the queries of the store.
        request_host: the host name of the page request. The endpoints have it if the hub is not on loopback.
    """
    size = store.size()
    with queries.open_reader() as reader:
        rows = reader.fetch_one("count_rows")
        services = reader.list_services()
    retention = writer.retention.state
    host = settings.host if settings.is_loopback else request_host or settings.host
    host = f"[{host}]" if ":" in host else host
    return {
        "generation": writer.generation,
        "signals": writer.stats.snapshot(),
        "storage": {
            "path": None if settings.memory else str(settings.data / FILE_NAME),
            "size": size,
            "max_size": settings.max_size,
            "max_age_seconds": settings.max_age.total_seconds(),
            "oldest_ns": rows.pop("oldest_ns"),
            "rows": rows,
            "deleted_before_ns": retention.deleted_before_ns,
            "deleted_rows": retention.deleted_rows,
        },
        "endpoints": {
            "http": f"http://{host}:{settings.http_port}",
            "grpc": f"http://{host}:{settings.grpc_port}",
            "needs_key": settings.key is not None,
        },
        "services": services,
    }
