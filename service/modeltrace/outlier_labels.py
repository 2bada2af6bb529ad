"""The labels of an outlier detector, and the name of its output."""

from typing import Final

INLIER: Final = 1
OUTLIER: Final = -1
# The named output: the result of `decision_function`, which is lower for more unusual rows.
SCORE: Final = "score"
