"""A queue of requests on disk with a size limit. The requests remain when the process ends.

    folder/
      4711-9f2c…/                 folder of one process, mode 0700: it contains inputs of predictions
        lock                      locked (flock) while the process lives
        1763985600….traces.512    a request of 512 spans: checksum, then body; names sort by age
        1763985600….part          being written; renamed when it is complete
        1763985600….damaged       quarantined: the checksum does not match the content

At start, a process adopts the files of all processes that have ended, whose lock is free. No method raises for a disk
error: `put` returns False if a request could not be stored, and `on_lost` is called for a request that was lost later.
"""

import errno
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, cast

from modeltrace.otel_env.table import SIGNALS, Signal
from modeltrace.sidecar import spool_files
from modeltrace.sidecar.spool_files import FOLDER_NAME, file_name, files_in

# Below the usual limits of request bodies: 1 MiB of nginx, 4 MiB of gRPC.
MAX_MERGED_BYTES: Final = 2**19
# Errors of the process, not of a file: the file can be read later.
_TRANSIENT_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

LossListener = Callable[[Signal, int, str], object]  # signal, number of items, reason


class QueuedRequest(NamedTuple):
    """An encoded request, its number of items, and the files that it was read from if it is on disk."""

    body: bytes
    items: int
    file_names: tuple[str, ...] = ()


class _Entry(NamedTuple):
    timestamp: int
    name: str
    items: int
    size: int


