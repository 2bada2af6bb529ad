"""How the exporter process delivers, as the worker that starts it says."""

from collections.abc import Mapping
from typing import NamedTuple


class SidecarConfig(NamedTuple):
    """What the worker says of how things go out. Plain values."""

    signals: Mapping[str, tuple[str, float]]  # those that are exported: their protocol, and the seconds of one attempt
    schedule_delay: float  # seconds that records gather
    flush_timeout: float  # seconds for the last requests, once the pipe has ended
    spool_dir: str  # the folder of what waits on disk; "" for none
    spool_max_bytes: int
    log_level: str
    log_file: str  # "" for none
    log_file_max_bytes: int
    log_file_backup_count: int
    store: tuple[str, float, int, str] | None = None  # a `StoreConfig`; none: no prediction is stored
