"""Convert predictions to events for Fiddler, and describe their model.

An event has a column for each input, output and target, an ID and a time. The description of the model has the form
that Fiddler's client uses (`ModelSchema`, `ModelSpec`, `ModelTaskParams`). This module does not use Fiddler's code.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from modeltrace.bundles.manifest import Manifest
from modeltrace.inference.schema import Feature
from modeltrace.report.columns import (
    ColumnLayout,
    build_layout,
    positive_probability,
    to_category,
    to_number,
    to_text,
    unused_name,
)
from modeltrace.store.export import ExportFormat, replace_file
from modeltrace.store.rows import StoredPrediction

CHUNK_ROWS: Final = 1000

FiddlerType = Literal["float", "int", "bool", "str", "category", "timestamp"]

_ARROW_TYPES: Final[dict[FiddlerType, pa.DataType]] = {
    "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "str": pa.string(), "category": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
}  # fmt: skip
_FEATURE_TYPES: Final[dict[str, FiddlerType]] = {
    "number": "float", "integer": "int", "boolean": "bool", "category": "category", "datetime": "str",
    "timedelta": "str",
}  # fmt: skip


@dataclass(frozen=True)
class EventSchema:
    """The columns of events. A column name that is also a feature name gets an underscore appended."""

    manifest: Manifest
    layout: ColumnLayout
    event_id: str
    time: str
    trace: str
    version: str

    @cached_property
    def columns(self) -> dict[str, FiddlerType]:
        """All columns with their Fiddler types."""
        metadata: dict[str, FiddlerType] = {
            self.event_id: "str", self.time: "timestamp", self.trace: "str", self.version: "str",
        }  # fmt: skip
        inputs = {
            feature.name: fiddler_type(feature)
            for feature in self.manifest.features
            if feature.name in self.layout.features
        }
        outputs: dict[str, FiddlerType] = {
            name: "float" if kind == "number" else "category" for name, kind in self.layout.outputs.items()
        }
        return {**metadata, **inputs, **outputs}

    def to_event(self, prediction: StoredPrediction) -> dict[str, Any]:
        """Convert a prediction to an event."""
        inputs = prediction.inputs or {}
        layout, columns = self.layout, self.columns
        seconds, nanoseconds = divmod(prediction.time, 10**9)
        values: dict[str, Any] = {
            self.event_id: prediction.prediction_id,
            self.time: datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000),
            self.trace: prediction.trace_id,
            self.version: prediction.model_version,
            **{name: _to_value(inputs.get(name), columns[name]) for name in layout.features},
        }
        if layout.task == "regressor":
            return {**values, layout.prediction: prediction.value, layout.target: to_number(prediction.true_label)}
        values |= {
            layout.prediction: to_category(prediction.label),
            layout.confidence: prediction.confidence,
            layout.target: to_category(prediction.true_label),
        }
        if layout.score is not None:
            values[layout.score] = positive_probability(prediction.label, prediction.confidence, layout.classes[1])
        return values

    def model_description(self) -> dict[str, Any]:
        """Return the model as arguments of `fiddler.Model`.

        The task is `not_set` for a model without probabilities and for more than two classes. For more than two
        classes, Fiddler requires the probability of each class, but the store contains only that of the predicted one.
        """
        layout = self.layout
        features = {feature.name: feature for feature in self.manifest.features}
        outputs = [layout.prediction] if layout.task == "regressor" else [layout.prediction, layout.confidence]
        metadata = [self.event_id, self.time, self.trace, self.version]
        task, params = ("regression", {}) if layout.task == "regressor" else ("not_set", {})
        if layout.score is not None:
            outputs, metadata = [layout.score], [*metadata, layout.prediction, layout.confidence]
            task, params = "binary_classification", {"target_class_order": list(map(to_text, layout.classes))}
        return {
            "name": self.manifest.name,
            "version": self.manifest.version,
            "schema": {
                "schema_version": 1,
                "columns": [self._column(name, kind, features.get(name)) for name, kind in self.columns.items()],
            },
            "spec": {
                "schema_version": 1,
                "inputs": list(layout.features),
                "outputs": outputs,
                "targets": [layout.target],
                "metadata": metadata,
            },
            "task": task,
            "task_params": params,
            "event_id_col": self.event_id,
            "event_ts_col": self.time,
        }

    def _column(self, name: str, kind: FiddlerType, feature: Feature | None) -> dict[str, Any]:
        column: dict[str, Any] = {"name": name, "data_type": kind}
        if feature is not None:
            if kind in ("float", "int") and feature.training_range is not None:
                low, high = feature.training_range
                column |= {"min": int(low), "max": int(high)} if kind == "int" else {"min": low, "max": high}
            if kind == "category" and feature.categories is not None:
                column["categories"] = list(map(to_text, feature.categories))
        elif name in (self.layout.score, self.layout.confidence):
            column |= {"min": 0.0, "max": 1.0}
        elif kind == "category":
            column["categories"] = list(map(to_text, self.layout.classes))
        return column


def fiddler_type(feature: Feature) -> FiddlerType:
    """Return the type of a feature; hashed or bucketed values are text."""
    return _FEATURE_TYPES[feature.type] if feature.privacy == "plain" else "str"


def event_schema(manifest: Manifest, *, has_probabilities: bool) -> EventSchema:
    """Return the columns of events for a bundle's predictions."""
    layout = build_layout(manifest, with_score=has_probabilities)
    taken = {*(feature.name for feature in manifest.features), *layout.outputs}
    names = (unused_name(name, taken) for name in ("prediction_id", "timestamp", "trace_id", "model_version"))
    return EventSchema(manifest, layout, *names)


def _to_value(value: object, kind: FiddlerType) -> object:
    if kind == "float":
        return to_number(value)
    if kind == "int":
        number = to_number(value)
        return int(number) if number is not None and number.is_integer() and abs(number) < 2**63 else None
    if kind == "bool":
        return value if isinstance(value, bool) else None
    return to_category(value)


def write_events(
    predictions: Iterable[StoredPrediction], schema: EventSchema, path: Path, file_format: ExportFormat
) -> None:
    """Write all predictions as events, in chunks.

    Raises:
        ExportError: the file cannot be written.
    """
    with replace_file(path) as file, _open_writer(file, file_format, schema) as write:
        events = map(schema.to_event, predictions)
        while chunk := list(islice(events, CHUNK_ROWS)):
            write(chunk)


@contextmanager
def _open_writer(
    file: IO[bytes], file_format: ExportFormat, schema: EventSchema
) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    if file_format == "jsonl":
        yield lambda chunk: file.writelines(f"{json.dumps(event, default=str)}\n".encode() for event in chunk)
        return
    arrow_schema = pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in schema.columns.items()])
    with pq.ParquetWriter(file, arrow_schema, compression="zstd") as writer:
        yield lambda chunk: writer.write_table(pa.Table.from_pylist(chunk, schema=arrow_schema))
