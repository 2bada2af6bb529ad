"""The JSON format and the file of log lines, which the service and its sidecar share."""

from concurrent_log_handler import ConcurrentRotatingFileHandler
from pythonjsonlogger.orjson import OrjsonFormatter


def json_formatter() -> OrjsonFormatter:
    """Return the formatter of log lines: level, logger, message, the attributes of the record, and timestamp."""
    return OrjsonFormatter(
        ["levelname", "name", "message"], rename_fields={"levelname": "level", "name": "logger"}, timestamp=True
    )


def open_log_file(path: str, max_bytes: int, max_backups: int) -> ConcurrentRotatingFileHandler:
    """Open the log file, with a lock: several workers and their sidecars write to it, and any of them may rotate it.

    Raises:
        OSError: The file cannot be opened.
    """
    return ConcurrentRotatingFileHandler(path, "a", max_bytes, max_backups, "utf-8", chmod=0o600)
