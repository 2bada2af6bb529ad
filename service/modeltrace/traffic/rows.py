"""Sources of rows: a file, the test rows of a bundle, or the reference bins of the model's training data."""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from modeltrace.bin_names import MISSING, OTHER, numeric_bin_name
from modeltrace.errors import ModeltraceError
from modeltrace.inference.category_levels import level_name
from modeltrace.inference.schema import Feature
from modeltrace.regular_files import MAX_MANIFEST_BYTES, NotRegularError, read_regular, stat_regular
from modeltrace.tables.reader import TableError, open_table
from modeltrace.tables.values import converter, infer_text, to_json_value
from modeltrace.traffic.fault_injection import NUMERIC_TYPES, Row

# Rows kept in memory. Of a larger file, the first rows are used.
MAX_ROWS = 100_000


class RowSourceError(ModeltraceError):
    """Rows cannot be read from the given source."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A row to send, and its true label if known; with several columns of labels, a tuple of their values."""

    row: Row
    label: object = None


def load_samples(path: Path, features: Sequence[Feature], target: str | None = None) -> list[Sample]:
    """Load up to `MAX_ROWS` rows from a file. See `read_samples`.

    Raises:
        RowSourceError: the file cannot be read, has no rows, or lacks a feature.
    """
    samples = list(itertools.islice(read_samples(path, features, [target] if target else ()), MAX_ROWS))
    if not samples:
        raise RowSourceError(f"{path} has no rows")
    return samples


def read_samples(
    path: Path, features: Sequence[Feature], targets: Sequence[str] = (), *, lenient: bool = False
) -> Iterator[Sample]:
    """Iterate over all rows of a file. Columns that are not features are ignored.

    Args:
        path: the file, in a format of `modeltrace.tables.reader`.
        features: the features of the model. A category is read as text even if it looks like a number.
        targets: the columns with the true labels.
        lenient: as `modeltrace score`: a row that cannot be read becomes a text, which the model rejects as a row, and
            a feature or a label that a line of JSON Lines does not have is missing.

    Raises:
        RowSourceError: the file or one of its rows cannot be read, or it lacks a feature or a target column.
    """
    try:
        with open_table(path) as table:
            converters = {feature.name: converter(feature, table.format) for feature in features}
            convert_label = infer_text if table.format in ("csv", "tsv") else to_json_value
            for row in table.rows:
                if row.error and lenient:
                    yield Sample(row.error)  # type: ignore[arg-type]  # no object, so that the model rejects it
                    continue
                if row.error:
                    raise RowSourceError(f"{path} cannot be read: row {row.number}: {row.error}")
                values = row.values
                if lenient and table.columns is None:
                    values = {**dict.fromkeys((*converters, *targets)), **values}
                if absent := [name for name in converters if name not in values]:
                    raise RowSourceError(f"{path} lacks the feature{'s' * (len(absent) > 1)} {', '.join(absent)}")
                if absent := [target for target in targets if target not in values]:
                    raise RowSourceError(f"{path} lacks the column {absent[0]} with the true labels")
                features_of_row = {name: convert(values[name]) for name, convert in converters.items()}
                labels = tuple(convert_label(values[target]) for target in targets)
                yield Sample(features_of_row, labels if len(labels) > 1 else next(iter(labels), None))
    except TableError as error:
        raise RowSourceError(str(error)) from None


def load_test_samples(bundle: Path, features: Sequence[Feature]) -> list[Sample]:
    """Load the test rows of a bundle, with their true labels.

    Raises:
        RowSourceError: there is no such bundle, or it has no test rows.
    """
    try:
        traffic = json.loads(read_regular(bundle / "model.json", max_bytes=MAX_MANIFEST_BYTES))["traffic"]
        if traffic is not None:
            path = bundle / Path(traffic["file"]).name
            size = stat_regular(path).st_size
            if traffic.get("size", size) not in (None, size):
                raise RowSourceError(
                    f"{path} does not have the size that model.json states: it was changed, or copied incompletely"
                )
            return load_samples(path, features, traffic["target"])
    except NotRegularError as error:
        raise RowSourceError(str(error)) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RowSourceError(f"{bundle} is not a readable bundle: {error!r}") from None
    raise RowSourceError(f"{bundle} has no test rows; name a file with --data")


def sample_reference(features: Sequence[Feature], rng: random.Random) -> Iterator[Sample]:
    """Yield rows without end, sampled from the reference bins of each feature.

    Each feature has the distribution of the training data, so the inputs show no drift. The features are independent of
    each other, so the predictions are not realistic.
    """
    samplers = {feature.name: value_sampler(feature, rng) for feature in features}
    while True:
        yield Sample({name: sample() for name, sample in samplers.items()})


def value_sampler(feature: Feature, rng: random.Random) -> Callable[[], object]:
    """Return a function that samples a valid value from the reference bins. Without bins, it returns the example."""
    bins = (
        _numeric_samplers(feature, rng)
        if feature.type in NUMERIC_TYPES or feature.is_time
        else _category_samplers(feature, rng)
    )
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
    """Sample uniformly between the edges of a bin. The outer bins end at the limits of the training range."""
    edges = feature.reference.edges
    limits = feature.training_range
    if limits is None:  # the feature is private: make the outer bins about as wide as the others
        if not edges:
            return {}
        width = max((edges[-1] - edges[0]) / 8, 1.0)
        limits = (edges[0] - width, edges[-1] + width)
    low, high = feature.valid_range or limits
    bounds = (limits[0], *(edges or ()), limits[1])

    def draw(start: float, end: float) -> object:
        value = min(max(rng.uniform(start, end), start), end)
        value = min(max(value, low), high)
        if feature.is_time:
            return feature.time_column.to_text(round(value * 1e6))
        if feature.type == "integer":
            return min(max(round(value), math.ceil(low)), math.floor(high))
        return value

    pairs = itertools.pairwise(bounds)
    return {numeric_bin_name(index): partial(draw, *edge_pair) for index, edge_pair in enumerate(pairs)}


def _category_samplers(feature: Feature, rng: random.Random) -> dict[str, Callable[[], object]]:
    """Return a sampler per bin. A bin is one value; the bin `other` is any category that has no bin."""
    if feature.type == "boolean":
        return {"true": lambda: True, "false": lambda: False}
    kind = feature.level_kind or "text"
    levels = {level_name(level, kind): level for level in feature.categories or ()}
    if not levels:  # the feature is private
        return {OTHER: lambda: feature.example}
    without_bin = [level for name, level in levels.items() if name not in feature.reference.shares]
    bins: dict[str, Callable[[], object]] = {name: itertools.repeat(level).__next__ for name, level in levels.items()}
    return bins | ({OTHER: partial(rng.choice, without_bin)} if without_bin else {})


def cycle_shuffled(samples: Sequence[Sample], rng: random.Random) -> Iterator[Sample]:
    """Yield all samples in random order, again and again, each time in another order."""
    order = list(samples)
    while True:
        rng.shuffle(order)
        yield from order
