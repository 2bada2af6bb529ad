"""A challenger that is another Modeltrace service. It receives the same rows over HTTP, in the same trace.

    shadow span (CLIENT, here) ─ traceparent ─► POST /predict (SERVER span, there) ─► its child spans

The other service counts its predictions in its own metrics, so they are not counted here. Each prediction is stored
here with the ID of the primary prediction, so a label of the primary prediction is also its label.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx
import orjson

from modeltrace.errors import SettingsError
from modeltrace.failure_log import FailureLog
from modeltrace.serving.shadow_queue import OnOutcome, StartShadow, predicted_rows
from modeltrace.serving.version import CHALLENGER
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import PredictedRow, RemoteCall
from modeltrace.telemetry.records.trace import RequestTrace, propagation_headers
from modeltrace_http.bearer import bearer_headers

logger = logging.getLogger("modeltrace.serving")

# Seconds until a request times out. Shadow requests that wait meanwhile may be dropped.
TIMEOUT: Final = 2.0

# Applies the privacy rules of a model to its rows.
RedactRows = Callable[[ModelInfo, Sequence[PredictedRow]], Sequence[PredictedRow]]


class RemoteChallenger:
    """Sends shadow requests to another service. Not thread-safe."""

    max_batch = 1  # a call may be slow, and the queue limit does not count requests of a running call
    interval = 0.00005  # releases the interpreter lock to the threads that answer clients

    def __init__(
        self,
        url: str,
        start_shadow: StartShadow,
        redact: RedactRows,
        *,
        api_key: str | None = None,
    ) -> None:
        """Create the HTTP client of the service at `url`; `redact` applies privacy rules to rows recorded here.

        Raises:
            SettingsError: the URL or the key is invalid.
        """
        self._url = parse_url(url)
        try:
            headers = bearer_headers(api_key, "MODELTRACE_CHALLENGER_API_KEY")
        except ValueError as error:
            raise SettingsError(str(error)) from None
        self._start_shadow = start_shadow
        self._redact = redact
        self._client = httpx.Client(
            base_url=self._url,
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=1),
            headers=headers,
        )
        self._hashes: dict[tuple[str, str], str] = {}
        self._failures = FailureLog(logger, "the challenger does not answer for now", "the challenger answers again")

    def __call__(self, requests: Sequence[RequestTrace], on_outcome: OnOutcome) -> None:
        """Send all rows of each request in one call, and record the predictions."""
        for request in requests:
            self._send(request, on_outcome)

    def _send(self, request: RequestTrace, on_outcome: OnOutcome) -> None:
        if request.model is None:
            return
        rows = predicted_rows(request)
        path, body = ("/predict/batch", {"rows": rows}) if request.is_batch else ("/predict", {"features": rows[0]})
        with self._start_shadow(request) as trace:
            trace.is_batch, trace.rows = request.is_batch, len(rows)
            status, error_type, response = self._post(path, body, trace)
            url = f"{self._url}{path}"
            port = self._url.port or (443 if self._url.scheme == "https" else 80)
            trace.remote_call = RemoteCall(url, self._url.host, port, status, error_type)
            if error_type:
                self._failures.update(f"{url}: {error_type}")
                rejected = status == httpx.codes.UNPROCESSABLE_ENTITY
                on_outcome("refused" if rejected else "failed", len(rows), error_type)
                return
            self._failures.update()
            predictions = response["predictions"] if request.is_batch else [response]
            outputs: Mapping[str, Any] = next((row["outputs"] for row in predictions if "outputs" in row), {})
            trace.model = self._model_info(response["model"], request.model)._replace(outputs=tuple(outputs))
            trace.predictions = _merge(predictions, self._redact(request.model, request.predictions), trace.now())
            trace.rejected_rows = len(rows) - len(trace.predictions)
        if trace.predictions:
            on_outcome("answered", len(trace.predictions), "")
        if trace.rejected_rows:
            on_outcome("refused", trace.rejected_rows, "invalid_features")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _post(self, path: str, body: Mapping[str, Any], trace: RequestTrace) -> tuple[int, str, Any]:
        """Return the status (0 if there is no response), the `error.type` ("" for success) and the response body."""
        headers = {"content-type": "application/json", **propagation_headers(trace)}
        try:
            response = self._client.post(path, content=orjson.dumps(body), headers=headers)
            if not response.is_success:
                return response.status_code, str(response.status_code), None
            return response.status_code, "", response.json()
        except (httpx.HTTPError, orjson.JSONEncodeError, ValueError) as error:
            return 0, type(error).__qualname__, None

    def _model_info(self, identity: Mapping[str, str], primary: ModelInfo) -> ModelInfo:
        """Return the metadata of the remote model, with the features of the primary model."""
        name, version = identity["name"], identity["version"]
        if (name, version) not in self._hashes:
            model = self._client.get("/model").json()
            # The remote version may have been replaced since the prediction. Its hash is not stored under this version.
            same = (model["name"], model["version"]) == (name, version)
            self._hashes = {(name, version): model["hash"]} if same else self._hashes
        return ModelInfo(name, version, self._hashes.get((name, version), ""), primary.features, role=CHALLENGER)


def _merge(predictions: Sequence[Mapping[str, Any]], rows: Sequence[PredictedRow], time: int) -> list[PredictedRow]:
    """Return the rows with the challenger's predictions, without rows that it rejected.

    The response has no probabilities, because they are not requested; the challenger's service records them.
    """
    return [
        row._replace(
            prediction_id=prediction["prediction_id"],
            label=prediction.get("label"),
            confidence=prediction.get("confidence"),
            value=prediction.get("value"),
            time=time,
            probabilities=None,
            outputs=tuple(prediction["outputs"].values()) if "outputs" in prediction else None,
        )
        for prediction, row in zip(predictions, rows, strict=True)
        if "error" not in prediction
    ]


def parse_url(text: str) -> httpx.URL:
    """Return the URL of a service.

    Raises:
        SettingsError: the URL is invalid, or has more than a host and a port.
    """
    try:
        url = httpx.URL(text.rstrip("/"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.path not in ("", "/") or url.userinfo:
        raise SettingsError("MODELTRACE_CHALLENGER is not the address of a service, e.g. http://10.0.0.7:8000")
    return url.copy_with(path="")
