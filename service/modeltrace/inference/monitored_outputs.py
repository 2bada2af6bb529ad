"""The distribution of a model's named outputs before it was served, the reference of their drift.

A score, a distance and each of several targets is compared with its own distribution. An embedding has too many numbers
that mean nothing alone, so two numbers of it are compared: its Euclidean norm, and its Euclidean distance from the mean
of the embeddings before the model was served.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from modeltrace.inference.named_outputs import Output
from modeltrace.inference.schema import OutputReference, StrictModel

# Further outputs of a model with more targets are not monitored: each has up to 24 series and five statistics.
MAX_MONITORED_OUTPUTS: Final = 32
# What is monitored of an embedding.
NORM: Final = "norm"
DISTANCE_FROM_MEAN: Final = "distance_from_mean"


class MonitoredOutputs(StrictModel):
    """The distribution of each monitored output, by name.

    Attributes:
        references: the bins and shares of each output; of an embedding, those of `NORM` and `DISTANCE_FROM_MEAN`.
        mean: the mean of the embeddings, a number for each named output; `None` if the outputs are no embedding.
    """

    references: dict[str, OutputReference]
    mean: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _has_bins(self) -> Self:
        if not 0 < len(self.references) <= MAX_MONITORED_OUTPUTS:
            raise ValueError(
                f"there are {len(self.references)} distributions, 1 to {MAX_MONITORED_OUTPUTS} are allowed"
            )
        for name, reference in self.references.items():
            if not reference.has_valid_bins(()):
                raise ValueError(f"{name} is not a distribution")
        if self.mean is not None and set(self.references) != {NORM, DISTANCE_FROM_MEAN}:
            raise ValueError(f"an embedding has the distributions {NORM} and {DISTANCE_FROM_MEAN}")
        return self

    def check(self, outputs: Sequence[Output]) -> None:
        """Check that the distributions belong to the named outputs of a model.

        Raises:
            ValueError: an output does not exist, has another kind, or the mean has another length.
        """
        if self.mean is not None:
            if len(self.mean) != len(outputs) or any(output.classes for output in outputs):
                raise ValueError("the mean of the embeddings does not have a number for each output")
            return
        kinds = {output.name: output.classes is None for output in outputs}
        for name, reference in self.references.items():
            if kinds.get(name) is not (reference.edges is not None):
                raise ValueError(f"the distribution of {name} does not belong to an output of this kind")


def embedding_values(rows: Sequence[Sequence[object]], mean: Sequence[float]) -> Mapping[str, NDArray[np.float64]]:
    """Return norm and distance from the mean of embeddings, each of the shape (n_rows,).

    A number that is too large for a float becomes the largest float.
    """
    embeddings = np.array(rows, dtype=np.float64)
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(embeddings, axis=1)
        distances = np.linalg.norm(embeddings - np.array(mean), axis=1)
    return {NORM: np.nan_to_num(norms), DISTANCE_FROM_MEAN: np.nan_to_num(distances)}
