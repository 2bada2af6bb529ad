"""Names of the bins into which the values of a feature and the outputs of a model are counted."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

MISSING: Final = "missing"
OTHER: Final = "other"
UNSEEN: Final = "unseen"


def numeric_bin_name(index: int) -> str:
    """Return the name of the numeric bin with an index from 0: `00`, `01`, …."""
    return f"{index:02d}"


def describe_numeric_bins(edges: Sequence[float], to_text: Callable[[float], str] = "{:g}".format) -> list[str]:
    """Return the bounds of each numeric bin in words. Without edges, there is one bin, for all numbers."""
    if not edges:
        return ["any number"]
    texts = [to_text(edge) for edge in edges]
    inner = [f"over {low} to {high}" for low, high in pairwise(texts)]
    return [f"up to {texts[0]}", *inner, f"over {texts[-1]}"]
