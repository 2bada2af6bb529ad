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
from modeltrace.inference.privacy import Redactor
from modeltrace.inference.schema import Schema
from modeltrace.report.columns import ComparedRow
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.traffic.rows import MAX_ROWS, Sample, load_held_out_samples, load_samples

CHUNK_ROWS: Final = 10_000
MAX_OTHERS: Final = 5


class ReportError(ModeltraceError):
    """There is nothing to report on, or nothing to compare it with."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a window is compared with, and what a person is told of it."""

    rows: list[ComparedRow]
    description: str
    time: int
    stored: bool = False  # its inputs are as the store has them, as privacy allows

    @property
    def has_predictions(self) -> bool:
        """Whether the model's answers to them are known."""
        return any(row.prediction is not None for row in self.rows)

    @property
    def labelled(self) -> int:
        """How many have an answer and a true label."""
        return sum(row.true_label is not None and row.prediction is not None for row in self.rows)


class ModelPredictions:
    """The predictions of one model in a time that have inputs, one after the other; what is passed over is counted.

    `shadows` are answers that nobody got; they count only where their version is named.
    """

    def __init__(
        self,
        store: Store,
        selection: Selection,
        model: str,
        version: str | None,
        on_progress: Callable[[int], None] = lambda _: None,
        *,
        bundle_identity: tuple[str, Collection[str]] | None = None,
    ) -> None:
        """`own`: the version of the bundle, and the hashes of its model's files.

        What another model has answered under that version is left out.
        """
        self.selected = self.labelled = self.erased = self.shadows = self.other_models = self.first = self.last = 0
        self._bundle_identity = bundle_identity
        self.versions: dict[str, None] = {}
        self._others: dict[str, None] = {}
        self._store, self._selection, self._on_progress = store, selection, on_progress
        self._model, self._version = model, version

    def __iter__(self) -> Iterator[StoredPrediction]:
        """By time.

        Raises:
            StoreError: they cannot be read.
        """
        read = 0
        for chunk in self._store.read(self._selection):
            yield from filter(self._matches, chunk)
            read += len(chunk)
            self._on_progress(read)

    def _matches(self, one: StoredPrediction) -> bool:
        if one.model_name != self._model or self._version not in (None, one.model_version):
            self._others[f"{one.model_name} {one.model_version}"] = None
        elif one.shadow_of is not None and self._version is None:
            self.shadows += 1
        elif (
            self._bundle_identity
            and one.model_version == self._bundle_identity[0]
            and one.model_hash not in self._bundle_identity[1]
        ):
            self.other_models += 1
        elif one.inputs is None:
            self.erased += 1
        else:
            self.selected += 1
            self.labelled += one.true_label is not None
            self.versions[one.model_version] = None
            self.first, self.last = self.first or one.time, one.time
            return True
        return False

    def require_any(self) -> None:
        """See that there were any.

        Raises:
            ReportError: none; the message says what there is.
        """
        if self.selected:
            return
        wanted = self._model if self._version is None else f"{self._model} {self._version}"
        others = list(self._others)
        more = f" and {len(others) - MAX_OTHERS} more" if len(others) > MAX_OTHERS else ""
        besides = f"; there are some of {', '.join(others[:MAX_OTHERS])}{more}" if others else ""
        gone = f"; the inputs of {self.erased:,} were erased" if self.erased else ""
        shadows = (
            f"; {self.shadows:,} are answers of shadows: name their version with --version" if self.shadows else ""
        )
        raise ReportError(
            f"no prediction of {wanted} {format_period(self._selection.since, self._selection.until)} in "
            f"{self._store.location.description}{gone}{shadows}{besides}. "
            "Another time: --since, --until; another store: MODELTRACE_STORE; another bundle: --bundle"
        )


@dataclass(frozen=True, slots=True)
class Window:
    """Predictions to compare, and what they were drawn from."""

    predictions: list[StoredPrediction]
    source: ModelPredictions

    @property
    def rows(self) -> list[ComparedRow]:
        """What is compared."""
        return [
            ComparedRow(one.inputs or {}, one.label if one.value is None else one.value, one.confidence, one.true_label)
            for one in self.predictions
        ]


def read_window(source: ModelPredictions, max_rows: int) -> Window:
    """At most `sample` predictions, drawn so that each has the same chance.

    Raises:
        ReportError: there are none with inputs.
        StoreError: they cannot be read.
    """
    drawn = Reservoir(max_rows)
    for one in source:
        drawn.add(one)
    source.require_any()
    return Window(sorted(drawn.items, key=lambda one: one.time), source)


