"""The configuration of the prediction store, as values that can be sent through a pipe."""

from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the sidecar uses this module and must start without importing pydantic
    from modeltrace.settings import Settings


class StoreConfig(NamedTuple):
    """The location and the limits of the store. `url` may contain a password."""

    url: str  # the value of MODELTRACE_STORE
    retention_days: float  # 0: no limit
    max_bytes: int  # 0: no limit
    code_version: str


def store_config(settings: "Settings") -> StoreConfig | None:
    """Return the store's configuration, or `None` if MODELTRACE_STORE is `none`."""
    url = settings.store_url()
    if url is None:
        return None
    return StoreConfig(url, settings.store_retention_days, settings.store_max_bytes, version("modeltrace"))
