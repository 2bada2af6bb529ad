"""How the true labels of clusterers, and of models with several outputs, are stored and exported.

The true label of a classifier, a regressor or an outlier detector is the correct output itself. Other labels are JSON
objects, because the true class of a row is not a cluster, and a label for several outputs has several values:

    clusterer          {"class": true class}
    several outputs    {"classes": {name: class, …}, "values": {name: number, …}}

The second object names each output once. An output whose true label is unknown is null.
"""

from collections.abc import Mapping
from typing import Final, Literal

CLASS: Final = "class"
OutputKind = Literal["classes", "values"]
OUTPUT_KINDS: Final[tuple[OutputKind, ...]] = ("classes", "values")

TrueValue = str | int | float | bool | None
# A true label as it is stored.
StoredTrueLabel = str | int | float | bool | dict[str, TrueValue] | dict[str, dict[str, TrueValue]]


def of_cluster(true_class: TrueValue) -> dict[str, TrueValue]:
    """Return the stored form of the true class of a row that a clusterer has assigned to a cluster."""
    return {CLASS: true_class}


def of_outputs(kinds: Mapping[str, OutputKind], labels: Mapping[str, TrueValue]) -> dict[str, dict[str, TrueValue]]:
    """Return the stored form of the true labels of several outputs.

    Args:
        kinds: the kind of each output of the model, by name.
        labels: the known true labels, by name.
    """
    return {
        kind: {name: labels.get(name) for name, of_output in kinds.items() if of_output == kind}
        for kind in OUTPUT_KINDS
        if kind in kinds.values()
    }
