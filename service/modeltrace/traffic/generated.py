"""Generate fresh, independent rows from the generator in a bundle. Only the built-in example has one."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from modeltrace.bundles.file_names import GENERATOR_FILE
from modeltrace.bundles.generator import GaussianCopula
from modeltrace.inference.schema import Feature
from modeltrace.regular_files import read_regular
from modeltrace.traffic.rows import RowSourceError, Sample

# Rows generated at a time. A small chunk makes the first row available soon.
CHUNK_ROWS: Final = 256
# The file of the example has 0.2 MB.
MAX_BYTES: Final = 16 * 2**20


def generate_samples(bundle: Path, features: Sequence[Feature], rng: random.Random) -> Iterator[Sample]:
    """Yield labelled rows without end. Runs with different seeds yield different rows.

    Raises:
        RowSourceError: the bundle's generator cannot be read, or lacks a feature.
    """
    path = bundle / GENERATOR_FILE
    try:
        columns = json.loads(read_regular(path, max_bytes=MAX_BYTES))
        values = np.column_stack([columns.pop(feature.name) for feature in features]).astype(np.float64)
        (labels,) = columns.values()
    except KeyError as error:
        raise RowSourceError(f"{path} lacks the feature {error.args[0]}: it belongs to another model") from None
    except (OSError, AttributeError, ValueError) as error:
        raise RowSourceError(f"{path} cannot be read: {error}") from None
    return _generate(GaussianCopula.fit(values, labels), [feature.name for feature in features], rng)


def _generate(generator: GaussianCopula, names: Sequence[str], rng: random.Random) -> Iterator[Sample]:
    numpy_rng = np.random.default_rng(rng.getrandbits(64))
    while True:
        values, labels = generator.sample(CHUNK_ROWS, numpy_rng)
        for row, label in zip(values.tolist(), labels, strict=True):
            yield Sample(dict(zip(names, row, strict=True)), label)
