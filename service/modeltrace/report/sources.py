"""Read the rows to compare: a window of the store, and a file, test rows or an earlier window as the reference."""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
from modeltrace.settings import Settings
from modeltrace.store.rows import StoredPrediction
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store
from modeltrace.traffic.fault_injection import make_rng
from modeltrace.traffic.rows import MAX_ROWS, Sample, load_samples, load_test_samples

CHUNK_ROWS: Final = 10_000
MAX_OTHERS: Final = 5


class ReportError(ModeltraceError):
    """There are no predictions to report on, or nothing to compare them with."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The rows that a window is compared with."""

    rows: list[ComparedRow]
    description: str  # the source of the rows, for the user
    time: int  # the time of the rows, in nanoseconds since the epoch
    stored: bool = False  # whether the rows are from the store, which has applied privacy rules to their inputs

    @property
    def has_predictions(self) -> bool:
        """Whether the rows have predictions."""
        return any(row.prediction is not None for row in self.rows)

    @property
    def labelled(self) -> int:
        """The number of rows with a prediction and a true label."""
        return sum(row.true_label is not None and row.prediction is not None for row in self.rows)


class ModelPredictions:
    """Iterates over the predictions of one model that have inputs, and counts the predictions that it skips.

    Shadow predictions are skipped unless `version` is set.

    Args:
        store: the prediction store.
        selection: the time range.
        model: the name of the model.
        version: the version of the model; `None` for all versions.
        on_progress: called with the number of predictions read so far.
        bundle_identity: the version of the bundle and the hashes of its model files. Predictions of this version are
            skipped if their model has another hash.
    """

    def __init__(
        self,
        store: Store,
        selection: Selection,
        model: str,
        version: str | None,
        on_progress: Callable[[int], None],
        bundle_identity: tuple[str, Collection[str]],
    ) -> None:
        self.selected = self.labelled = self.erased = self.shadows = self.other_models = self.first = self.last = 0
        self._bundle_version, self._bundle_hashes = bundle_identity
        self.versions: dict[str, None] = {}  # an ordered set
        self._others: dict[str, None] = {}
        self._store, self._selection, self._on_progress = store, selection, on_progress
        self._model, self._version = model, version

    def __iter__(self) -> Iterator[StoredPrediction]:
        """Yield predictions in order of time.

        Raises:
            StoreError: the store cannot be read.
        """
        read = 0
        for page in self._store.read(self._selection):
            yield from filter(self._matches, page)
            read += len(page)
            self._on_progress(read)

    def _matches(self, prediction: StoredPrediction) -> bool:
        version = prediction.model_version
        if prediction.model_name != self._model or self._version not in (None, version):
            self._others[f"{prediction.model_name} {version}"] = None
        elif prediction.shadow_of is not None and self._version is None:
            self.shadows += 1
        elif version == self._bundle_version and prediction.model_hash not in self._bundle_hashes:
            self.other_models += 1
        elif prediction.inputs is None:
            self.erased += 1
        else:
            self.selected += 1
            self.labelled += prediction.true_label is not None
            self.versions[version] = None
            self.first, self.last = self.first or prediction.time, prediction.time
            return True
        return False

    def require_any(self) -> None:
        """Raise an error if no prediction was selected.

        Raises:
            ReportError: no prediction was selected. The message says which other predictions the store contains.
        """
        if self.selected:
            return
        model = self._model if self._version is None else f"{self._model} {self._version}"
        others = list(self._others)
        more = f" and {len(others) - MAX_OTHERS} more" if len(others) > MAX_OTHERS else ""
        others_found = f"; there are some of {', '.join(others[:MAX_OTHERS])}{more}" if others else ""
        erased = f"; the inputs of {self.erased:,} were erased" if self.erased else ""
        shadows = f"; {self.shadows:,} are of shadows: name their version with --version" if self.shadows else ""
        raise ReportError(
            f"no prediction of {model} {format_period(self._selection.since, self._selection.until)} in "
            f"{self._store.location.description}{erased}{shadows}{others_found}. "
            "Another time: --since, --until; another store: MODELTRACE_STORE; another bundle: --bundle"
        )


@dataclass(frozen=True, slots=True)
class Window:
    """The sampled predictions of a window as rows, in order of time, and their source."""

    rows: list[ComparedRow]
    source: ModelPredictions


def read_window(source: ModelPredictions, max_rows: int) -> Window:
    """Read a uniform sample of at most `max_rows` predictions.

    Raises:
        ReportError: there are no predictions with inputs.
        StoreError: the store cannot be read.
    """
    # With a fixed seed, the same predictions give the same report.
    sample = sorted(sample_uniformly(source, max_rows, make_rng(seed=0)), key=lambda prediction: prediction.time)
    source.require_any()
    rows = [
        ComparedRow(
            prediction.inputs or {},
            prediction.label if prediction.value is None else prediction.value,
            prediction.confidence,
            prediction.true_label,
        )
        for prediction in sample
    ]
    return Window(rows, source)


