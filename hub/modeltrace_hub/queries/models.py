"""Read the metrics of all models in a window, by model and version.

Counters of workers and replicas are summed in SQL (hub/modeltrace_hub/sql/fragments/counter_increases.sql).
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from modeltrace_hub.queries.attribute_values import text_attributes
from modeltrace_hub.queries.drift_states import MIN_ROWS, MIN_TRAINING_ROWS
from modeltrace_hub.queries.evaluation import gauges_of_model
from modeltrace_hub.queries.model_metric_names import COUNTERS, DRIFT_COUNTERS, GAUGES, PREDICTIONS, SYNTHETIC
from modeltrace_hub.queries.model_metrics import version_metrics
from modeltrace_hub.queries.model_parameters import LOOKBACK_NS, Window
from modeltrace_hub.queries.prediction_activity import Source
from modeltrace_hub.queries.reader import Reader, Record

MAX_MODELS: Final = 200
# Each model that shares name and version with another one needs three queries. All queries of a request share 60 s.
MAX_CONFLICTING_MODELS: Final = 24

Key = tuple[str, str]


def list_models(reader: Reader, window: Window, name: str | None = None) -> list[Record]:
    """Return the models with telemetry in a window and their versions, the highest version first.

    Args:
        reader: an open reader.
        window: the window.
        name: return this model only.
    """
    activity = reader.prediction_activity.read(reader, window.since_ns, window.until_ns)
    rows = reader.fetch_all(
        "list_models",
        names=[*DRIFT_COUNTERS, *COUNTERS],
        since_ns=window.since_ns,
        until_ns=window.until_ns,
        known_since_ns=activity.since_ns,
        known_until_ns=activity.until_ns,
    )
    for row in rows:
        first_ns, last_ns = row.pop("first_ns"), row.pop("last_ns")
        activity.add(Source(**row), first_ns, last_ns)
    times: dict[tuple[str, str | None], dict[Source, tuple[int, int]]] = defaultdict(dict)
    for source, first_and_last in activity.times.items():
        if source.name is not None and name in {None, source.name}:
            times[source.name, source.version][source] = first_and_last
    versions_of: dict[str, list[Record]] = defaultdict(list)
    for (model, version), sources in sorted(times.items(), key=_recent_first)[:MAX_MODELS]:
        versions_of[model].append(
            {
                "version": version or "",
                "services": sorted({source.service_name for source in sources}),
                "instances": len({source.service_instance_id for source in sources}),
                "first_ns": min(first_ns for first_ns, _ in sources.values()),
                "last_ns": max(last_ns for _, last_ns in sources.values()),
            }
        )
    # The order does not depend on traffic, so the position of a version on the page does not change.
    return [
        {"name": name, "versions": sorted(versions, key=lambda row: _version_key(row["version"]), reverse=True)}
        for name, versions in versions_of.items()
    ]


def _recent_first(item: tuple[tuple[str, str | None], dict[Source, tuple[int, int]]]) -> tuple[Any, ...]:
    """Return a sort key: by name, the version with the newest telemetry first."""
    (name, version), sources = item
    return name, -max(last_ns for _, last_ns in sources.values()), version is None, version or ""


def list_model_traffic(reader: Reader, window: Window) -> list[Record]:
    """Return `list_models`, with the predictions in the window of each version: `predictions`, and `synthetic` ones."""
    models = list_models(reader, window)
    if not models:
        return []
    rows = reader.fetch_all(
        "sum_model_counters",
        counters=[PREDICTIONS, SYNTHETIC],
        step_ns=window.until_ns - window.since_ns,
        since_ns=window.since_ns,
        until_ns=window.until_ns,
        lookback_ns=LOOKBACK_NS,
    )
    counts: defaultdict[tuple[str, Key], float] = defaultdict(float)
    for row in rows:
        counts[row["name"], (row["model"], row["version"])] += row["added"]
    for model in models:
        for version in model["versions"]:
            key = model["name"], version["version"]
            version |= {"predictions": counts[PREDICTIONS, key], "synthetic": counts[SYNTHETIC, key]}
    return models


def _version_key(version: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts versions by their numbers and words: 1.10 after 1.9 and after 1.10-rc."""
    parts = []
    for digits, word in re.findall(r"0*([0-9]+)|([^0-9.+-]+)", version):
        # Compare numbers by length, then as text: `int` refuses numbers of thousands of digits.
        parts.append((bool(digits), len(digits), digits or word))
    return [*parts, (True, -1, "")]


