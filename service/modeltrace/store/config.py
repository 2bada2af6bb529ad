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


def max_recorded_classes(settings: "Settings") -> int:
    """Return the largest number of classes whose probabilities are recorded; 0 without a prediction store."""
    return 0 if settings.store_url() is None else settings.store_max_classes


def store_config(settings: "Settings") -> StoreConfig | None:
    """Return the store's configuration, or `None` if MODELTRACE_STORE is `none`."""
    url = settings.store_url()
    if url is None:
        return None
    return StoreConfig(url, settings.store_retention_days, settings.store_max_bytes, version("modeltrace"))
