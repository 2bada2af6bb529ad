"""The JSON format and the file of log lines, which the service and its sidecar share."""

from typing import Any

import orjson
from concurrent_log_handler import ConcurrentRotatingFileHandler
from pythonjsonlogger.defaults import unknown_default
from pythonjsonlogger.orjson import OrjsonFormatter

from modeltrace.telemetry.json_values import replace_surrogates, to_json_compatible


class JSONLineFormatter(OrjsonFormatter):
    """Formats a log record as a line, whatever its attributes contain.

    A lone surrogate becomes U+FFFD, an integer of more than 64 bits is written in full, a key that is no text becomes
    text. Any other value that JSON cannot represent is replaced by its text, since a record of a model's own code must
    not be lost.
    """

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Encode the fields of a line."""
        try:
            return super().jsonify_log_record(log_data)
        except orjson.JSONEncodeError:
            fields = {replace_surrogates(str(name)): self._encodable(value) for name, value in log_data.items()}
            return super().jsonify_log_record(fields)

    def _encodable(self, value: object) -> object:
        try:
            compatible = to_json_compatible(value)
            super().jsonify_log_record({"": compatible})
        except (orjson.JSONEncodeError, RecursionError, ValueError):
            return replace_surrogates(unknown_default(value))
        return compatible


def json_formatter() -> JSONLineFormatter:
    """Return the formatter of log lines: level, logger, message, the attributes of the record, and timestamp."""
    return JSONLineFormatter(
        ["levelname", "name", "message"], rename_fields={"levelname": "level", "name": "logger"}, timestamp=True
    )


def open_log_file(path: str, max_bytes: int, max_backups: int) -> ConcurrentRotatingFileHandler:
    """Open the log file, with a lock: several workers and their sidecars write to it, and any of them may rotate it.

    Raises:
        OSError: The file cannot be opened.
    """
    return ConcurrentRotatingFileHandler(path, "a", max_bytes, max_backups, "utf-8", chmod=0o600)
