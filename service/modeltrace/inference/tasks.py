"""The kinds of estimators, by their answers."""

from collections.abc import Mapping
from typing import Final, Literal

# `multi_output` is a classifier or a regressor with several outputs.
Task = Literal["classifier", "regressor", "outlier_detector", "clusterer", "multi_output", "transformer"]
# How messages name a model of each task.
TASK_NAMES: Final[Mapping[str, str]] = {
    "classifier": "a classifier",
    "regressor": "a regressor",
    "outlier_detector": "an outlier detector",
    "clusterer": "a clusterer",
    "multi_output": "a model with several outputs",
    "transformer": "a transformer",
}
# The tasks whose predictions are one label or one value, which the true label equals if the prediction is right.
LABELLED_TASKS: Final[tuple[Task, ...]] = ("classifier", "regressor", "outlier_detector")
# The tasks whose predictions can have true labels: also the class of a row in a cluster, and labels of several outputs.
TASKS_WITH_FEEDBACK: Final[tuple[Task, ...]] = (*LABELLED_TASKS, "clusterer", "multi_output")
# The tasks whose predictions are neither one label nor one value, but named outputs only.
NAMED_OUTPUT_TASKS: Final[tuple[Task, ...]] = ("multi_output", "transformer")
