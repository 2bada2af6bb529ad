"""The service as its clients see it: a URL, and what `GET /model` says is served there."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from modeltrace.errors import ModeltraceError
from modeltrace.inference.schema import Feature
from modeltrace.otlp.failures import UNKNOWN_PREFIX, Target, classify
from modeltrace.printable import escape_control_characters

FEATURES_ADAPTER = TypeAdapter(tuple[Feature, ...])


class UnreachableError(ModeltraceError):
    """Nothing that can be used answers at an address."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a service says of its model."""

    name: str
    version: str
    features: tuple[Feature, ...]
    classes: tuple[str | int | float | bool, ...] | None = None  # of a classifier


def normalize_url(text: str) -> str:
    """Complete an address to a URL without a slash at its end: `host:8000` becomes `http://host:8000`.

    Raises:
        UnreachableError: it cannot be one.
    """
    complete = text if "://" in text else f"http://{text}"
    try:
        url = httpx.URL(complete)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UnreachableError(f"{text} is not an address; write it like http://127.0.0.1:8000")
    return complete.rstrip("/")


async def is_ready(client: httpx.AsyncClient) -> bool:
    """Whether the service at the client's base URL takes predictions."""
    try:
        return (await client.get("/readyz")).status_code == HTTPStatus.OK
    except httpx.HTTPError:
        return False


async def fetch_model(client: httpx.AsyncClient) -> ServedModel:
    """Ask which model is served at the client's base URL.

    Raises:
        UnreachableError: no service answers there; the message says what does.
    """
    where = str(client.base_url).rstrip("/")
    try:
        response = await client.get("/model")
    except httpx.HTTPError as error:
        raise UnreachableError(
            f"no service answers at {where} ({describe_error(error)}); start one: modeltrace serve BUNDLE"
        ) from None
    return parse_model(response, where)


def parse_model(response: httpx.Response, where: str) -> ServedModel:
    """What the answer to `GET /model` says.

    Raises:
        UnreachableError: it is none of a Modeltrace service.
    """
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise UnreachableError(f"{where} refuses this request: {_refusal(response)}")
    if response.status_code != HTTPStatus.OK:
        raise UnreachableError(f"{where}/model answers {response.status_code}: that is no Modeltrace service")
    try:
        said: dict[str, Any] = response.json()
        features, classes = FEATURES_ADAPTER.validate_python(said["features"]), said["classes"]
        name, version = (escape_control_characters(str(said[key]), keep_newlines=False) for key in ("name", "version"))
        return ServedModel(name, version, features, None if classes is None else tuple(classes))
    except (ValueError, KeyError, TypeError) as error:
        why = f"{error.error_count()} errors in it" if isinstance(error, ValidationError) else repr(error)
        raise UnreachableError(
            f"{where}/model is not understood ({why}): that is another version, or no Modeltrace"
        ) from None


def _refusal(response: httpx.Response) -> str:
    """What a service says of a request that it refuses."""
    try:
        return str(response.json()["error"]["message"])[:400]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"


def describe_error(error: httpx.HTTPError) -> str:
    """Why a request failed: in words, or the kind of the error with its text if it has one."""
    try:
        asked = error.request.url
        url = f"{asked.scheme}://{asked.netloc.decode()}"
    except RuntimeError:  # none is known
        url = ""
    why = classify(error, Target(url), probe=lambda _: None).reason  # to ask once more would hold up others
    if not why.startswith(UNKNOWN_PREFIX):
        return why
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