def read_models(reader: Reader, window: Window, name: str | None = None) -> list[Record]:
    """Return the models with all their metrics.

    If several models have the same name and version, each has its own metrics, distinguished by `hash`; they are never
    summed. At most `MAX_CONFLICTING_MODELS` of these models are returned, those that were loaded last.
    `omitted_models` is the number of the other models of a version.

    Args:
        reader: an open reader.
        window: the window.
        name: return this model only.
    """
    models = list_models(reader, window, name)
    if not models:
        return []
    all_instances = _MetricsReader(reader, window)
    loaded: defaultdict[Key, list[Record]] = defaultdict(list)
    names = {model["name"] for model in models}
    for row in reader.fetch_all("list_loaded_models", since_ns=window.since_ns, until_ns=window.until_ns):
        if row["model"] in names:
            loaded[row["model"], row["version"]].append(row)
    conflicts = {key: rows for key, rows in loaded.items() if len(rows) > 1}
    selected = _newest_conflicting(conflicts)
    for model in models:
        versions = model["versions"]
        model["versions"] = []
        for version in versions:
            key = model["name"], version["version"]
            if key not in conflicts:
                model_hash = loaded[key][0]["hash"] if loaded[key] else None
                evaluated = all_instances.evaluated(key, model_hash)
                metrics = all_instances.version(key, evaluated, version["first_ns"])
                model["versions"].append({**version, "hash": None, "omitted_models": 0, **metrics})
            for conflict in selected[key]:
                identity = {
                    "hash": conflict["hash"],
                    "instances": len(conflict["sources"]),
                    "omitted_models": len(conflicts[key]) - len(selected[key]),
                }
                evaluated = all_instances.evaluated(key, conflict["hash"])
                metrics = _MetricsReader(reader, window, conflict["sources"]).version(
                    key, evaluated, version["first_ns"]
                )
                model["versions"].append({**version, **identity, **metrics})
    return models


def _newest_conflicting(conflicts: dict[Key, list[Record]]) -> defaultdict[Key, list[Record]]:
    """Select the newest model of each version, then the second newest, and so on, up to the maximum. Sort by hash."""
    ranked = sorted(
        ((rank, key, model) for key, models in conflicts.items() for rank, model in enumerate(models)),
        key=lambda item: (item[0], -item[2]["loaded_ns"]),
    )
    selected: defaultdict[Key, list[Record]] = defaultdict(list)
    for _, key, model in ranked[:MAX_CONFLICTING_MODELS]:
        selected[key].append(model)
    for models in selected.values():
        models.sort(key=lambda model: str(model["hash"]))
    return selected


class _MetricsReader:
    """Read the metrics of all versions, from all service instances or from some of them."""

    def __init__(self, reader: Reader, window: Window, sources: list[str] | None = None) -> None:
        values: dict[str, Any] = {
            "since_ns": window.since_ns,
            "until_ns": window.until_ns,
            "lookback_ns": LOOKBACK_NS,
            "sources": sources,
        }
        length = window.until_ns - window.since_ns
        self._window = window
        self._counters = _group_by_version(
            reader.fetch_all("sum_model_counters", counters=[*COUNTERS], step_ns=window.step_ns, **values)
        )
        self._gauges = _group_by_version(reader.fetch_all("get_model_gauges", gauges=[*GAUGES], **values))
        self._drift: dict[Key, list[Record]] = defaultdict(list)
        drift_rows = reader.fetch_all(
            "compute_drift",
            counters=[*DRIFT_COUNTERS],
            step_ns=length,
            min_rows=MIN_ROWS,
            min_training_rows=MIN_TRAINING_ROWS,
            **values,
        )
        for row in drift_rows:
            self._drift[row.pop("model"), row.pop("version")].append(row)

    def version(self, key: Key, evaluated: list[Record], first_ns: int) -> Record:
        """Return the metrics of one version, with the gauges of its evaluation. Rates begin at `first_ns`."""
        return version_metrics(
            self._window, self._counters[key], self._gauges[key], self._drift[key], evaluated, first_ns
        )

    def evaluated(self, key: Key, model_hash: str | None) -> list[Record]:
        """Return the gauges of the evaluation of one model. One process evaluates all models of a version."""
        return gauges_of_model(self._gauges[key], model_hash)


def _group_by_version(rows: Iterable[Record]) -> defaultdict[Key, list[Record]]:
    """Group rows by model and version, and convert their attributes to text."""
    groups: defaultdict[Key, list[Record]] = defaultdict(list)
    for row in rows:
        row["attributes"] = text_attributes(row["attributes"])
        groups[row.pop("model"), row.pop("version")].append(row)
    return groups
