"""An estimator of the table in docs/models.md."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from modeltrace.bundles.artifact import ArtifactFormat


class Fitted(NamedTuple):
    """A fitted estimator, and the data that it was fitted on."""

    estimator: Any
    training: Any
    target: Any = None


@dataclass(frozen=True)
class EstimatorCase:
    """An estimator of the table. `name` is its row; `group` is the heading above the row."""

    name: str
    group: str
    fit: Callable[[], Fitted]
    artifact_format: ArtifactFormat = "skops"
    quick: bool = False  # also in the normal run of the tests
