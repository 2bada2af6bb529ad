"""Names of the bins into which the values of a feature and the outputs of a model are counted."""

from typing import Final

MISSING: Final = "missing"
OTHER: Final = "other"
UNSEEN: Final = "unseen"


def numeric_bin_name(index: int) -> str:
    """Return the name of the numeric bin with an index from 0: `00`, `01`, …."""
    return f"{index:02d}"
