"""Where the prediction store is: what MODELTRACE_STORE says, and how it is spoken of without its password."""

from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from modeltrace.errors import StoreError

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql+psycopg"
_DEFAULT_PORT: Final = 5432


class Location(NamedTuple):
    """Where a store is. `words` is for people: it says nothing that is secret."""

    url: URL
    words: str

    @property
    def file(self) -> Path | None:
        """The file of a SQLite store."""
        return Path(self.url.database or "") if self.url.drivername == SQLITE else None


def locate(said: str) -> Location:
    """Read a path or a URL.

    Raises:
        StoreError: it is neither; the message does not repeat it, for a password may be in it.
    """
    if "://" not in said:
        return _file(said)
    try:
        url = make_url(said)
        url.get_dialect()
    except (ArgumentError, ValueError, ImportError):
        raise _unfit() from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername=POSTGRESQL)
    if url.drivername == SQLITE and url.database and url.database != ":memory:":
        return _file(url.database)
    if url.drivername != POSTGRESQL:
        raise _unfit()
    hosts = url.query.get("host") or url.host or "this machine"
    where = hosts if isinstance(hosts, str) else ",".join(hosts)
    name = url.database or url.username or ""
    return Location(url, f"the PostgreSQL database {name!r} at {where} port {url.port or _DEFAULT_PORT}")


def _file(path: str) -> Location:
    whole = Path(path).expanduser().absolute()
    return Location(URL.create(SQLITE, database=str(whole)), str(whole))


def _unfit() -> StoreError:
    return StoreError(
        "MODELTRACE_STORE is neither a path, nor sqlite:///PATH, nor postgresql+psycopg://USER:PASSWORD@HOST/DATABASE "
        "(with what is no letter or digit in a password written as %XX), nor none"
    )
