"""Unpack files of telemetry: lines, also in gzip, and the lines of an archive. Limits apply before parsing."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

from modeltrace_hub.errors import MalformedError, TooLargeError

ARCHIVE_FILES: Final = ("traces.jsonl", "logs.jsonl", "metrics.jsonl")
MAX_FILE_BYTES: Final = 256 * 2**20
# One JSON document, as Jaeger writes, is in memory as a whole.
MAX_DOCUMENT_BYTES: Final = 64 * 2**20
MAX_LINES: Final = 100_000
_GZIP: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class LineReader:
    """Read the lines of a file as a stream. The limits apply to all its lines, whatever it says about their sizes.

    Args:
        content: the file.
        max_line_bytes: the limit of a line.
    """

    def __init__(self, content: bytes, max_line_bytes: int) -> None:
        self._content = content
        self._max_line_bytes = max_line_bytes
        self._remaining_bytes = MAX_FILE_BYTES
        self._remaining_lines = MAX_LINES

    @property
    def is_archive(self) -> bool:
        """Whether the file is an archive, which has several files."""
        return self._content.startswith(b"PK")

    def first_line(self) -> bytes:
        """Return the first line that is not blank, at most up to its limit, of a file that is no archive."""
        with _translate_errors(), self._open() as file:
            for _ in range(MAX_LINES):
                line = file.readline(self._max_line_bytes).removeprefix(_BYTE_ORDER_MARK)
                if line.strip() or not line.endswith(b"\n"):
                    return line
        return b""

    def document(self) -> bytes:
        """Return all of a file that is no archive.

        Raises:
            TooLargeError: it is too large for one document.
        """
        with _translate_errors(), self._open() as file:
            content = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(content) > MAX_DOCUMENT_BYTES:
            raise TooLargeError(
                f"The file is one JSON document of more than {MAX_DOCUMENT_BYTES // 2**20} MiB. Split it."
            )
        return content.removeprefix(_BYTE_ORDER_MARK)

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Yield the lines that are not blank, each with its place for messages.

        Raises:
            MalformedError: the file cannot be unpacked.
            TooLargeError: it has too many bytes or lines, or a line is too long.
        """
        with _translate_errors():
            if not self.is_archive:
                with self._open() as file:
                    yield from self._read_lines(file, "")
                return
            with zipfile.ZipFile(io.BytesIO(self._content)) as archive:
                for info in archive.infolist():
                    if info.filename in ARCHIVE_FILES:
                        with archive.open(info) as member:
                            yield from self._read_lines(member, f" of {info.filename}")

    def _open(self) -> io.BufferedIOBase:
        file = io.BytesIO(self._content)
        return gzip.open(file) if self._content.startswith(_GZIP) else file

    def _read_lines(self, file: IO[bytes] | io.BufferedIOBase, where: str) -> Iterator[tuple[str, bytes]]:
        number = 0
        while line := file.readline(self._max_line_bytes + 1):
            number += 1
            self._remaining_bytes -= len(line)
            self._remaining_lines -= 1
            if self._remaining_bytes < 0:
                raise TooLargeError(f"The file has more than {MAX_FILE_BYTES // 2**20} MiB of telemetry. Split it.")
            if self._remaining_lines < 0:
                raise TooLargeError(f"The file has more than {MAX_LINES:,} lines. Split it.")
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            place = f"Line {number}{where}"
            if len(line) > self._max_line_bytes:
                raise TooLargeError(
                    f"{place} has more than {self._max_line_bytes:,} bytes (MODELTRACE_HUB_MAX_REQUEST_BYTES). Write "
                    "smaller batches."
                )
            if line.strip():
                yield place, line


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error) as error:
        raise MalformedError(f"The archive cannot be read: {error}") from None
