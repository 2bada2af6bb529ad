"""Sums of the errors of predictions by segment, and the attributes whose values are segments."""

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from modeltrace.evaluation.groups import MAX_GROUPS
from modeltrace.evaluation.numeric_bins import NumericBins

# The code of predictions without a value.
WITHOUT = 0


class SegmentSums:
    """For each segment: the number of predictions, sums of their errors, and the prediction with the largest error.

    Attributes:
        rows: number of predictions, shape (size,).
        errors: sum of the errors.
        squares: sum of the squared errors.
        worst_errors: the largest error; -1 without a prediction.
        worst: the prediction with the largest error, the latest of equal ones; `None` without a prediction.
    """

    def __init__(self, size: int) -> None:
        self.rows = np.zeros(size, dtype=np.int64)
        self.errors = np.zeros(size)
        self.squares = np.zeros(size)
        self.worst = np.full(size, None, dtype=object)
        self.worst_errors = np.full(size, -1.0)

    def add(self, segments: NDArray[np.intp], errors: NDArray[np.float64], predictions: NDArray[np.object_]) -> None:
        """Add predictions in order of time: the segment, the error and the `PredictionRef` of each."""
        size = len(self.rows)
        self.rows += np.bincount(segments, minlength=size)
        self.errors += np.bincount(segments, errors, size)
        self.squares += np.bincount(segments, errors**2, size)
        order = np.argsort(errors, kind="stable")
        latest = np.full(size, -1)
        latest[segments[order]] = order  # of several assignments to an element, the last one counts
        changed = np.flatnonzero(latest >= 0)
        changed = changed[errors[latest[changed]] >= self.worst_errors[changed]]
        self.worst_errors[changed] = errors[latest[changed]]
        self.worst[changed] = predictions[latest[changed]]

    def copy_total(self, total: "SegmentSums") -> None:
        """Copy the sums over all predictions so far to the segment of predictions without a value."""
        columns: list[tuple[NDArray[Any], NDArray[Any]]] = [
            (self.rows, total.rows), (self.errors, total.errors), (self.squares, total.squares),
            (self.worst, total.worst), (self.worst_errors, total.worst_errors),
        ]  # fmt: skip
        for mine, other in columns:
            mine[WITHOUT] = other[0]


class Attribute:
    """A tag or a feature. Each value, or each bin of a numeric feature, has a code, from 0 for no value."""

    def __init__(self, name: str, bins: NumericBins | None, *, is_tag: bool) -> None:
        self.name = name
        self.is_tag = is_tag
        self.bins = bins
        size = MAX_GROUPS + 1 if bins is None else len(bins.edges) + 2
        self.sums = SegmentSums(size)
        self.has_too_many_values = False
        self._codes: dict[object, int] = {None: WITHOUT}

    def encode(self, values: list[object]) -> NDArray[np.intp]:
        """Return the code of each value, shape (n_values,). Values beyond `MAX_GROUPS` have the code 0."""
        if self.bins is not None:
            codes = self.bins.digitize(values) + 1
            codes[codes == len(self.bins.edges) + 2] = WITHOUT
            return codes
        return np.array([self._code(value) for value in values], dtype=np.intp)

    def value(self, code: int) -> str | None:
        """Return the value of a code as text; `None` for no value."""
        if code == WITHOUT:
            return None
        if self.bins is not None:
            return self.bins.names[code - 1]
        key = next(key for key, number in self._codes.items() if number == code)
        assert isinstance(key, str | bytes)  # noqa: S101  the other key is `None`
        return key if isinstance(key, str) else key.decode()

    def _code(self, value: object) -> int:
        # JSON distinguishes true from 1, which are equal in Python.
        key = value if value is None or isinstance(value, str) else orjson.dumps(value)
        code = self._codes.get(key)
        if code is None:
            if len(self._codes) > MAX_GROUPS:
                self.has_too_many_values = True
                return WITHOUT
            code = self._codes[key] = len(self._codes)
        return code
