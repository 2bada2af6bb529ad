"""Where rows come from: a window of the prediction store; a file, a bundle's held-out rows, or an earlier window."""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import Manifest
from modeltrace.errors import BundleError, InferenceError, ModeltraceError, SettingsError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model
from modeltrace.inference.privacy import Privacy
from modeltrace.inference.schema import Schema
from modeltrace.report.columns import Row
from modeltrace.store.rows import Kept
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.traffic.rows import MAX_ROWS, Sample, read_file, read_held_out

CHUNK: Final = 10_000
SPELLED_OUT: Final = 5


class ReportError(ModeltraceError):
    """There is nothing to report on, or nothing to compare it with."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a window is compared with, and what a person is told of it."""

    rows: list[Row]
    words: str
    at: int
    stored: bool = False  # its inputs are as the store has them, as privacy allows

    @property
    def answered(self) -> bool:
        """Whether the model's answers to them are known."""
        return any(row.answer is not None for row in self.rows)

    @property
    def labelled(self) -> int:
        """How many have an answer and a true label."""
        return sum(row.truth is not None and row.answer is not None for row in self.rows)


class Chosen:
    """The predictions of one model in a time that have inputs, one after the other; what is passed over is counted.

    `shadows` are answers that nobody got; they count only where their version is named.
    """

    def __init__(
        self,
        store: Store,
        selection: Selection,
        model: str,
        version: str | None,
        progress: Callable[[int], None] = lambda _: None,
        *,
        own: tuple[str, Collection[str]] | None = None,
    ) -> None:
        """`own`: the version of the bundle, and the hashes of its model's files.

        What another model has answered under that version is left out.
        """
        self.found = self.labelled = self.erased = self.shadows = self.twins = self.first = self.last = 0
        self._own = own
        self.versions: dict[str, None] = {}
        self._others: dict[str, None] = {}
        self._store, self._selection, self._progress = store, selection, progress
        self._model, self._version = model, version

    def __iter__(self) -> Iterator[Kept]:
        """By time.

        Raises:
            StoreError: they cannot be read.
        """
        read = 0
        for chunk in self._store.read(self._selection):
            yield from filter(self._is_one, chunk)
            read += len(chunk)
            self._progress(read)

    def _is_one(self, one: Kept) -> bool:
        if one.model_name != self._model or self._version not in (None, one.model_version):
            self._others[f"{one.model_name} {one.model_version}"] = None
        elif one.shadow_of is not None and self._version is None:
            self.shadows += 1
        elif self._own and one.model_version == self._own[0] and one.model_hash not in self._own[1]:
            self.twins += 1
        elif one.inputs is None:
            self.erased += 1
        else:
            self.found += 1
            self.labelled += one.true_label is not None
            self.versions[one.model_version] = None
            self.first, self.last = self.first or one.time, one.time
            return True
        return False

    def check(self) -> None:
        """See that there were any.

        Raises:
            ReportError: none; the message says what there is.
        """
        if self.found:
            return
        wanted = self._model if self._version is None else f"{self._model} {self._version}"
        others = list(self._others)
        more = f" and {len(others) - SPELLED_OUT} more" if len(others) > SPELLED_OUT else ""
        besides = f"; there are some of {', '.join(others[:SPELLED_OUT])}{more}" if others else ""
        gone = f"; the inputs of {self.erased:,} were erased" if self.erased else ""
        shadows = (
            f"; {self.shadows:,} are answers of shadows: name their version with --version" if self.shadows else ""
        )
        raise ReportError(
            f"no prediction of {wanted} {span(self._selection.since, self._selection.until)} in "
            f"{self._store.location.words}{gone}{shadows}{besides}. "
            "Another time: --since, --until; another store: MODELTRACE_STORE; another bundle: --bundle"
        )


@dataclass(frozen=True, slots=True)
class Window:
    """Predictions to compare, and what they were drawn from."""

    kept: list[Kept]
    chosen: Chosen

    @property
    def rows(self) -> list[Row]:
        """What is compared."""
        return [
            Row(one.inputs or {}, one.label if one.value is None else one.value, one.confidence, one.true_label)
            for one in self.kept
        ]


def read_window(chosen: Chosen, sample: int) -> Window:
    """At most `sample` predictions, drawn so that each has the same chance.

    Raises:
        ReportError: there are none with inputs.
        StoreError: they cannot be read.
    """
    drawn = Drawn(sample)
    for one in chosen:
        drawn.add(one)
    chosen.check()
    return Window(sorted(drawn.kept, key=lambda one: one.time), chosen)


