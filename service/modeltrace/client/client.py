"""Clients of the prediction service: `Client`, and `AsyncClient` for `asyncio`.

A request carries the caller's trace context (W3C Trace Context, or what OTEL_PROPAGATORS names), so that the service's
spans belong to the caller's trace. Requests that the service or the network cannot answer for a moment are repeated.
"""

from collections.abc import Iterable, Mapping
from ssl import SSLContext
from typing import Final, Self, TypeAlias

import httpx
from opentelemetry import propagate

from modeltrace.client.batches import JSON_TYPE, BatchTags, ExternalIds, batch_bodies, chunks
from modeltrace.client.messages import (
    FeedbackResult,
    Prediction,
    Row,
    Rows,
    ServiceError,
    TrueLabel,
    encode_labels,
    encode_row,
    parse_feedback,
    parse_prediction,
    parse_predictions,
    predict_path,
)
from modeltrace.client.retries import AsyncRetryTransport, RetryTransport
from modeltrace.client.service import ServedModel, normalize_url, parse_model, unreachable_error
from modeltrace.errors import InvalidFeaturesError
from modeltrace_http.bearer import bearer_headers

DEFAULT_URL: Final = "http://127.0.0.1:8000"
# Seconds until a response must have begun.
DEFAULT_TIMEOUT: Final = 60.0
DEFAULT_RETRIES: Final = 3
Tags: TypeAlias = Mapping[str, str] | None


