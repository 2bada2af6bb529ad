"""Parse MODELTRACE_STORE, and describe the store in messages without its password."""

from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from modeltrace.errors import StoreError

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql+psycopg"
DUCKDB: Final = "duckdb"  # only temporary stores, see `modeltrace.store.columnar_store`
_DEFAULT_PORT: Final = 5432


class StoreLocation(NamedTuple):
    """The URL of a store, and a description for messages that contains no secret."""

    url: URL
    description: str

    @property
    def file(self) -> Path | None:
        """The file of a SQLite store; `None` for PostgreSQL."""
        return Path(self.url.database or "") if self.url.drivername == SQLITE else None


def parse_store_url(text: str) -> StoreLocation:
    """Parse a file path or a database URL.

    Raises:
        StoreError: the text is neither. The message does not repeat it, because it may contain a password.
    """
    if "://" not in text:
        return _file_location(text)
    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, ValueError, ImportError):
        raise _invalid_url_error() from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername=POSTGRESQL)
    if url.drivername == SQLITE and url.database and url.database != ":memory:":
        return _file_location(url.database)
    if url.drivername != POSTGRESQL:
        raise _invalid_url_error()
    hosts = url.query.get("host") or url.host or "this machine"
    host = hosts if isinstance(hosts, str) else ",".join(hosts)
    database = url.database or url.username or ""
    return StoreLocation(url, f"the PostgreSQL database {database!r} at {host} port {url.port or _DEFAULT_PORT}")


def _file_location(path: str) -> StoreLocation:
    absolute = Path(path).expanduser().absolute()
    return StoreLocation(URL.create(SQLITE, database=str(absolute)), str(absolute))


def _invalid_url_error() -> StoreError:
    return StoreError(
        "MODELTRACE_STORE must be a path, sqlite:///PATH, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE (with "
        "special characters in the password written as %XX), or none"
    )
