"""Summarise the runs of bench/peers: medians over the rounds, and throughput ratios within a round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.load import LoadResult
from bench.peers.launch import Variant
from bench.peers.servers import Server

# Usage of the other core above which the load or the receiver may have waited for this core, and not for the server.
MAX_CORE_USAGE = 0.95
# Share of the core of the server that other processes may use.
MAX_STOLEN_SHARE = 0.1

OWN_SERVERS = frozenset({"bare", "modeltrace"})


@dataclass(frozen=True)
class Run:
    """One run: the measurements of the load, the CPU time and the received telemetry."""

    load: LoadResult
    cpu_seconds: float  # of the server and all its processes, while the load ran
    cpu_on_other_core: float  # the part of it that was used on the other core
    other_core_usage: float  # usage of the core that load and receiver share, from 0 to 1
    stolen_share: float  # share of the core of the server that other processes used
    spans: float  # received spans per request
    log_records: float
    helpers: Mapping[str, str] = field(default_factory=dict)  # name of a helper process → its core

    @property
    def void(self) -> bool:
        """Whether other processes disturbed the run, so that it does not describe the server."""
        return self.other_core_usage > MAX_CORE_USAGE or self.stolen_share > MAX_STOLEN_SHARE


@dataclass(frozen=True)
class Entry:
    """One server in one variant and its runs, one per round. `problems` explains missing runs."""

    server: Server
    variant: Variant
    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name in the table."""
        return f"{self.server.name}, {self.variant}"

    def valid_runs(self) -> list[Run]:
        """Return the runs that are not void."""
        return [run for run in self.runs if not run.void]


def throughput_ratio(entry: Entry, other: Entry) -> float | None:
    """Return requests/s relative to another entry: the median of the rounds in which both runs are valid."""
    pairs = zip(entry.runs, other.runs, strict=False)  # an entry that failed in a later round has fewer runs
    ratios = [a.load.rate / b.load.rate for a, b in pairs if not a.void and not b.void]
    return round(median(ratios), 3) if ratios else None


def best_peer(entries: Sequence[Entry], bare: Entry, *, tuned: bool) -> Entry | None:
    """Return the fastest peer without telemetry, with or without batching. `tuned` also admits tuned peers."""
    peers = [
        x for x in entries if x.server.name not in OWN_SERVERS and not x.variant.telemetry and throughput_ratio(x, bare)
    ]
    admitted = [x for x in peers if tuned or not x.server.tuned]
    return max(admitted, key=lambda entry: throughput_ratio(entry, bare) or 0.0, default=None)


def summarise_entry(entry: Entry, bare: Entry) -> dict[str, Any]:
    """Return one line of the table. If all runs are void, it shows the void runs and is marked as void."""
    runs = entry.valid_runs() or entry.runs
    return {
        "server": entry.server.name,
        "telemetry": entry.variant.telemetry,
        "batching": entry.server.batching if entry.variant.batching else None,
        "note": entry.variant.note or None,
        "requests_per_second": round(median(run.load.rate for run in runs), 1),
        "of_bare": throughput_ratio(entry, bare),
        "p50_ms": round(1000 * median(run.load.quantile(0.5) for run in runs), 2),
        "p99_ms": round(1000 * median(run.load.quantile(0.99) for run in runs), 2),
        "cpu_seconds_per_1000": round(median(1000 * run.cpu_seconds / run.load.requests for run in runs), 3),
        "other_core_cpu_seconds_per_1000": round(
            median(1000 * run.cpu_on_other_core / run.load.requests for run in runs), 3
        ),
        "spans_per_request": round(median(run.spans for run in runs), 2),
        "log_records_per_request": round(median(run.log_records for run in runs), 2),
        "failed": sum(run.load.failed for run in entry.runs),
        "other_core_busy": round(max(run.other_core_usage for run in runs), 2),
        "server_core_stolen": round(max(run.stolen_share for run in runs), 2),
        "void": not entry.valid_runs(),
        "helpers": dict(runs[0].helpers),
        "telemetry_content": entry.server.telemetry if entry.variant.telemetry else "nothing",
    }


def summarise(entries: Sequence[Entry], *, pinned: bool, rounds: int) -> dict[str, Any]:
    """Return the main ratio, a line for each measured entry, and the reason for each other entry.

    Void runs are excluded. `void` is true if an entry has only void runs.
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