class Client:
    """A client of the service. Threads may share it. Use it as a context manager, or call `close`.

    Example:
        >>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
        ...     prediction = client.predict({"age": 41, "plan": "basic"})
        ...     client.feedback(prediction.prediction_id, "yes")
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        verify: SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Create a client. Nothing is sent yet.

        Args:
            url: the address of the service.
            api_key: the API key, if the service has one.
            timeout: seconds that a connection, and then a response, may take.
            retries: how often a request is repeated after a connection error or the status 429, 502, 503 or 504. The
                delays grow from 0.2 s to 5 s; the header Retry-After takes precedence, up to 30 s.
            verify: whether to verify the certificate of an HTTPS address, or the context that does.
            transport: sends the requests; by default, connections over TCP.

        Raises:
            UnreachableError: the address is not an HTTP address.
            ValueError: the API key has characters that a header cannot carry.
        """
        self._url = normalize_url(url)
        self._client = httpx.Client(
            base_url=self._url,
            timeout=timeout,
            headers=bearer_headers(api_key, "api_key"),
            transport=RetryTransport(transport or httpx.HTTPTransport(verify=verify), retries),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def model(self) -> ServedModel:
        """Return the model that the service serves, with its features.

        Raises:
            UnreachableError: no Modeltrace service answers.
        """
        return parse_model(self._send("GET", "/model"), self._url)

    def predict(
        self,
        features: Row,
        *,
        external_id: str | None = None,
        tags: Tags = None,
        probabilities: bool | None = None,
        interval: bool = False,
    ) -> Prediction:
        """Predict one row.

        Args:
            features: the values by name of the feature, or a row of a data frame.
            external_id: an ID that you choose; `feedback` finds the prediction by it.
            tags: the values of tags that the service declares, by name.
            probabilities: whether to return the probability of each class; `None`: as the service is configured.
            interval: whether to return the prediction interval of a regressor.

        Raises:
            InvalidFeaturesError: the row violates the feature schema.
            ServiceError: the service answers with another error.
            UnreachableError: the service does not answer.
        """
        path = predict_path("/predict", probabilities=probabilities, interval=interval)
        return parse_prediction(self._send("POST", path, encode_row(features, external_id, tags)))

    def predict_batch(
        self,
        rows: Rows,
        *,
        external_ids: ExternalIds = None,
        tags: BatchTags = None,
        probabilities: bool | None = None,
        interval: bool = False,
        arrow: bool = False,
    ) -> list[Prediction | InvalidFeaturesError]:
        """Predict rows, in requests of at most `BATCH_ROWS` rows.

        Args:
            rows: rows as for `predict`, or a data frame.
            external_ids: an ID for each row, or `None` for a row without one.
            tags: as for `predict`, for all rows; or a sequence with those of each row, or `None`.
            probabilities: as for `predict`.
            interval: as for `predict`.
            arrow: send a data frame (pandas, polars) or an Arrow table in Arrow's IPC stream format instead of JSON.

        Returns:
            The prediction of each row, in order; for a rejected row, the error.

        Raises:
            ServiceError: the service answers with an error.
            UnreachableError: the service does not answer.
        """
        path = predict_path("/predict/batch", probabilities=probabilities, interval=interval)
        bodies = batch_bodies(rows, external_ids, tags, arrow=arrow)
        responses = (self._send("POST", path, *body) for body in bodies)
        return [prediction for response in responses for prediction in parse_predictions(response)]

    def feedback(self, identifier: str, label: TrueLabel, *, by_external_id: bool = False) -> FeedbackResult:
        """Send the true label of a prediction. `identifier` is its prediction ID, or its external ID.

        Raises:
            ServiceError: the service rejects the label, or answers with another error.
            UnreachableError: the service does not answer.
        """
        (result,) = self.feedback_batch([(identifier, label)], by_external_id=by_external_id)
        if isinstance(result, ServiceError):
            raise result
        return result

    def feedback_batch(
        self, labels: Iterable[tuple[str, TrueLabel]], *, by_external_id: bool = False
    ) -> list[FeedbackResult | ServiceError]:
        """Send true labels, as pairs of identifier and label, in requests of at most `BATCH_ROWS` labels.

        Returns:
            The result for each label, in order; for a rejected label, the error.

        Raises:
            ServiceError: the service stores none of the labels of a request. Send them again.
            UnreachableError: the service does not answer.
        """
        bodies = (encode_labels(chunk, by_external_id=by_external_id) for chunk in chunks([*labels]))
        responses = (self._send("POST", "/feedback", body) for body in bodies)
        return [result for response in responses for result in parse_feedback(response)]

    def _send(self, method: str, path: str, body: bytes | None = None, content_type: str = JSON_TYPE) -> httpx.Response:
        try:
            return self._client.request(method, path, content=body, headers=_request_headers(content_type))
        except httpx.HTTPError as error:
            raise unreachable_error(self._url, error) from None


class AsyncClient:
    """A client of the service for `asyncio`, with the methods of `Client`. Use it in one event loop."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        verify: SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Create a client; see `Client`."""
        self._url = normalize_url(url)
        self._client = httpx.AsyncClient(
            base_url=self._url,
            timeout=timeout,
            headers=bearer_headers(api_key, "api_key"),
            transport=AsyncRetryTransport(transport or httpx.AsyncHTTPTransport(verify=verify), retries),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def model(self) -> ServedModel:
        """Return the model that the service serves; see `Client.model`."""
        return parse_model(await self._send("GET", "/model"), self._url)

    async def predict(
        self,
        features: Row,
        *,
        external_id: str | None = None,
        tags: Tags = None,
        probabilities: bool | None = None,
        interval: bool = False,
    ) -> Prediction:
        """Predict one row; see `Client.predict`."""
        path = predict_path("/predict", probabilities=probabilities, interval=interval)
        return parse_prediction(await self._send("POST", path, encode_row(features, external_id, tags)))

    async def predict_batch(
        self,
        rows: Rows,
        *,
        external_ids: ExternalIds = None,
        tags: BatchTags = None,
        probabilities: bool | None = None,
        interval: bool = False,
        arrow: bool = False,
    ) -> list[Prediction | InvalidFeaturesError]:
        """Predict rows, one request after the other; see `Client.predict_batch`."""
        path = predict_path("/predict/batch", probabilities=probabilities, interval=interval)
        bodies = batch_bodies(rows, external_ids, tags, arrow=arrow)
        responses = [await self._send("POST", path, *body) for body in bodies]
        return [prediction for response in responses for prediction in parse_predictions(response)]

    async def feedback(self, identifier: str, label: TrueLabel, *, by_external_id: bool = False) -> FeedbackResult:
        """Send the true label of a prediction; see `Client.feedback`."""
        (result,) = await self.feedback_batch([(identifier, label)], by_external_id=by_external_id)
        if isinstance(result, ServiceError):
            raise result
        return result

    async def feedback_batch(
        self, labels: Iterable[tuple[str, TrueLabel]], *, by_external_id: bool = False
    ) -> list[FeedbackResult | ServiceError]:
        """Send true labels; see `Client.feedback_batch`."""
        bodies = (encode_labels(chunk, by_external_id=by_external_id) for chunk in chunks([*labels]))
        responses = [await self._send("POST", "/feedback", body) for body in bodies]
        return [result for response in responses for result in parse_feedback(response)]

    async def _send(
        self, method: str, path: str, body: bytes | None = None, content_type: str = JSON_TYPE
    ) -> httpx.Response:
        try:
            return await self._client.request(method, path, content=body, headers=_request_headers(content_type))
        except httpx.HTTPError as error:
            raise unreachable_error(self._url, error) from None


def _request_headers(content_type: str) -> Mapping[str, str]:
    """Return the content type, and the headers that carry the current context, such as `traceparent`."""
    headers = {"content-type": content_type}
    propagate.inject(headers)
    return headers
