"""Send rows to a service in batches, and true labels for its predictions."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Self

import httpx

from modeltrace.client.service import ServedModel, UnreachableError, describe_error, parse_model, unreachable_error
from modeltrace.errors import ModeltraceError

# Seconds.
BATCH_TIMEOUT: Final = 60.0


class SubmissionRejectedError(ModeltraceError):
    """A service rejected rows or labels."""


class ScoringClient:
    """Synchronous client of a service."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._client = httpx.Client(base_url=url, timeout=BATCH_TIMEOUT, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch_model(self) -> ServedModel:
        """Return the model that the service serves.

        Raises:
            UnreachableError: no service answers.
        """
        try:
            response = self._client.get("/model")
        except httpx.HTTPError as error:
            raise unreachable_error(self._url, error) from None
        return parse_model(response, self._url)

    def predict(self, rows: Sequence[object]) -> list[dict[str, Any]]:
        """Return one entry per row: a prediction with `prediction_id`, or `error`.

        Raises:
            UnreachableError: the service does not answer.
            SubmissionRejectedError: the service rejects the batch.
        """
        predictions: list[dict[str, Any]] = self._post("/predict/batch", {"rows": list(rows)})["predictions"]
        return predictions

    def send_labels(self, labels: Sequence[tuple[str, object]]) -> None:
        """Send true labels as pairs of prediction ID and label.

        Raises:
            UnreachableError: the service does not answer.
            SubmissionRejectedError: the service rejects a label.
        """
        body = {"items": [{"prediction_id": prediction_id, "label": label} for prediction_id, label in labels]}
        for result in self._post("/feedback", body)["results"]:
            if "error" in result:
                raise SubmissionRejectedError(f"{self._url}/feedback rejects a label: {result['error'].get('message')}")

    def _post(self, path: str, body: object) -> dict[str, Any]:
        try:
            response = self._client.post(path, json=body)
            content: dict[str, Any] = response.json()
        except httpx.HTTPError as error:
            raise UnreachableError(f"{self._url}{path} does not answer: {describe_error(error)}") from None
        except ValueError:
            content = {}
        if response.status_code != HTTPStatus.OK:
            message = content.get("error", {}).get("message", "no error message")
            raise SubmissionRejectedError(f"{self._url}{path} answers {response.status_code}: {message}")
        return content
