"""Where rows come from: a file, a bundle's held-out part, or the model's own description of its training data."""

import itertools
import json
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from pyarrow import ArrowInvalid

from modeltrace.errors import ModeltraceError
from modeltrace.inference.levels import coerce_level, level_name
from modeltrace.inference.schema import MISSING, OTHER, Feature
from modeltrace.regular_files import MAX_MANIFEST_BYTES, NotRegularError, read_regular, stat_regular
from modeltrace.traffic.fault_injection import NUMERIC_TYPES, Row

# Rows kept in memory; a larger file is read so far.
MAX_ROWS = 100_000


class RowSourceError(ModeltraceError):
    """Rows cannot be had from where they were asked for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row to send, and its true label where the data has one."""

    row: Row
    label: object = None


def load_samples(path: Path, features: Sequence[Feature], target: str | None = None) -> list[Sample]:
    """Read up to `MAX_ROWS` rows from a file, as `read_samples` does.

    Raises:
        RowsError: the file cannot be read, has no rows, or lacks a feature.
    """
    samples = list(itertools.islice(read_samples(path, features, target), MAX_ROWS))
    if not samples:
        raise RowSourceError(f"{path} has no rows")
    return samples


def read_samples(path: Path, features: Sequence[Feature], target: str | None = None) -> Iterator[Sample]:
    """Read rows, however many; columns that are no feature are left out.

    Args:
        path: the file; its name ends in `.csv`, `.parquet` or `.jsonl`.
        features: what the model takes. A category is read as text even where it looks like a number.
        target: the column of true labels.

    Raises:
        RowsError: the file cannot be read, or lacks a feature or the column of labels.
    """
    readers = {".csv": _csv_batches, ".parquet": _parquet_batches, ".jsonl": _json_batches}
    if path.suffix not in readers:
        raise RowSourceError(f"{path}: the name must end in .csv or .parquet, or .jsonl")
    try:
        for names, rows in readers[path.suffix](path, features):
            absent = [feature.name for feature in features if feature.name not in names]
            if absent:
                raise RowSourceError(f"{path} lacks the feature{'s' * (len(absent) > 1)} {', '.join(absent)}")
            if target and target not in names:
                raise RowSourceError(f"{path} lacks the column {target}, which is to have the labels")
            for values in rows:
                yield _sample(values, features, target)
    except (OSError, ArrowInvalid, ValueError) as error:
        raise RowSourceError(f"{path} cannot be read: {error}") from None


def load_held_out_samples(bundle: Path, features: Sequence[Feature]) -> list[Sample]:
    """Read the held-out rows that a bundle carries, with their true labels.

    Raises:
        RowsError: there is no such bundle, or it carries none.
    """
    try:
        traffic = json.loads(read_regular(bundle / "model.json", max_bytes=MAX_MANIFEST_BYTES))["traffic"]
        if traffic is not None:
            path = bundle / Path(traffic["file"]).name
            size = stat_regular(path).st_size
            if traffic.get("size", size) not in (None, size):
                raise RowSourceError(
                    f"{path} has not the size that the bundle's model.json says: altered, or copied in part"
                )
            return load_samples(path, features, traffic["target"])
    except NotRegularError as error:
        raise RowSourceError(str(error)) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RowSourceError(f"{bundle} is not a bundle that can be read: {error!r}") from None
    raise RowSourceError(f"{bundle} carries no held-out rows; name a file with --data")


class ReferenceSampler:
    """Draws rows from the reference bins, one feature at a time.

    Each feature is distributed as in the training data; that features depend on each other is lost, so the answers
    are of little use, while the inputs do not look like drift.
    """

    def __init__(self, features: Sequence[Feature], rng: random.Random) -> None:
        self._drawers = {feature.name: value_sampler(feature, rng) for feature in features}

    def __iter__(self) -> Iterator[Sample]:
        """Rows without end."""
        while True:
            yield Sample({name: draw() for name, draw in self._drawers.items()})


