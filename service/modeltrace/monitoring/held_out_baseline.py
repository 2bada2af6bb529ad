"""The errors of a model for rows that it was not fitted on, as the baseline of its evaluation."""

from modeltrace.inference.held_out import HeldOut
from modeltrace.telemetry.metrics.model_catalog import Baseline


def baseline_of(held_out: HeldOut | None) -> Baseline | None:
    """Return the baseline of a model; `None` if its bundle does not contain the errors for held-out rows."""
    if held_out is None or not held_out.labelled_rows:
        return None
    if held_out.accuracy is not None:
        return Baseline(held_out.labelled_rows, 1 - held_out.accuracy)
    error, deviation = held_out.mean_absolute_error, held_out.absolute_error_deviation
    return None if error is None or deviation is None else Baseline(held_out.labelled_rows, error, deviation)
