"""Rows sent to a service in batches for their answers, and, if asked, their true labels after them."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Self

import httpx

from modeltrace.client.service import ServedModel, UnreachableError, describe_error, parse_model
from modeltrace.errors import ModeltraceError

# Seconds that one batch may take.
BATCH_TIMEOUT: Final = 60.0


class SubmissionRejectedError(ModeltraceError):
    """A service does not take rows or labels."""


class ScoringClient:
    """A running service that is asked, row by row."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._client = httpx.Client(base_url=url, timeout=BATCH_TIMEOUT, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch_model(self) -> ServedModel:
        """What is served there.

        Raises:
            UnreachableError: no service answers.
        """
        try:
            response = self._client.get("/model")
        except httpx.HTTPError as error:
            said = f"no service answers at {self._url} ({describe_error(error)}); start one: modeltrace serve BUNDLE"
            raise UnreachableError(said) from None
        return parse_model(response, self._url)

    def predict(self, rows: Sequence[object]) -> list[dict[str, Any]]:
        """What it says of each row: with `prediction_id`, or `error` in its place.

        Raises:
            UnreachableError: it is gone.
            NotTakenError: it refuses the batch.
        """
        answered: list[dict[str, Any]] = self._post("/predict/batch", {"rows": list(rows)})["predictions"]
        return answered

    def send_labels(self, items: Sequence[tuple[str, object]]) -> None:
        """Send true labels by prediction ID.

        Raises:
            UnreachableError: it is gone.
            NotTakenError: it refuses one of them.
        """
        body = {"items": [{"prediction_id": one, "label": label} for one, label in items]}
        for one in self._post("/feedback", body)["results"]:
            if "error" in one:
                raise SubmissionRejectedError(f"{self._url}/feedback refuses a label: {one['error'].get('message')}")

    def _post(self, path: str, body: object) -> dict[str, Any]:
        try:
            response = self._client.post(path, json=body)
            said: dict[str, Any] = response.json()
        except httpx.HTTPError as error:
            raise UnreachableError(f"{self._url}{path} does not answer: {describe_error(error)}") from None
        except ValueError:
            said = {}
        if response.status_code != HTTPStatus.OK:
            why = said.get("error", {}).get("message", "nothing more is said")
            raise SubmissionRejectedError(f"{self._url}{path} answers {response.status_code}: {why}")
        return said
