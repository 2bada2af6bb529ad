"""The quality of predictions for rows that the model was not fitted on, with which later predictions are compared."""

from typing import Annotated, Literal

from pydantic import Field

from modeltrace.inference.schema import StrictModel

HeldOutMethod = Literal["held_out", "cross_validation"]
Share = Annotated[float, Field(ge=0, le=1)]
Error = Annotated[float, Field(ge=0)]


class HeldOut(StrictModel):
    """The quality of predictions for rows that the model was not fitted on.

    With `held_out`, the packed model predicted test rows. With `cross_validation`, clones of the estimator were
    fitted on a part of the training data and predicted the rest.
    """

    method: HeldOutMethod
    rows: int = Field(ge=1)
    # Rows that have a label. Accuracy and errors are computed from them, and are absent if it is 0.
    labelled_rows: int = Field(default=0, ge=0)
    # Of a classifier: the share of labelled rows whose label was predicted.
    accuracy: Share | None = None
    # Of a classifier: the share of rows below the confidence threshold. Absent if a row has no confidence.
    low_confidence_share: Share | None = None
    # Of a regressor: mean, standard deviation and deciles of the absolute errors.
    mean_absolute_error: Error | None = None
    absolute_error_deviation: Error | None = None
    absolute_error_deciles: Annotated[tuple[Error, ...], Field(min_length=9, max_length=9)] | None = None
