"""From the runs of bench/peers to its table: medians over rounds, shares within a round, the ratio."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.load import LoadResult
from bench.peers.launch import Variant
from bench.peers.servers import Server

# Above this the load or the receiver may have waited for its core, and not for the server.
MAX_CORE_USAGE = 0.95
# Above this somebody else had too much of the server's core.
MAX_STOLEN_SHARE = 0.1

OWN_SERVERS = frozenset({"bare", "modeltrace"})


@dataclass(frozen=True)
class Run:
    """One run: what the load measured, what it cost, what telemetry arrived."""

    load: LoadResult
    cpu_seconds: float  # of the server and all its processes, while the load ran
    cpu_on_other_core: float  # what of it was used on the other core
    other_core_usage: float  # how busy the core was that load and receiver share
    stolen_share: float  # how much of the server's core others had
    spans: float  # that arrived, a request
    log_records: float
    helpers: Mapping[str, str] = field(default_factory=dict)  # helper process → where it ran

    @property
    def void(self) -> bool:
        """Whether it says nothing about the server."""
        return self.other_core_usage > MAX_CORE_USAGE or self.stolen_share > MAX_STOLEN_SHARE


@dataclass(frozen=True)
class Entry:
    """One server in one variant, and its runs, one a round; `problem` says why there are fewer."""

    server: Server
    variant: Variant
    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.server.name}, {self.variant}"

    def valid_runs(self) -> list[Run]:
        """The runs that count."""
        return [run for run in self.runs if not run.void]


def throughput_ratio(entry: Entry, other: Entry) -> float | None:
    """Requests/s over those of the other in the same round, the median of the rounds in which both count."""
    pairs = zip(entry.runs, other.runs, strict=False)  # who fails in a later round has fewer
    shares = [a.load.rate / b.load.rate for a, b in pairs if not a.void and not b.void]
    return round(median(shares), 3) if shares else None


def best_peer(entries: Sequence[Entry], bare: Entry, *, tuned: bool) -> Entry | None:
    """The fastest of the others with its telemetry off, with batching or without; `tuned` lets those in that are."""
    peers = [
        x for x in entries if x.server.name not in OWN_SERVERS and not x.variant.telemetry and throughput_ratio(x, bare)
    ]
    fair = [x for x in peers if tuned or not x.server.tuned]
    return max(fair, key=lambda entry: throughput_ratio(entry, bare) or 0.0, default=None)


def summarise_entry(entry: Entry, bare: Entry) -> dict[str, Any]:
    """One line of the table; where every run is void, it shows them all the same, and says so."""
    runs = entry.valid_runs() or entry.runs
    return {
        "server": entry.server.name,
        "telemetry": entry.variant.telemetry,
        "batching": entry.server.batching if entry.variant.batching else None,
        "note": entry.variant.note or None,
        "requests_per_second": round(median(x.load.rate for x in runs), 1),
        "of_bare": throughput_ratio(entry, bare),
        "p50_ms": round(1000 * median(x.load.quantile(0.5) for x in runs), 2),
        "p99_ms": round(1000 * median(x.load.quantile(0.99) for x in runs), 2),
        "cpu_seconds_per_1000": round(median(1000 * x.cpu_seconds / x.load.requests for x in runs), 3),
        "elsewhere_per_1000": round(median(1000 * x.cpu_on_other_core / x.load.requests for x in runs), 3),
        "spans_per_request": round(median(x.spans for x in runs), 2),
        "log_records_per_request": round(median(x.log_records for x in runs), 2),
        "failed": sum(x.load.failed for x in entry.runs),
        "other_core_busy": round(max(x.other_core_usage for x in runs), 2),
        "server_core_taken": round(max(x.stolen_share for x in runs), 2),
        "void": not entry.valid_runs(),
        "helpers": dict(runs[0].helpers),
        "telemetry_holds": entry.server.telemetry if entry.variant.telemetry else "nothing",
    }


def summarise(entries: Sequence[Entry], *, pinned: bool, rounds: int) -> dict[str, Any]:
    """The main ratio, and a line for each entry that could be measured; the others say why not.

    A void run counts nowhere. `void` says that some entry has no other.
    """
    bare = next(entry for entry in entries if entry.server.name == "bare")
    peer, tuned = best_peer(entries, bare, tuned=False), best_peer(entries, bare, tuned=True)
    main = next((x for x in entries if x.server.name == "modeltrace" and str(x.variant) == "on, batching"), None)
    return {
        "ratio": throughput_ratio(main, peer) if main and peer else None,
        "best_peer": peer.name if peer else None,
        "ratio_to_tuned": throughput_ratio(main, tuned) if main and tuned else None,
        "best_peer_tuned": tuned.name if tuned else None,
        "void": any(entry.runs and not entry.valid_runs() for entry in entries),
        "pinned": pinned,
        "rounds": rounds,
        "variants": {entry.name: summarise_entry(entry, bare) for entry in entries if entry.runs},
        "not_measured": {entry.name: entry.problems[0] for entry in entries if entry.problems},
    }
