"""What the settings say of the prediction store, as values that cross a pipe."""

from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the exporter process, whose start is waited for, reads no settings
    from modeltrace.settings import Settings


class StoreConfig(NamedTuple):
    """Where and how long predictions are kept. A password may be in `said`."""

    url: str  # as MODELTRACE_STORE has it
    retention_days: float  # 0: for good
    max_bytes: int  # 0: no limit
    code_version: str


def store_config(settings: "Settings") -> StoreConfig | None:
    """What the settings say; `None` when nothing is to be kept."""
    said = settings.store_url()
    if said is None:
        return None
    return StoreConfig(said, settings.store_retention_days, settings.store_max_bytes, version("modeltrace"))
