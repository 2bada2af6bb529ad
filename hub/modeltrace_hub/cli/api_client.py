"""Call the JSON API: that of a running hub, or one in this process over a database file."""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

import httpx

from modeltrace_http.bearer import bearer_headers
from modeltrace_hub.errors import ApiError, ArgumentError, SettingsError

DEFAULT_URL: Final = "http://127.0.0.1:4319"
TIMEOUT_SECONDS: Final = 120.0  # the hub ends a query before

Parameters = Sequence[tuple[str, str]]


class Api(Protocol):
    """The JSON API of a hub."""

    url: str | None

    def get(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return the body of a response.

        Raises:
            ApiError: the hub cannot be reached, or the response is an error.
            ArgumentError: the hub rejects a parameter.
        """

    async def fetch(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return `get`, for a caller in an event loop, which is not blocked."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where commands read telemetry.

    Attributes:
        url: the address of a running hub.
        key: its key.
        database: a database file, which is read instead of calling a hub.
    """

    url: str = DEFAULT_URL
    key: str | None = field(default=None, repr=False)
    database: Path | None = None

    @contextmanager
    def open(self) -> Iterator[Api]:
        """Yield the API.

        Raises:
            StoreError: the database cannot be opened.
            ArgumentError: the address is invalid.
            SettingsError: the key is invalid.
        """
        if self.database is None:
            with self._create_client() as client:
                yield HubApi(client, self.url.rstrip("/"))
        else:
            with open_database(self.database) as api:
                yield api

    def _create_client(self) -> httpx.Client:
        try:
            headers = bearer_headers(self.key, "MODELTRACE_HUB_KEY, or the file of --key-file,")
        except ValueError as error:
            raise SettingsError(f"{error}.") from None
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in {"http", "https"} or not url.host:
            raise ArgumentError(f"{self.url!r} is not the address of a hub: write http://HOST:PORT (--url).")
        # Certificates are checked as all programs with OpenSSL do: SSL_CERT_FILE names those of a private authority.
        verify = ssl.create_default_context() if url.scheme == "https" else True
        return httpx.Client(headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False, verify=verify)


class HubApi:
    """The API of a running hub."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        self.url: str | None = url
        self._client = client

    def get(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return the body of a response.

        Raises:
            ApiError: the hub cannot be reached, or the response is an error.
            ArgumentError: the hub rejects a parameter.
        """
        try:
            response = self._client.get(f"{self.url}{path}", params=list(parameters))
        except httpx.HTTPError as error:
            raise ApiError(
                f"No hub answers at {self.url} ({error or type(error).__name__}). Start one with modeltrace-hub, or "
                "name its address with --url, or a file with --database."
            ) from None
        return _read_response(response, self.url)

    async def fetch(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return `get`, for a caller in an event loop, which is not blocked."""
        return await asyncio.to_thread(self.get, path, parameters)


class InProcessApi:
    """The API of an application in this process."""

    def __init__(self, app: Any, *, url: str | None = None, key: str | None = None) -> None:  # noqa: ANN401  any ASGI application
        self.url = url
        self._transport = httpx.ASGITransport(app)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return the body of a response. Call this in a thread without an event loop.

        Raises:
            ApiError: the response is an error.
            ArgumentError: a parameter is rejected.
        """
        return asyncio.run(self.fetch(path, parameters))

    async def fetch(self, path: str, parameters: Parameters = ()) -> bytes:
        """Return `get`, in the event loop of the caller. Call a running application in its own loop only."""
        async with httpx.AsyncClient(
            transport=self._transport, base_url="http://127.0.0.1", headers=self._headers, timeout=TIMEOUT_SECONDS
        ) as client:
            return _read_response(await client.get(path, params=list(parameters)), None)


@contextmanager
def open_database(file: Path) -> Iterator[InProcessApi]:
    """Yield the API over a database file, which is only read.

    Raises:
        StoreError: the file cannot be opened.
    """
    from modeltrace_hub.api import create_app  # noqa: PLC0415  not needed to call a running hub
    from modeltrace_hub.retention import Retention  # noqa: PLC0415  see above
    from modeltrace_hub.settings import HubSettings  # noqa: PLC0415  see above
    from modeltrace_hub.store import FILE_NAME, Store  # noqa: PLC0415  see above
    from modeltrace_hub.writer import Writer  # noqa: PLC0415  see above

    path = file / FILE_NAME if file.is_dir() else file
    if not path.is_file():
        raise ApiError(f"{path} does not exist. Name a {FILE_NAME}, or its folder, with --database.")
    settings = HubSettings(data=path.parent, host="127.0.0.1", key=None)
    store = Store(path, read_only=True)
    try:
        # The writer is not started: nothing is written or deleted.
        writer = Writer(store, Retention(store, max_age=settings.max_age, max_size=settings.max_size))
        yield InProcessApi(create_app(store, writer, settings))
    finally:
        store.close()


def _read_response(response: httpx.Response, url: str | None) -> bytes:
    """Return the body.

    Raises:
        ApiError: the response is an error.
        ArgumentError: a parameter is rejected.
    """
    if response.is_success:
        return response.content
    try:
        error = response.json()["error"]
        message = str(error["message"])
    except (ValueError, KeyError, TypeError):
        raise ApiError(f"{url} is not a hub: it answered {response.status_code}. Check --url.") from None
    if response.status_code == 401:
        message = "The hub needs its key: set MODELTRACE_HUB_KEY, or name a file that has it with --key-file."
    raise ArgumentError(message) if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY else ApiError(message)


def quote_segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")