class Spool:
    """The spool folder of one process. It is thread-safe: one call at a time accesses the disk."""

    def __init__(self, folder: Path, max_bytes: int, on_lost: LossListener = lambda *_: None) -> None:
        """Open the spool.

        Args:
            folder: The folder that all processes share.
            max_bytes: Limit of the size of all files of this process.
            on_lost: Called with the signal, the number of items and `damaged` or `spool_full` for lost requests.
        """
        self.used_bytes = 0  # the size of all files
        self._shared_folder = folder
        self._max_bytes = max_bytes
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._lock_descriptor = -1
        self._last_timestamp = 0
        self._queues: dict[Signal, deque[_Entry]] = {signal: deque() for signal in SIGNALS}
        self._quarantined: deque[_Entry] = deque()
        self._in_flight: dict[Signal, tuple[str, ...]] = {}
        with suppress(OSError):
            self._open()

    def items(self, signal: Signal) -> int:
        """Return the number of items of a signal on disk."""
        with self._lock:
            return sum(entry.items for entry in self._queues[signal])

    def put(self, signal: Signal, body: bytes, items: int, *, durable: bool = True) -> bool:
        """Store a request; then remove the oldest requests of any signal while the size is over the limit.

        Returns:
            Whether the request is stored. It remains when the process ends and, with `durable`, if the machine crashes.
        """
        with self._lock:
            counts = {name: self._in_flight_count(name) for name in SIGNALS}
            in_flight_bytes = sum(e.size for name, n in counts.items() for e in islice(self._queues[name], n))
            if spool_files.HEADER_BYTES + len(body) + in_flight_bytes > self._max_bytes:
                return False
            try:
                entry = self._write(signal, body, items, durable=durable)
            except OSError:
                return False
            self._add(signal, entry)
            self._enforce_limit()
            return True

    def oldest(self, signal: Signal, max_requests: int = 1) -> QueuedRequest | None:
        """Return the oldest requests of a signal as one request. Until `remove`, the size limit does not remove them.

        An OTLP request is a message with one repeated field, so the concatenation of several requests is a request with
        the items of all (https://protobuf.dev/programming-guides/encoding/#last-one-wins).

        Args:
            signal: The signal of the requests.
            max_requests: Limit of the number of requests. Their total size is limited to `MAX_MERGED_BYTES` and to a
                quarter of the spool; a single request may be larger.
        """
        with self._lock:
            max_bytes = min(MAX_MERGED_BYTES, self._max_bytes // 4)
            merged: list[tuple[_Entry, bytes]] = []
            size = 0
            while len(merged) < max_requests and (read := self._read_next(signal, len(merged))):
                size += read[0].size
                if merged and size > max_bytes:
                    break
                merged.append(read)
            if not merged:
                return None
            self._in_flight[signal] = tuple(entry.name for entry, _ in merged)
            body = b"".join(body for _, body in merged)
            return QueuedRequest(body, sum(entry.items for entry, _ in merged), self._in_flight[signal])

    def remove(self, signal: Signal, request: QueuedRequest) -> None:
        """Remove the requests that `oldest` returned."""
        with self._lock:
            self._in_flight.pop(signal, None)
            queue = self._queues[signal]
            while queue and queue[0].name in request.file_names:
                self._delete(queue.popleft())

    def close(self) -> None:
        """Release the folder; the next process adopts its files."""
        with self._lock:
            self._release()

    # The folder.

    def _open(self) -> Path:
        """Create the folder of this process and adopt the files of processes that have ended.

        The folder is locked before it is renamed to its final name. Otherwise another process could adopt it.
        """
        if self._folder is not None:
            return self._folder
        self._shared_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        temporary_folder = self._shared_folder / f".{name}"
        temporary_folder.mkdir(mode=0o700)
        try:
            lock = spool_files.lock(temporary_folder)
        except OSError:
            temporary_folder.rmdir()
            raise
        try:
            folder = temporary_folder.rename(self._shared_folder / name)
        except OSError:
            spool_files.unlock(temporary_folder, lock, empty=True)
            raise
        self._folder, self._lock_descriptor = folder, lock
        with suppress(OSError):
            self._adopt_orphans(folder)
        self._enforce_limit()
        return folder

    def _adopt_orphans(self, folder: Path) -> None:
        """Move the files of processes that have ended to this folder, oldest first."""
        with os.scandir(self._shared_folder) as entries:
            names = [entry.name for entry in entries if FOLDER_NAME.fullmatch(entry.name)]
        files: list[tuple[int, Path, re.Match[str]]] = []
        locks: dict[Path, int] = {}
        try:
            for other in (self._shared_folder / name for name in names if name != folder.name):
                with suppress(OSError):
                    locks[other] = spool_files.lock(other)
                    files += files_in(other)
            for _, path, name in sorted(files):
                with suppress(OSError):
                    self._adopt_file(folder, path, name)
        finally:
            for other, lock in locks.items():
                spool_files.unlock(other, lock, empty=True)

    def _adopt_file(self, folder: Path, path: Path, name: re.Match[str]) -> None:
        if path.suffix == ".part":
            path.unlink()
            return
        timestamp = self._next_timestamp()
        suffix = path.name.partition(".")[2]
        entry = _Entry(timestamp, file_name(timestamp, suffix), int(name["items"] or 0), path.lstat().st_size)
        path.rename(folder / entry.name)
        if name["signal"]:
            self._add(cast("Signal", name["signal"]), entry)
        else:
            self._quarantined.append(entry)
            self.used_bytes += entry.size

    def _release(self) -> None:
        if self._folder is not None:
            empty = not self.used_bytes and not any(self._queues.values())
            spool_files.unlock(self._folder, self._lock_descriptor, empty=empty)
        self._folder, self._lock_descriptor = None, -1

    def _count_all_lost(self) -> None:
        """Count all requests as lost after the folder was removed from outside."""
        self._release()
        for signal, queue in self._queues.items():
            if queue:
                self._on_lost(signal, sum(entry.items for entry in queue), "damaged")
                queue.clear()
        self._quarantined.clear()
        self.used_bytes = 0

    # Files.

    def _write(self, signal: Signal, body: bytes, items: int, *, durable: bool) -> _Entry:
        folder = self._open()
        try:
            return self._write_to(folder, signal, body, items, durable=durable)
        except FileNotFoundError:
            if folder.exists():
                raise
        self._count_all_lost()
        return self._write_to(self._open(), signal, body, items, durable=durable)

    def _write_to(self, folder: Path, signal: Signal, body: bytes, items: int, *, durable: bool) -> _Entry:
        timestamp = self._next_timestamp()
        name = file_name(timestamp, f"{signal}.{items}")
        size = spool_files.write(folder / name, folder / file_name(timestamp, "part"), body, durable=durable)
        return _Entry(timestamp, name, items, size)

    def _read_next(self, signal: Signal, index: int) -> tuple[_Entry, bytes] | None:
        """Read the request at an index of a queue. Quarantine those that are damaged."""
        queue = self._queues[signal]
        while index < len(queue) and self._folder is not None:
            entry = queue[index]
            try:
                body = spool_files.read(self._folder / entry.name, self._max_bytes)
            except OSError as error:
                if error.errno in _TRANSIENT_ERRNOS:
                    return None
                body = None
            if body is not None:
                return entry, body
            del queue[index]
            self._quarantine(signal, entry)
        return None

    def _quarantine(self, signal: Signal, entry: _Entry) -> None:
        quarantined = entry._replace(name=file_name(entry.timestamp, "damaged"))
        self._on_lost(signal, entry.items, "damaged")
        try:
            if self._folder is not None:
                (self._folder / entry.name).rename(self._folder / quarantined.name)
                self._quarantined.append(quarantined)
                return
        except OSError:
            pass
        self.used_bytes -= entry.size

    # Entries.

    def _next_timestamp(self) -> int:
        self._last_timestamp = max(time.time_ns(), self._last_timestamp + 1)
        return self._last_timestamp

    def _add(self, signal: Signal, entry: _Entry) -> None:
        self._queues[signal].append(entry)
        self.used_bytes += entry.size

    def _delete(self, entry: _Entry) -> None:
        self.used_bytes -= entry.size
        if self._folder is not None:
            spool_files.discard(self._folder / entry.name)

    def _enforce_limit(self) -> None:
        """Remove quarantined files and then the oldest requests while the size is over the limit."""
        while self.used_bytes > self._max_bytes:
            if self._quarantined:
                self._delete(self._quarantined.popleft())
                continue
            entry, signal = min(
                (entry, signal)
                for signal, queue in self._queues.items()
                for entry in islice(queue, self._in_flight_count(signal), self._in_flight_count(signal) + 1)
            )
            self._queues[signal].remove(entry)
            self._delete(entry)
            self._on_lost(signal, entry.items, "spool_full")

    def _in_flight_count(self, signal: Signal) -> int:
        """Return the number of entries that `oldest` returned and `remove` has not removed: the first of the queue."""
        names = self._in_flight.get(signal, ())
        queue = self._queues[signal]
        return len(names) if names and queue and queue[0].name == names[0] else 0
