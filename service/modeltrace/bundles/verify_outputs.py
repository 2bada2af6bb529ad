"""The packed model is asked as requests would ask it, and compared with what the estimator itself answers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from modeltrace.errors import InferenceError, PackError
from modeltrace.inference.features import Matrix, to_matrix
from modeltrace.inference.model import Model, ModelOutput, Task, make_predict_fn, to_json_label
from modeltrace.inference.validate import MAX_FLOAT, Values

# What a confidence may differ by, and a value relative to itself: columns of 32 bits become columns of 64.
RELATIVE_TOLERANCE = 1e-5
# The same for values near 0, as a share of the greatest.
ABSOLUTE_TOLERANCE = 1e-8


def predict_rows(model: Model, table: pd.DataFrame) -> list[ModelOutput]:
    """What the packed model answers to rows as requests would bring them.

    Raises:
        PackError: it cannot answer them.
    """
    try:
        return model.predict(to_matrix(to_rows(table), model.schema, as_frame=model.as_frame))
    except InferenceError as error:
        raise PackError(f"the packed model cannot answer rows of the training data: {_cause_text(error)}") from error
    except Exception as error:  # a value that cannot even be given to the model
        raise PackError(f"rows cannot be put to the model: {type(error).__name__}: {first_line(error)}") from error


def verify_outputs(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    table: pd.DataFrame,
    model: Model,
    packed: Sequence[ModelOutput],
) -> None:
    """Compare the packed model's answers to a table with the estimator's own: label and confidence, or value.

    Raises:
        PackError: they differ; the message names the first row where they do, and the column that makes it differ.
    """
    matrix = table if model.as_frame else to_array(table)
    try:
        said = np.asarray(estimator.predict(matrix))
        own = make_predict_fn(estimator, task)(matrix)
    except Exception as error:
        raise PackError(
            f"the estimator itself cannot answer the training data: {type(error).__name__}: {first_line(error)}"
        ) from error
    if said.size != len(table):
        raise PackError(f"the {type(estimator).__name__} answers several outputs at once; pack one model for each")
    # The label is what predict() says.
    if task == "classifier":
        own = [ModelOutput(to_json_label(label), one.confidence) for label, one in zip(said.ravel(), own, strict=True)]
    scale = max((abs(one.value) for one in own if one.value is not None), default=0.0)
    differing = [place for place, pair in enumerate(zip(packed, own, strict=True)) if _outputs_differ(*pair, scale)]
    if differing:
        raise _mismatch_error(
            estimator, task, table, model, differing, (packed[differing[0]], own[differing[0]]), scale
        )
    if scale > MAX_FLOAT:
        place = next(place for place, one in enumerate(own) if one.value is not None and abs(one.value) > MAX_FLOAT)
        raise PackError(
            f"row {table.index[place]} of the training data: the model answers {own[place].value:g}, beyond "
            f"±{MAX_FLOAT:.2g}, which no label may be; scale the target and fit again"
        )


def verify_example(model: Model) -> None:
    """See that the model answers the example of its schema, which stands in the API's description and proves a start.

    Values of the training data are answered by now, but a text that must not be told has another one as its example.

    Raises:
        PackError: it does not; the message names the feature, and the way out.
    """
    row = tuple(feature.example for feature in model.features)
    try:
        model.predict(to_matrix([row], model.schema, as_frame=model.as_frame))
    except InferenceError as error:
        unnamed = [one for one in model.features if one.is_text and one.privacy in ("hash", "drop")]
        if not unnamed:
            raise PackError(f"the packed model cannot answer its own example: {_cause_text(error)}") from error
        raise PackError(
            f"--privacy {unnamed[0].name}={unnamed[0].privacy}: the model does not take a text that training did not "
            "have, and no text of training may stand in the example. Fit a model that takes unknown texts "
            f"(OneHotEncoder(handle_unknown='ignore')), or pack with --privacy {unnamed[0].name}=bucket"
        ) from error


def to_array(table: pd.DataFrame) -> Matrix:
    """The array that an estimator was fitted on which knows no column names."""
    numeric = all(pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes)
    return table.to_numpy(dtype=np.float64 if numeric else object, na_value=np.nan)


def to_rows(table: pd.DataFrame) -> list[Values]:
    """Rows as requests would bring them."""
    return [tuple(map(_to_json_value, values)) for values in table.itertuples(index=False, name=None)]


def first_line(error: BaseException) -> str:
    """What an exception says first, shortened: it may repeat a value."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"


def _to_json_value(value: Any) -> Any:  # noqa: ANN401  any cell
    """A cell as JSON would carry it."""
    return None if pd.isna(value) else to_json_label(value)


def _cause_text(error: InferenceError) -> str:
    cause = error.__cause__
    return str(error) if cause is None else f"{type(cause).__name__}: {first_line(cause)}"


def _outputs_differ(packed: ModelOutput, own: ModelOutput, scale: float) -> bool:
    if packed.value is not None and own.value is not None:
        return not math.isclose(packed.value, own.value, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE * scale)
    if packed.label != own.label or (packed.confidence is None) != (own.confidence is None):
        return True
    return packed.confidence is not None and abs(packed.confidence - (own.confidence or 0.0)) > RELATIVE_TOLERANCE


def _mismatch_error(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    table: pd.DataFrame,
    model: Model,
    differing: Sequence[int],
    answers: tuple[ModelOutput, ModelOutput],
    scale: float,
) -> PackError:
    place, (packed, own) = differing[0], answers
    column = _find_differing_column(estimator, task, table.iloc[[place]], model, own, scale)
    where = f"row {table.index[place]} of the training data" + ("" if column is None else f", column {column}")
    more = f" ({len(differing):,} of {len(table):,} rows differ)"
    remedy = (
        ""
        if column is None
        else "; a request cannot bring that column as it was in training: turn it into numbers, "
        "booleans or text, fit again, and pack with that data"
    )
    return PackError(
        f"{where}: the packed model predicts {_format_output(packed)}, the estimator {_format_output(own)}"
        f"{more}{remedy}"
    )


def _find_differing_column(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    row: pd.DataFrame,
    model: Model,
    own: ModelOutput,
    scale: float,
) -> str | None:
    """The first column that alone, as the packed model gives it, makes the estimator answer otherwise."""
    given = to_matrix(to_rows(row), model.schema, as_frame=model.as_frame)
    ask_estimator = make_predict_fn(estimator, task)
    for place, name in enumerate(model.schema.names):
        if isinstance(given, pd.DataFrame):
            changed: Matrix = row.assign(**{name: given[name].set_axis(row.index)})
        else:
            changed = to_array(row).copy()
            changed[:, place] = given[:, place]
        try:
            (answer,) = ask_estimator(changed)
        except Exception:  # noqa: BLE001  whatever it raises, it is no answer
            return name
        if _outputs_differ(answer, own, scale):
            return name
    return None


def _format_output(answer: ModelOutput) -> str:
    if answer.value is not None:
        return f"{answer.value:.12g}"
    return (
        str(answer.label)
        if answer.confidence is None
        else f"{answer.label} with a confidence of {answer.confidence:.6g}"
    )
