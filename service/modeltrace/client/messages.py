"""Requests to the service and its responses, as typed values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import httpx
import orjson

from modeltrace.client.service import error_message
from modeltrace.errors import InvalidFeaturesError, MalformedRequestError, ModeltraceError, Violation

Label: TypeAlias = str | int | float | bool
# A true label: of a model with several outputs, a list with a label for each, or a mapping of labels by name.
TrueLabel: TypeAlias = Label | Sequence[Label | None] | Mapping[str, Label | None]
# The members of a response that are fields of `Prediction` with the same name.
OUTPUT_MEMBERS: Final = ("label", "confidence", "value", "probabilities", "outputs", "interval")
# The features of a row by name, or an object with `to_dict()`, such as a row of a pandas data frame.
Row: TypeAlias = Mapping[str, Any] | Any
# Rows, or a pandas data frame.
Rows: TypeAlias = Iterable[Row] | Any


class ServiceError(ModeltraceError):
    """The service answered a request with an error.

    Attributes:
        status: the HTTP status of the response; 200 if the service rejected this item of a list only.
        error_type: the service's name of the error, such as `busy`; "" if a proxy answered.
        trace_id: the trace of the request.
    """

    def __init__(self, message: str, status: int, error_type: str = "", trace_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.trace_id = trace_id


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction of the service. A classifier has `label` and `confidence`, a regressor `value`.

    Other models have `outputs` by name, and outlier detectors and clusterers `label`, too.

    `prediction_id` sends the true label later; `trace_id` finds the telemetry, `None` if telemetry is disabled.
    `probabilities` are those of all classes by name, and `interval` the bounds of the prediction interval, if the
    response has them.
    """

    prediction_id: str
    model_name: str
    model_version: str
    trace_id: str | None
    label: Label | None = None
    confidence: float | None = None
    value: float | None = None
    probabilities: Mapping[str, float | None] | None = None
    external_id: str | None = None
    outputs: Mapping[str, Label] | None = None
    interval: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """The result for a true label. `status` is `new`, or `same` if the service had this label already."""

    prediction_id: str
    status: str
    trace_id: str | None


def predict_path(path: str, *, probabilities: bool | None, interval: bool = False) -> str:
    """Return the path with the query that requests details.

    Args:
        path: the path.
        probabilities: whether to return the probability of each class; `None`: as the service is configured.
        interval: whether to return the prediction interval.
    """
    query = [] if probabilities is None else [f"probabilities={str(probabilities).lower()}"]
    query += ["interval=true"] * interval
    return f"{path}?{'&'.join(query)}" if query else path


def encode_row(row: Row, external_id: str | None = None, tags: Mapping[str, str] | None = None) -> bytes:
    """Return the body of `POST /predict`.

    Raises:
        MalformedRequestError: a value cannot be sent as JSON.
    """
    return _encode_with({"features": _plain_row(row)}, id=external_id, tags=tags)


def encode_rows(
    rows: Sequence[Row],
    external_ids: Sequence[str | None] | None = None,
    tags: Mapping[str, str] | Sequence[Mapping[str, str] | None] | None = None,
) -> bytes:
    """Return the body of `POST /predict/batch`.

    Raises:
        MalformedRequestError: a value cannot be sent as JSON.
    """
    ids = None if external_ids is None else [*external_ids]
    return _encode_with({"rows": [_plain_row(row) for row in rows]}, ids=ids, tags=tags)


def encode_labels(labels: Sequence[tuple[str, object]], *, by_external_id: bool = False) -> bytes:
    """Return the body of `POST /feedback` for pairs of prediction ID, or external ID, and label.

    Raises:
        MalformedRequestError: a label cannot be sent as JSON.
    """
    key = "id" if by_external_id else "prediction_id"
    items = [{key: identifier, "label": _plain(label, "label")} for identifier, label in labels]
    return _encode({"items": items})


