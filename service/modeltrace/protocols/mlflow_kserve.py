"""Bodies of MLflow's scoring protocol (`/invocations`) and of KServe's protocol V1 (`:predict`)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modeltrace.errors import MalformedRequestError
from modeltrace.inference.model import Label, ModelOutput
from modeltrace.inference.pipeline import Prediction
from modeltrace.protocols.rows import Row, rows_from_columns, rows_from_instances, rows_from_table

MLFLOW_FORMATS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
KSERVE_FORMATS: Final = ("instances", "inputs")
SPLIT_KEYS: Final = frozenset({"columns", "index", "data"})


def rows_from_mlflow(document: Mapping[str, object], names: Sequence[str]) -> Sequence[Row]:
    """Return the rows of a JSON body of `/invocations`. `names` are the features of the model, in order.

    Raises:
        MalformedRequestError: it does not have exactly one of `MLFLOW_FORMATS`, has parameters, or has another shape.
    """
    if document.get("params"):
        raise MalformedRequestError('the model takes no parameters; send the body without "params"')
    key = _only_format(document, MLFLOW_FORMATS)
    if key == "dataframe_split":
        table = document[key]
        if not isinstance(table, dict) or "data" not in table or not table.keys() <= SPLIT_KEYS:
            raise MalformedRequestError(f'"{key}" must be an object with "data", and optionally "columns" and "index"')
        return rows_from_table(table.get("columns"), table["data"], names, key)
    if key == "dataframe_records":
        records = document[key]
        if not isinstance(records, list):
            raise MalformedRequestError(f'"{key}" must be an array of objects')
        return records
    return _rows_from_tensors(document[key], names, key)


def rows_from_kserve(document: Mapping[str, object], names: Sequence[str]) -> Sequence[Row]:
    """Return the rows of a body of KServe's protocol V1. `names` are the features of the model, in order.

    Raises:
        MalformedRequestError: it does not have exactly one of `KSERVE_FORMATS`, or has another shape.
    """
    key = _only_format(document, KSERVE_FORMATS)
    return _rows_from_tensors(document[key], names, key)


def _only_format(document: Mapping[str, object], formats: Sequence[str]) -> str:
    present = [key for key in formats if key in document]
    if len(present) != 1:
        listed = ", ".join(f'"{key}"' for key in formats)
        found = " and ".join(f'"{key}"' for key in present) or "none of them"
        raise MalformedRequestError(f"the body must have exactly one of {listed}; it has {found}")
    return present[0]


def _rows_from_tensors(content: object, names: Sequence[str], key: str) -> Sequence[Row]:
    if isinstance(content, dict):
        return rows_from_columns(content, key)
    return rows_from_instances(content, names, key)


def response_payload(
    predictions: Sequence[Prediction],
    identity: Mapping[str, str],
    class_names: Sequence[str] | None,
    output_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the body of a response, without the trace ID.

    With `class_names`, it has the probability of each class, or the prediction intervals of a regressor.

    `predictions` is what the protocols define: the label or value of each row, in order, or the list of its named
    outputs if it has neither. The other members are additions that clients of the protocols ignore.
    """
    outputs = [prediction.output for prediction in predictions]
    payload: dict[str, Any] = {
        "predictions": [_answer(output) for output in outputs],
        "prediction_ids": [prediction.id for prediction in predictions],
        "model": identity,
    }
    if any(output.confidence is not None for output in outputs):
        payload["confidences"] = [output.confidence for output in outputs]
    if output_names:
        payload["outputs"] = [dict(zip(output_names, output.outputs or (), strict=True)) for output in outputs]
    if class_names is not None and any(output.interval for output in outputs):
        payload["intervals"] = [output.interval for output in outputs]
    elif class_names is not None:
        payload["probabilities"] = [
            output.probabilities and dict(zip(class_names, output.probabilities, strict=True)) for output in outputs
        ]
    return payload


def _answer(output: ModelOutput) -> Label | Sequence[Label] | None:
    if output.value is not None:
        return output.value
    return output.label if output.label is not None else output.outputs