def value_sampler(feature: Feature, rng: random.Random) -> Callable[[], object]:
    """What draws one value that the schema allows: from the bins, or the example where there are none to draw from."""
    bins = _numeric_samplers(feature, rng) if feature.type in NUMERIC_TYPES else _category_samplers(feature, rng)
    if feature.nullable:
        bins[MISSING] = lambda: None
    shares = feature.reference.shares
    labels = [label for label in bins if shares.get(label, 0) > 0]
    if not labels:
        return lambda: feature.example
    weights = [shares[label] for label in labels]

    def draw() -> object:
        (label,) = rng.choices(labels, weights)
        return bins[label]()

    return draw


def _numeric_samplers(feature: Feature, rng: random.Random) -> dict[str, Callable[[], object]]:
    """A bin's values lie evenly between its edges, the outer ones at the ends of the training range."""
    edges = feature.reference.edges
    if feature.training_range is None and not edges:
        return {}
    ends = feature.training_range
    if ends is None:  # it is private: the outer bins are as wide as the others, more or less
        assert edges  # noqa: S101  by the lines above
        reach = max((edges[-1] - edges[0]) / 8, 1.0)
        ends = (edges[0] - reach, edges[-1] + reach)
    low, high = feature.valid_range or ends
    bounds = (ends[0], *(edges or ()), ends[1])

    def between(start: float, end: float) -> Callable[[], object]:
        def draw() -> object:
            drawn = min(max(rng.uniform(start, end), start), end)
            value = min(max(drawn, low), high)
            if feature.type == "integer":
                return min(max(round(value), math.ceil(low)), math.floor(high))
            return value

        return draw

    return {f"{index:02d}": between(*ends) for index, ends in enumerate(itertools.pairwise(bounds))}


def _category_samplers(feature: Feature, rng: random.Random) -> dict[str, Callable[[], object]]:
    """A bin is one value; `other` is any category that has none."""
    if feature.type == "boolean":
        return {"true": lambda: True, "false": lambda: False}
    kind = feature.level_kind or "text"
    known = {level_name(level, kind): level for level in feature.categories or ()}
    rest = [level for name, level in known.items() if name not in feature.reference.shares]
    if not known:  # private
        return {OTHER: lambda: feature.example}
    bins: dict[str, Callable[[], object]] = {name: partial(_itself, level) for name, level in known.items()}
    return bins | ({OTHER: partial(rng.choice, rest)} if rest else {})


def _itself(level: object) -> object:
    return level


def cycle_shuffled(samples: Sequence[Sample], rng: random.Random) -> Iterator[Sample]:
    """Every sample once in a random order, then again in another, without end."""
    order = list(samples)
    while True:
        rng.shuffle(order)
        yield from order


# Columns, and rows that have them.
_Batch = tuple[Collection[str], Sequence[Mapping[str, object]]]


def _csv_batches(path: Path, features: Sequence[Feature]) -> Iterator[_Batch]:
    texts = {feature.name: pa.string() for feature in features if feature.is_text}
    # An empty field is a missing value, in text columns too.
    options = pyarrow.csv.ConvertOptions(column_types=texts, strings_can_be_null=True)
    with pyarrow.csv.open_csv(path, convert_options=options) as reader:
        for batch in reader:
            yield batch.schema.names, batch.to_pylist()


def _parquet_batches(path: Path, _: Sequence[Feature]) -> Iterator[_Batch]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield batch.schema.names, batch.to_pylist()


def _json_batches(path: Path, _: Sequence[Feature]) -> Iterator[_Batch]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is no JSON object")
                yield row.keys(), [row]


def _sample(values: Mapping[str, object], features: Sequence[Feature], target: str | None) -> Sample:
    row = {feature.name: _convert_value(values[feature.name], feature) for feature in features}
    return Sample(row, _to_json_value(values.get(target)) if target else None)


def _convert_value(value: object, feature: Feature) -> object:
    """The value as JSON has it: a gap becomes null, 0 and 1 booleans where the feature is one, a category text."""
    plain = _to_json_value(value)
    if plain is None:
        return None
    if feature.type == "boolean" and plain in (0, 1):
        return bool(plain)
    return coerce_level(plain, feature.level_kind) if feature.level_kind else plain


def _to_json_value(value: object) -> object:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Decimal):  # of Parquet; CSV has floats
        return None if value.is_nan() else float(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
