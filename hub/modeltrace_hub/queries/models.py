"""The models that the hub has heard of, with every figure of a window, by model and version.

Counts of any number of workers and replicas add up: the sums are made in SQL
(hub/modeltrace_hub/sql/parts/increments.sql).
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from modeltrace_hub.queries.model_metrics import COMPARED, COUNTERS, ENOUGH, GAUGES, figures
from modeltrace_hub.queries.queries import Reader, Record
from modeltrace_hub.queries.values import texts
from modeltrace_hub.queries.windows import LOOKBACK_NS, Window

MOST_MODELS: Final = 200
# Each model that shares its version with others costs three questions, and all of them have ten seconds.
MOST_TWINS: Final = 24

Key = tuple[str, str]


def list_models(reader: Reader, window: Window, name: str | None = None) -> list[Record]:
    """The models heard of in a window, each with its versions; only the one of a name, if one is given."""
    found = reader.records(
        "models",
        names=[*COMPARED, *COUNTERS],
        name=name,
        since_ns=window.since_ns,
        until_ns=window.until_ns,
        limit=MOST_MODELS,
    )
    models: dict[str, list[Record]] = defaultdict(list)
    for one in found:
        models[one.pop("name")].append({**one, "version": one["version"] or ""})
    # Always in the same order, the highest version first: what is side by side stays where it is.
    return [
        {"name": name, "versions": sorted(versions, key=lambda one: _parts(one["version"]), reverse=True)}
        for name, versions in models.items()
    ]


def _parts(version: str) -> list[tuple[bool, int, str]]:
    """A version by its numbers and words: 1.10 is more than 1.9, and than 1.10-rc."""
    found = []
    for digits, word in re.findall(r"0*([0-9]+)|([^0-9.+-]+)", version):
        # Of two numbers the one with more digits is greater; they may have thousands, which `int` refuses.
        found.append((bool(digits), len(digits), digits or word))
    return [*found, (True, -1, "")]


def read_models(reader: Reader, window: Window, name: str | None = None) -> list[Record]:
    """The models with all their figures; only the one of a name, if one is given.

    Where several models were packed under one version, each has figures of its own, by `hash`; they are never added up.
    Of more than `MOST_TWINS` those are left out that were loaded first; `left_out` counts those of the version.
    """
    models = list_models(reader, window, name)
    if not models:
        return []
    every = _Figures(reader, window)
    twins: dict[Key, list[Record]] = defaultdict(list)
    names = {model["name"] for model in models}
    for one in reader.records("model_twins", since_ns=window.since_ns, until_ns=window.until_ns):
        if one["model"] in names:
            twins[one["model"], one["version"]].append(one)
    shown = _newest(twins)
    for model in models:
        versions = model["versions"]
        model["versions"] = []
        for version in versions:
            key = model["name"], version["version"]
            if key not in twins:
                model["versions"].append({**version, "hash": None, "left_out": 0, **every.of(key)})
            for twin in shown[key]:
                processes = {"hash": twin["hash"], "instances": len(twin["instances"])}
                own = _Figures(reader, window, twin["instances"])
                left_out = len(twins[key]) - len(shown[key])
                model["versions"].append({**version, **processes, "left_out": left_out, **own.of(key)})
    return models


def _newest(twins: dict[Key, list[Record]]) -> defaultdict[Key, list[Record]]:
    """Those to be shown: the newest of each version, then the second newest, … as many as may be; ordered by hash."""
    ranked = sorted(
        ((rank, key, twin) for key, several in twins.items() for rank, twin in enumerate(several)),
        key=lambda one: (one[0], -one[2]["loaded_ns"]),
    )
    shown: defaultdict[Key, list[Record]] = defaultdict(list)
    for _, key, twin in ranked[:MOST_TWINS]:
        shown[key].append(twin)
    for several in shown.values():
        several.sort(key=lambda twin: str(twin["hash"]))
    return shown


class _Figures:
    """The figures of all versions, as far as all processes have counted, or those of some."""

    def __init__(self, reader: Reader, window: Window, instances: list[str] | None = None) -> None:
        asked: dict[str, Any] = {
            "since_ns": window.since_ns,
            "until_ns": window.until_ns,
            "lookback_ns": LOOKBACK_NS,
            "instances": instances,
        }
        length = window.until_ns - window.since_ns
        self._window = window
        self._counts = _by_version(
            reader.records("model_counts", counters=[*COUNTERS], step_ns=window.step_ns, **asked)
        )
        self._gauges = _by_version(reader.records("model_gauges", gauges=[*GAUGES], **asked))
        self._compared: dict[Key, list[Record]] = defaultdict(list)
        for one in reader.records("drift", counters=[*COMPARED], step_ns=length, enough=ENOUGH, **asked):
            self._compared[one.pop("model"), one.pop("version")].append(one)

    def of(self, key: Key) -> Record:
        """Those of one version."""
        return figures(self._window, self._counts[key], self._gauges[key], self._compared[key])


def _by_version(rows: Iterable[Record]) -> defaultdict[Key, list[Record]]:
    """Rows by the model and version that they are of."""
    found: defaultdict[Key, list[Record]] = defaultdict(list)
    for one in rows:
        one["attributes"] = texts(one["attributes"])
        found[one.pop("model"), one.pop("version")].append(one)
    return found