def to_records(rows: Rows) -> list[Row]:
    """Return rows as a list. A data frame becomes a dictionary per row."""
    return list(rows.to_dict("records") if hasattr(rows, "to_dict") else rows)


def parse_prediction(response: httpx.Response) -> Prediction:
    """Parse the response to `POST /predict`.

    Raises:
        InvalidFeaturesError: the row violates the feature schema.
        ServiceError: another error.
    """
    body = _parse(response)
    return _prediction(body, body["model"], body["trace_id"])


def parse_predictions(response: httpx.Response) -> list[Prediction | InvalidFeaturesError]:
    """Parse the response to `POST /predict/batch`: a prediction per row, or the reason why the row is rejected.

    Raises:
        ServiceError: the whole batch failed.
    """
    body = _parse(response)
    return [
        _violations(entry) if "error" in entry else _prediction(entry, body["model"], body["trace_id"])
        for entry in body["predictions"]
    ]


def parse_feedback(response: httpx.Response) -> list[FeedbackResult | ServiceError]:
    """Parse the response to `POST /feedback`: a result per label, or the reason why the label is rejected.

    Raises:
        ServiceError: no label was stored.
    """
    body = _parse(response)
    return [
        ServiceError(entry["error"]["message"], response.status_code, entry["error"]["type"], body["trace_id"])
        if "error" in entry
        else FeedbackResult(entry["prediction_id"], entry["status"], entry["trace_id"])
        for entry in body["results"]
    ]


def _prediction(entry: Mapping[str, Any], model: Mapping[str, str], trace_id: str | None) -> Prediction:
    outputs = {name: entry[name] for name in OUTPUT_MEMBERS if name in entry}
    ids = entry["prediction_id"], model["name"], model["version"], trace_id
    return Prediction(*ids, external_id=entry.get("id"), **outputs)


def _violations(body: Mapping[str, Any]) -> InvalidFeaturesError:
    return InvalidFeaturesError([Violation(**violation) for violation in body["error"]["violations"]])


def _parse(response: httpx.Response) -> Mapping[str, Any]:
    """Return the body of a successful response.

    Raises:
        InvalidFeaturesError: the row violates the feature schema.
        ServiceError: another error, or the response is not from a Modeltrace service.
    """
    try:
        body: Mapping[str, Any] = orjson.loads(response.content)
        error = {} if response.status_code == HTTPStatus.OK else body["error"]
        if "violations" in error:
            raise _violations(body)
    except (ValueError, KeyError, TypeError):
        body, error = {}, {}
    if response.status_code != HTTPStatus.OK or not body:
        message = f"{response.url} answers {response.status_code}: {error_message(response)}"
        raise ServiceError(message, response.status_code, error.get("type", ""), body.get("trace_id"))
    return body


def _plain_row(row: Row) -> Any:  # noqa: ANN401  what is not a mapping is sent as it is, and the service rejects it
    fields = row.to_dict() if hasattr(row, "to_dict") else row
    return {str(k): _plain(v, k) for k, v in fields.items()} if isinstance(fields, Mapping) else fields


def _plain(value: Any, name: str) -> Any:  # noqa: ANN401  any value
    """Return a value as JSON has it: NaN, NaT and NA as null, NumPy's scalars and decimals as numbers."""
    if isinstance(value, float):
        if math.isinf(value):
            raise MalformedRequestError(f"{name}: a number must be finite")
        return None if math.isnan(value) else float(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Decimal):
        return None if value.is_nan() else float(value)
    if type(value).__name__ in ("NAType", "NaTType"):  # without an import of pandas
        return None
    return _plain(value.item(), name) if hasattr(value, "item") else value


def _encode_with(body: Mapping[str, Any], **optional: object) -> bytes:
    """Encode a body with the optional members that are not `None`."""
    return _encode({**body, **{name: value for name, value in optional.items() if value is not None}})


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise MalformedRequestError(f"a value cannot be sent as JSON: {error}") from None