class Drawn:
    """So many of all that are added, each with the same chance (reservoir sampling, Vitter's algorithm R)."""

    def __init__(self, most: int) -> None:
        self.kept: list[Kept] = []
        self.seen = 0
        self._most = most
        self._random = random.Random(0)  # noqa: S311  the same rows make the same report

    def add(self, one: Kept) -> None:
        """Take it, in place of another one if there are enough."""
        self.seen += 1
        if len(self.kept) < self._most:
            self.kept.append(one)
        elif (place := self._random.randrange(self.seen)) < self._most:
            self.kept[place] = one


def span(since: int | None, until: int | None) -> str:
    """A time of which either end may be open, in words."""
    words = [*([f"since {said(since)}"] if since is not None else []), *([f"until {said(until)}"] if until else [])]
    return " ".join(words) or "at any time"


def said(nanoseconds: int) -> str:
    """A time for people."""
    return f"{datetime.fromtimestamp(nanoseconds // 10**9, UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Trust:
    """What the operator allows an artifact to hold when it is loaded."""

    pickle: bool
    types: tuple[str, ...]


def reference_file(path: Path, target: str | None, bundle: Path, manifest: Manifest, trust: Trust) -> Reference:
    """Rows of a CSV or Parquet file, answered by the bundle's model.

    Raises:
        RowsError: the file cannot be read or lacks a feature.
    """
    samples = read_file(path, manifest.features, target)
    if target is not None and all(one.label is None for one in samples):
        raise ReportError(f"{path}: the column {target} (--target) is not there, or has no label")
    return _from_samples(samples, f"rows of {path}", path.stat().st_mtime_ns, bundle, manifest, trust)


def reference_held_out(bundle: Path, manifest: Manifest, trust: Trust) -> Reference:
    """The bundle's held-out rows, answered by its model.

    Raises:
        ReportError: it carries none.
    """
    if manifest.traffic is None:
        raise ReportError(
            f"nothing to compare with: {bundle} carries no held-out rows. Name the training data with --reference "
            "FILE, or an earlier time with --reference-since and --reference-until"
        )
    at = int(datetime.fromisoformat(manifest.created).timestamp()) * 10**9
    words = f"held-out rows of {manifest.name} {manifest.version} ({bundle})"
    return _from_samples(read_held_out(bundle, manifest.features), words, at, bundle, manifest, trust)


def _from_samples(
    samples: Sequence[Sample], words: str, at: int, bundle: Path, manifest: Manifest, trust: Trust
) -> Reference:
    schema = Schema(features=manifest.features)
    rows = [Row(one.row, truth=one.label) for one in samples]
    if len(rows) == MAX_ROWS:
        words = f"the first {words}"
    try:
        model = load_bundle(bundle, trust_pickle=trust.pickle, trusted_types=trust.types)
        rows = [row for chunk in _chunks(rows) for row in answered(model, chunk)]
    except (BundleError, SettingsError, InferenceError) as error:
        return Reference(as_told(rows, schema), f"{words}; the model could not answer them: {error}", at)
    return Reference(as_told(rows, schema), f"{words}, answered by its model", at)


def as_told(rows: list[Row], schema: Schema) -> list[Row]:
    """The same rows with their inputs as privacy has them stored, but for what it hashes: the key is the service's."""
    if not schema.private:
        return rows
    rules = Privacy(schema, b"")
    told = (dict(zip(schema.told, rules.inputs(values_of(row, schema)), strict=True)) for row in rows)
    return [replace(row, inputs=inputs) for row, inputs in zip(rows, told, strict=True)]


def values_of(row: Row, schema: Schema) -> tuple[Any, ...]:
    """A row's inputs in the order of a schema."""
    return tuple(row.inputs.get(name) for name in schema.names)


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def answered(model: Model, rows: Sequence[Row]) -> list[Row]:
    """The same rows with what the model answers to them.

    Raises:
        InferenceError: it cannot.
    """
    try:
        matrix = to_matrix([values_of(row, model.schema) for row in rows], model.schema, as_frame=model.as_frame)
    except (TypeError, ValueError) as error:
        raise InferenceError(f"a row is not what its schema says: {error}") from None
    answers = model.answer(matrix)
    return [
        Row(row.inputs, one.label if one.value is None else one.value, one.confidence, row.truth)
        for row, one in zip(rows, answers, strict=True)
    ]


def reference_window(window: Window) -> Reference:
    """An earlier window of the store."""
    first, last = window.chosen.first, window.chosen.last
    return Reference(window.rows, f"predictions from {said(first)} to {said(last)}", last, stored=True)
