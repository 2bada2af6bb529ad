"""Where commands read telemetry: a running hub, or a database file."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from modeltrace_http.bearer import bearer_headers
from modeltrace_hub.api_client import TIMEOUT_SECONDS, Api, HubApi, InProcessApi
from modeltrace_hub.errors import ApiError, ArgumentError, SettingsError

DEFAULT_URL: Final = "http://127.0.0.1:4319"


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