def sample_uniformly(predictions: Iterable[StoredPrediction], size: int, rng: random.Random) -> list[StoredPrediction]:
    """Return a uniform sample of a stream of unknown length (reservoir sampling, Vitter's algorithm R)."""
    sample: list[StoredPrediction] = []
    for seen, prediction in enumerate(predictions, start=1):
        if len(sample) < size:
            sample.append(prediction)
        elif (index := rng.randrange(seen)) < size:
            sample[index] = prediction
    return sample


def format_period(since: int | None, until: int | None) -> str:
    """Format a time range. Its start and its end may be open."""
    ends = [f"since {format_time(since)}"] if since is not None else []
    ends += [f"until {format_time(until)}"] if until else []
    return " ".join(ends) or "at any time"


def format_time(nanoseconds: int) -> str:
    """Format a time, given in nanoseconds since the epoch."""
    return f"{datetime.fromtimestamp(nanoseconds // 10**9, UTC):%Y-%m-%d %H:%M} UTC"


def reference_from_file(
    path: Path, target: str | None, bundle: Path, manifest: Manifest, settings: Settings
) -> Reference:
    """Read the rows of a CSV or Parquet file, and predict them with the bundle's model.

    Raises:
        RowsError: the file cannot be read or lacks a feature.
        ReportError: the target column has no labels.
    """
    samples = load_samples(path, manifest.features, target)
    if target is not None and all(sample.label is None for sample in samples):
        raise ReportError(f"{path}: the column {target} (--target) is missing or has no labels")
    return _from_samples(samples, f"rows of {path}", path.stat().st_mtime_ns, bundle, manifest, settings)


def reference_from_test_rows(bundle: Path, manifest: Manifest, settings: Settings) -> Reference:
    """Read the test rows of a bundle, and predict them with its model.

    Raises:
        ReportError: the bundle has no test rows.
    """
    if manifest.traffic is None:
        raise ReportError(
            f"nothing to compare with: {bundle} has no test rows. Name the training data with --reference FILE, or "
            "an earlier window with --reference-since and --reference-until"
        )
    time = int(datetime.fromisoformat(manifest.created).timestamp()) * 10**9
    description = f"test rows of {manifest.name} {manifest.version} ({bundle})"
    samples = load_test_samples(bundle, manifest.features)
    return _from_samples(samples, description, time, bundle, manifest, settings)


def _from_samples(
    samples: Sequence[Sample], description: str, time: int, bundle: Path, manifest: Manifest, settings: Settings
) -> Reference:
    schema = Schema(features=manifest.features)
    rows = [ComparedRow(sample.row, true_label=sample.label) for sample in samples]
    if len(rows) == MAX_ROWS:
        description = f"the first {description}"
    try:
        model = load_bundle(
            bundle,
            trust_pickle=settings.trust_pickle,
            trust_code=settings.trust_code,
            trusted_types=settings.trusted_types,
        )
        chunks = (rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS))
        rows = [row for chunk in chunks for row in predict_rows(model, chunk)]
    except (BundleError, SettingsError, InferenceError) as error:
        description = f"{description}; its model could not predict them: {error}"
    else:
        description = f"{description}, predicted by its model"
    return Reference(apply_privacy(rows, schema), description, time)


def apply_privacy(rows: list[ComparedRow], schema: Schema) -> list[ComparedRow]:
    """Apply privacy rules to the inputs of rows. Hashes differ from stored ones: only the service has the key."""
    if not schema.has_private_features:
        return rows
    redactor = Redactor(schema, b"")
    return [
        replace(
            row, inputs=dict(zip(schema.recorded_names, redactor.redact_inputs(row_values(row, schema)), strict=True))
        )
        for row in rows
    ]


def row_values(row: ComparedRow, schema: Schema) -> tuple[Any, ...]:
    """Return the inputs of a row in the order of a schema."""
    return tuple(row.inputs.get(name) for name in schema.names)


def predict_rows(model: Model, rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    """Return rows with the model's predictions.

    Raises:
        InferenceError: the model failed, or a row does not match the schema.
    """
    try:
        matrix = to_matrix([row_values(row, model.schema) for row in rows], model.schema, as_frame=model.as_frame)
    except (TypeError, ValueError) as error:
        raise InferenceError(f"a row does not match the schema: {error}") from None
    return [
        replace(row, prediction=output.label if output.value is None else output.value, confidence=output.confidence)
        for row, output in zip(rows, model.predict(matrix), strict=True)
    ]


def reference_from_window(window: Window) -> Reference:
    """Use an earlier window of the store as a reference."""
    first, last = window.source.first, window.source.last
    description = f"predictions from {format_time(first)} to {format_time(last)}"
    return Reference(window.rows, description, last, stored=True)
