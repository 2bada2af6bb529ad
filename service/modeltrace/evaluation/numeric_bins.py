"""Bins of a numeric feature, which divide predictions into segments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modeltrace.bin_names import describe_numeric_bins


@dataclass(frozen=True, slots=True)
class NumericBins:
    """The bins between edges: bin `i` contains `edges[i-1] < x <= edges[i]`."""

    edges: tuple[float, ...]
    to_number: Callable[[Any], Any] | None = None  # converts a recorded value, such as the text of a time
    to_text: Callable[[float], str] = "{:g}".format  # formats an edge

    @property
    def names(self) -> list[str]:
        """The bounds of each bin in words."""
        return describe_numeric_bins(self.edges, self.to_text)

    def digitize(self, values: Sequence[Any]) -> NDArray[np.intp]:
        """Return the bin of each value, shape (n_values,); `len(edges) + 1` for a value that is not a number."""
        if self.to_number is not None:
            values = [self.to_number(value) for value in values]
        numbers = np.array(
            [value if isinstance(value, int | float) and not isinstance(value, bool) else np.nan for value in values],
            dtype=np.float64,
        )
        bins = np.searchsorted(np.asarray(self.edges), numbers, side="left")
        bins[np.isnan(numbers)] = len(self.edges) + 1
        return bins