class Reservoir:
    """So many of all that are added, each with the same chance (reservoir sampling, Vitter's algorithm R)."""

    def __init__(self, size: int) -> None:
        self.items: list[StoredPrediction] = []
        self.seen = 0
        self._size = size
        self._random = random.Random(0)  # noqa: S311  the same rows make the same report

    def add(self, one: StoredPrediction) -> None:
        """Take it, in place of another one if there are enough."""
        self.seen += 1
        if len(self.items) < self._size:
            self.items.append(one)
        elif (place := self._random.randrange(self.seen)) < self._size:
            self.items[place] = one


def format_period(since: int | None, until: int | None) -> str:
    """A time of which either end may be open, in words."""
    words = [
        *([f"since {format_time(since)}"] if since is not None else []),
        *([f"until {format_time(until)}"] if until else []),
    ]
    return " ".join(words) or "at any time"


def format_time(nanoseconds: int) -> str:
    """A time for people."""
    return f"{datetime.fromtimestamp(nanoseconds // 10**9, UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """What the operator allows an artifact to hold when it is loaded."""

    pickle: bool
    types: tuple[str, ...]


def reference_from_file(
    path: Path, target: str | None, bundle: Path, manifest: Manifest, trust: TrustOptions
) -> Reference:
    """Rows of a CSV or Parquet file, answered by the bundle's model.

    Raises:
        RowsError: the file cannot be read or lacks a feature.
    """
    samples = load_samples(path, manifest.features, target)
    if target is not None and all(one.label is None for one in samples):
        raise ReportError(f"{path}: the column {target} (--target) is not there, or has no label")
    return _from_samples(samples, f"rows of {path}", path.stat().st_mtime_ns, bundle, manifest, trust)


def reference_from_held_out(bundle: Path, manifest: Manifest, trust: TrustOptions) -> Reference:
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
    return _from_samples(load_held_out_samples(bundle, manifest.features), words, at, bundle, manifest, trust)


def _from_samples(
    samples: Sequence[Sample], words: str, at: int, bundle: Path, manifest: Manifest, trust: TrustOptions
) -> Reference:
    schema = Schema(features=manifest.features)
    rows = [ComparedRow(one.row, true_label=one.label) for one in samples]
    if len(rows) == MAX_ROWS:
        words = f"the first {words}"
    try:
        model = load_bundle(bundle, trust_pickle=trust.pickle, trusted_types=trust.types)
        rows = [row for chunk in _chunks(rows) for row in predict_rows(model, chunk)]
    except (BundleError, SettingsError, InferenceError) as error:
        return Reference(apply_privacy(rows, schema), f"{words}; the model could not answer them: {error}", at)
    return Reference(apply_privacy(rows, schema), f"{words}, answered by its model", at)


def apply_privacy(rows: list[ComparedRow], schema: Schema) -> list[ComparedRow]:
    """The same rows with their inputs as privacy has them stored, but for what it hashes: the key is the service's."""
    if not schema.has_private_features:
        return rows
    rules = Redactor(schema, b"")
    told = (dict(zip(schema.recorded_names, rules.redact_inputs(row_values(row, schema)), strict=True)) for row in rows)
    return [replace(row, inputs=inputs) for row, inputs in zip(rows, told, strict=True)]


def row_values(row: ComparedRow, schema: Schema) -> tuple[Any, ...]:
    """A row's inputs in the order of a schema."""
    return tuple(row.inputs.get(name) for name in schema.names)


def _chunks(rows: Sequence[ComparedRow]) -> Iterator[Sequence[ComparedRow]]:
    for start in range(0, len(rows), CHUNK_ROWS):
        yield rows[start : start + CHUNK_ROWS]


def predict_rows(model: Model, rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    """The same rows with what the model answers to them.

    Raises:
        InferenceError: it cannot.
    """
    try:
        matrix = to_matrix([row_values(row, model.schema) for row in rows], model.schema, as_frame=model.as_frame)
    except (TypeError, ValueError) as error:
        raise InferenceError(f"a row is not what its schema says: {error}") from None
    answers = model.predict(matrix)
    return [
        ComparedRow(row.inputs, one.label if one.value is None else one.value, one.confidence, row.true_label)
        for row, one in zip(rows, answers, strict=True)
    ]


def reference_from_window(window: Window) -> Reference:
    """An earlier window of the store."""
    first, last = window.source.first, window.source.last
    return Reference(window.rows, f"predictions from {format_time(first)} to {format_time(last)}", last, stored=True)
