"""Address, readiness and model of a service, as its clients see them."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from modeltrace.client.verification import CERTIFICATE_ADVICE, is_certificate_error
from modeltrace.errors import ModeltraceError
from modeltrace.inference.held_out import HeldOut
from modeltrace.inference.named_outputs import Output
from modeltrace.inference.schema import Feature
from modeltrace.inference.tasks import TASKS_WITH_FEEDBACK
from modeltrace.otlp.failures import UNKNOWN_PREFIX, Target, classify
from modeltrace.printable import escape_control_characters

FEATURES_ADAPTER = TypeAdapter(tuple[Feature, ...])
OUTPUTS_ADAPTER = TypeAdapter(tuple[Output, ...])
HELD_OUT_ADAPTER = TypeAdapter(HeldOut | None)


class UnreachableError(ModeltraceError):
    """No usable server answers at an address."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Model of a service, from `GET /model`.

    `classes` is `None` for a model that predicts no label, and `interval_level` for one without prediction intervals.
    """

    name: str
    version: str
    features: tuple[Feature, ...]
    classes: tuple[str | int | float | bool, ...] | None = None
    held_out: HeldOut | None = None
    task: str = "classifier"
    interval_level: float | None = None
    outputs: tuple[Output, ...] = ()

    @property
    def has_true_labels(self) -> bool:
        """Whether predictions of the model can have true labels."""
        return self.task in TASKS_WITH_FEEDBACK


def normalize_url(text: str) -> str:
    """Return a URL without a trailing slash: `host:8000` becomes `http://host:8000`.

    Raises:
        UnreachableError: the text is not an HTTP address.
    """
    complete = text if "://" in text else f"http://{text}"
    try:
        url = httpx.URL(complete)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UnreachableError(f"{text} is not an address; write it like http://127.0.0.1:8000")
    return complete.rstrip("/")


async def is_ready(client: httpx.AsyncClient, path: str = "/readyz") -> bool:
    """Return whether the server at the client's base URL answers 200 at `path`.

    Raises:
        UnreachableError: its certificate cannot be verified, so waiting is useless.
    """
    try:
        return (await client.get(path)).status_code == HTTPStatus.OK
    except httpx.HTTPError as error:
        if is_certificate_error(error):
            raise unreachable_error(_origin(error.request.url), error) from None
        return False


async def fetch_model(client: httpx.AsyncClient) -> ServedModel:
    """Return the model that is served at the client's base URL.

    Raises:
        UnreachableError: no Modeltrace service answers there.
    """
    url = str(client.base_url).rstrip("/")
    try:
        response = await client.get("/model")
    except httpx.HTTPError as error:
        raise unreachable_error(url, error) from None
    return parse_model(response, url)


def unreachable_error(url: str, error: httpx.HTTPError) -> UnreachableError:
    """Return the error for a service that does not answer, or whose certificate cannot be verified."""
    reason = describe_error(error)
    if is_certificate_error(error):
        return UnreachableError(f"no request is sent to {url}: {reason}. {CERTIFICATE_ADVICE}")
    return UnreachableError(f"no service answers at {url} ({reason}); start one: modeltrace serve BUNDLE")


def parse_model(response: httpx.Response, url: str) -> ServedModel:
    """Parse the response to `GET /model`.

    Raises:
        UnreachableError: the service denies access, or the response is not from a Modeltrace service.
    """
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise UnreachableError(f"{url} denies access: {error_message(response)}")
    if response.status_code != HTTPStatus.OK:
        raise UnreachableError(f"{url}/model answers {response.status_code}: this is not a Modeltrace service")
    try:
        body: dict[str, Any] = response.json()
        features, classes = FEATURES_ADAPTER.validate_python(body["features"]), body["classes"]
        held_out = HELD_OUT_ADAPTER.validate_python(body.get("held_out"))
        name, version = (escape_control_characters(str(body[key]), keep_newlines=False) for key in ("name", "version"))
        level = None if (interval := body.get("interval")) is None else float(interval["level"])
        labels = None if classes is None else tuple(classes)
        outputs = OUTPUTS_ADAPTER.validate_python(body.get("outputs") or ())
        return ServedModel(name, version, features, labels, held_out, body["task"], level, outputs)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{error.error_count()} errors" if isinstance(error, ValidationError) else repr(error)
        raise UnreachableError(
            f"{url}/model has an unexpected structure ({reason}): another version of Modeltrace, or another program"
        ) from None


def error_message(response: httpx.Response) -> str:
    """Return the error message in a response, or the beginning of its text, or its status."""
    try:
        return str(response.json()["error"]["message"])[:400]
    except (ValueError, KeyError, TypeError):
        return response.text[:200] or f"HTTP {response.status_code}"


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def describe_error(error: httpx.HTTPError) -> str:
    """Describe why a request failed; for an unknown error, return its class and message."""
    try:
        url = _origin(error.request.url)
    except RuntimeError:  # the error has no request
        url = ""
    # Do not probe the server, because the additional request would delay the caller.
    reason = classify(error, Target(url), probe=lambda _: None).reason
    if not reason.startswith(UNKNOWN_PREFIX):
        return reason
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
