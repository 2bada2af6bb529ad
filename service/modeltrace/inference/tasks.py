"""The kinds of estimators, by their answers."""

from typing import Final, Literal

# `multi_output` is a classifier or a regressor with several outputs.
Task = Literal["classifier", "regressor", "outlier_detector", "clusterer", "multi_output", "transformer"]
# The tasks whose predictions can have true labels: the model predicts one label or one value that may be wrong.
LABELLED_TASKS: Final[tuple[Task, ...]] = ("classifier", "regressor", "outlier_detector")
# The tasks whose predictions are neither one label nor one value, so that their drift is not monitored.
UNMONITORED_TASKS: Final[tuple[Task, ...]] = ("multi_output", "transformer")
