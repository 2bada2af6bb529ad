"""Predictions as events that Fiddler takes, and the model that it is told they come from.

An event is flat: a column for each input, output and target, one that tells it from others, and its time. The model is
described as Fiddler's client describes one (`ModelSchema`, `ModelSpec`, `ModelTaskParams`); nothing of Fiddler's is
needed to write either.
"""

import json
import os
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
from modeltrace.store.export import ExportError, ExportFormat
from modeltrace.store.rows import StoredPrediction

CHUNK_ROWS: Final = 1000

FiddlerType = Literal["float", "int", "bool", "str", "category", "timestamp"]

_ARROW: Final[dict[FiddlerType, pa.DataType]] = {
    "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "str": pa.string(), "category": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
}  # fmt: skip
_PLAIN: Final[dict[str, FiddlerType]] = {"number": "float", "integer": "int", "boolean": "bool", "category": "category"}


@dataclass(frozen=True)
class EventSchema:
    """How one model's predictions become events. Names of ours that a feature has already get an underscore."""

    manifest: Manifest
    layout: ColumnLayout
    event_id: str
    time: str
    trace: str
    version: str

    @cached_property
    def columns(self) -> dict[str, FiddlerType]:
        """Every column with its type in Fiddler's words."""
        ours: dict[str, FiddlerType] = {
            self.event_id: "str",
            self.time: "timestamp",
            self.trace: "str",
            self.version: "str",
        }
        inputs = {one.name: fiddler_type(one) for one in self.manifest.features if one.name in self.layout.features}
        answers: dict[str, FiddlerType] = {
            name: "float" if kind == "number" else "category" for name, kind in self.layout.outputs.items()
        }
        return {**ours, **inputs, **answers}

    def to_event(self, one: StoredPrediction) -> dict[str, Any]:
        """One prediction as an event."""
        inputs = one.inputs or {}
        layout, columns = self.layout, self.columns
        values: dict[str, Any] = {
            self.event_id: one.prediction_id,
            self.time: datetime.fromtimestamp(one.time // 10**9, UTC).replace(microsecond=one.time % 10**9 // 1000),
            self.trace: one.trace_id,
            self.version: one.model_version,
            **{name: _to_value(inputs.get(name), columns[name]) for name in layout.features},
        }
        if layout.task == "regressor":
            return {**values, layout.prediction: one.value, layout.target: to_number(one.true_label)}
        values |= {
            layout.prediction: to_category(one.label),
            layout.confidence: one.confidence,
            layout.target: to_category(one.true_label),
        }
        if layout.score is not None:
            values[layout.score] = positive_probability(one.label, one.confidence, layout.classes[1])
        return values

    def model_description(self) -> dict[str, Any]:
        """The model, as the arguments of `fiddler.Model`.

        Fiddler's classification of several classes wants the probability of each, and a prediction has that of its own:
        there, and where there are no probabilities at all, the task is not set.
        """
        layout = self.layout
        known = {one.name: one for one in self.manifest.features}
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
                "columns": [self._column(name, kind, known.get(name)) for name, kind in self.columns.items()],
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
        said: dict[str, Any] = {"name": name, "data_type": kind}
        if feature is not None:
            if kind in ("float", "int") and feature.training_range is not None:
                low, high = feature.training_range
                said |= {"min": int(low), "max": int(high)} if kind == "int" else {"min": low, "max": high}
            if kind == "category" and feature.categories is not None:
                said["categories"] = list(map(to_text, feature.categories))
        elif name in (self.layout.score, self.layout.confidence):
            said |= {"min": 0.0, "max": 1.0}
        elif kind == "category":
            said["categories"] = list(map(to_text, self.layout.classes))
        return said


def fiddler_type(feature: Feature) -> FiddlerType:
    """A feature's type; what privacy has hashed or put into bins is text."""
    return _PLAIN[feature.type] if feature.privacy == "plain" else "str"


def event_schema(manifest: Manifest, *, has_probabilities: bool) -> EventSchema:
    """How a bundle's predictions become events; without probabilities there is no column for one."""
    layout = build_layout(manifest, with_score=has_probabilities)
    taken = {*(one.name for one in manifest.features), *layout.outputs}
    names = (unused_name(name, taken) for name in ("prediction_id", "timestamp", "trace_id", "model_version"))
    return EventSchema(manifest, layout, *names)


def _to_value(value: object, kind: FiddlerType) -> object:
    if kind == "float":
        return to_number(value)
    if kind == "int":
        found = to_number(value)
        return int(found) if found is not None and found.is_integer() and abs(found) < 2**63 else None
    if kind == "bool":
        return value if isinstance(value, bool) else None
    return to_category(value)


def write_events(rows: Iterable[StoredPrediction], events: EventSchema, path: Path, kind: ExportFormat) -> None:
    """Write all of them, some at a time. The file has its name once it is complete.

    Raises:
        ExportError: the file cannot be written; what was written of it is removed.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            with (
                os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
                _open_writer(file, kind, events) as add,
            ):
                waiting = map(events.to_event, rows)
                while chunk := list(islice(waiting, CHUNK_ROWS)):
                    add(chunk)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def _open_writer(
    file: IO[bytes], kind: ExportFormat, events: EventSchema
) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    if kind == "jsonl":
        yield lambda chunk: file.writelines(f"{json.dumps(one, default=str)}\n".encode() for one in chunk)
        return
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in events.columns.items()])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield lambda chunk: writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
