"""Assign the named outputs of predictions to the bins of their distribution before the model was served."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modeltrace.bin_names import OTHER
from modeltrace.inference.monitored_outputs import MonitoredOutputs, embedding_values
from modeltrace.inference.schema import Value
from modeltrace.monitoring.dependence import bin_scores


class OutputBins:
    """The bins of all monitored outputs of a model in one sequence.

    Attributes:
        monitored: the distributions; equal ones have the same bins.
        names: the names of the monitored outputs.
        bin_names: output and bin name of each bin. The index of a bin in this sequence is its bin number.
        scores: the score of each bin: of a number, its normal score; of a label, NaN.
    """

    def __init__(self, monitored: MonitoredOutputs, output_names: Sequence[str]) -> None:
        references = monitored.references
        self.monitored = monitored
        self.names = tuple(references)
        self.bin_names = tuple((name, bin_name) for name in self.names for bin_name in references[name].shares)
        scores = {name: bin_scores(reference) for name, reference in references.items()}
        self.scores = np.array([scores[name].get(bin_name, math.nan) for name, bin_name in self.bin_names])
        self._starts = np.cumsum([0, *(len(reference.shares) for reference in references.values())])[:-1]
        self._edges = [None if of.edges is None else np.array(of.edges) for of in references.values()]
        self._numbers = [{name: index for index, name in enumerate(of.shares)} for of in references.values()]
        self._columns = [] if monitored.mean is not None else [output_names.index(name) for name in self.names]

    def digitize(self, rows: Sequence[tuple[Value, ...] | None]) -> NDArray[np.intp]:
        """Return the bin number of each monitored output (an index of `bin_names`), shape (n_rows, n_outputs).

        `rows` are the named outputs of predictions, in the order of the model.
        """
        outputs = [row or () for row in rows]
        bins = np.empty((len(outputs), len(self.names)), dtype=np.intp)
        if self.monitored.mean is not None:
            values = embedding_values(outputs, self.monitored.mean)
            for index, (name, edges) in enumerate(zip(self.names, self._edges, strict=True)):
                bins[:, index] = np.searchsorted(edges, values[name]) if edges is not None else 0
        for index, column in enumerate(self._columns):
            edges, numbers = self._edges[index], self._numbers[index]
            of_output = [row[column] for row in outputs]
            if edges is None:
                other = numbers.get(OTHER, 0)
                bins[:, index] = [numbers.get(str(label), other) for label in of_output]
            else:
                bins[:, index] = np.searchsorted(edges, np.array(of_output, dtype=np.float64))
        bins += self._starts
        return bins
