"""Requests that wait on disk, within a limit, and outlive the process that put them there.

    folder/
      4711-9f2c…/                 one a process, 0700: inputs of predictions are in it
        lock                      held (flock) as long as the process lives
        1763985600….traces.512    a request of 512 spans: checksum, then the bytes; names sort by age
        1763985600….part          being written; it gets its name when it is whole
        1763985600….damaged       set aside: it was not what had been written

A process that starts takes over the files of those whose lock is free. Nothing here raises for what the disk does: what
could not be kept is not taken (`put` answers False), what was lost on the way is told to `lost`.
"""

import errno
import os
import re
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from modeltrace.otlp.client import SIGNALS, Signal
from modeltrace.sidecar import spool_files

_FOLDER_NAME: Final = re.compile(r"[0-9]+-[0-9a-f]{16}")
_REQUEST_NAME: Final = re.compile(rf"([0-9]{{1,30}})\.({'|'.join(SIGNALS)})\.([0-9]{{1,15}})")
_DAMAGED_NAME: Final = re.compile(r"([0-9]{1,30})\.damaged")
_PART_NAME: Final = re.compile(r"[0-9]{1,30}\.part")
_TRANSIENT_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# signal, items, why
LossListener = Callable[[Signal, int, str], object]


class SpooledRequest(NamedTuple):
    """A request that waits, and how many items it holds."""

    name: str
    signal: Signal
    items: int
    body: bytes


class _Entry(NamedTuple):
    timestamp: int
    name: str
    items: int
    size: int


class Spool:
    """The folder of one process. Any thread may call; the one call at a time waits for the disk."""

    def __init__(self, folder: Path, max_bytes: int, on_lost: LossListener = lambda *_: None) -> None:
        self.damaged_files = 0  # files set aside by this process
        self._folder = folder
        self._max_bytes = max_bytes
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._own_folder: Path | None = None
        self._lock_descriptor = -1
        self._last_timestamp = 0
        self._used_bytes = 0
        self._items: Counter[Signal] = Counter()
        self._queues: dict[Signal, deque[_Entry]] = {signal: deque() for signal in SIGNALS}
        self._quarantined: deque[_Entry] = deque()
        self._in_flight: dict[Signal, str] = {}
        with suppress(OSError):
            self._open()

    @property
    def used_bytes(self) -> int:
        """The size of all files."""
        return self._used_bytes

    def items(self, signal: Signal) -> int:
        """How many items of a signal wait."""
        return self._items[signal]

    def put(self, signal: Signal, request: bytes, items: int, *, durable: bool = True) -> bool:
        """Keep a request as the youngest of its signal; over the limit the oldest of any signal go, once it is whole.

        Returns:
            Whether it is kept: from now on it survives the process, and with `durable` a crash of the machine too.
        """
        with self._lock:
            if (
                spool_files.HEADER_BYTES + len(request) + sum(entry.size for entry in self._entries_in_flight())
                > self._max_bytes
            ):
                return False
            try:
                entry = self._write(signal, request, items, durable=durable)
            except OSError:
                return False
            self._add(signal, entry)
            self._enforce_limit()
            return True

    def oldest(self, signal: Signal) -> SpooledRequest | None:
        """The request that waits longest; until it is removed it stays, and the limit does not touch it."""
        with self._lock:
            waiting = self._queues[signal]
            while waiting and self._own_folder is not None:
                entry = waiting[0]
                try:
                    request = spool_files.read(self._own_folder / entry.name, self._max_bytes)
                except OSError as error:
                    if error.errno in _TRANSIENT_ERRNOS:
                        return None
                    request = None
                if request is not None:
                    self._in_flight[signal] = entry.name
                    return SpooledRequest(entry.name, signal, entry.items, request)
                self._quarantine(signal, waiting.popleft())
            return None

    def remove(self, request: SpooledRequest) -> None:
        """Drop a request that `oldest` handed out."""
        with self._lock:
            self._in_flight.pop(request.signal, None)
            waiting = self._queues[request.signal]
            if waiting and waiting[0].name == request.name:
                self._delete(request.signal, waiting.popleft())

    def close(self) -> None:
        """Leave what waits to the next process."""
        with self._lock:
            self._release()

    # The folder.

    def _open(self) -> Path:
        """Make the process's own subfolder and take over those of the dead.

        It gets its name when its lock is held already, or it would look dead to another process that starts.
        """
        if self._own_folder is not None:
            return self._own_folder
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        fresh = self._folder / f".{name}"
        fresh.mkdir(mode=0o700)
        try:
            lock = spool_files.lock(fresh)
        except OSError:
            fresh.rmdir()
            raise
        try:
            home = fresh.rename(self._folder / name)
        except OSError:
            spool_files.unlock(fresh, lock, empty=True)
            raise
        self._own_folder, self._lock_descriptor = home, lock
        with suppress(OSError):
            self._adopt_orphans(home)
        self._enforce_limit()
        return home

    def _adopt_orphans(self, home: Path) -> None:
        """Take over, oldest first, what processes left that are no more."""
        left: list[tuple[int, Path]] = []
        with os.scandir(self._folder) as siblings:
            dead = [
                Path(each.path) for each in siblings if _FOLDER_NAME.fullmatch(each.name) and each.name != home.name
            ]
        locks: dict[Path, int] = {}
        try:
            for folder in dead:
                with suppress(OSError):
                    locks[folder] = spool_files.lock(folder)
                    left += _spool_files_in(folder)
            for _, path in sorted(left):
                with suppress(OSError):
                    self._adopt_file(home, path)
        finally:
            for folder, lock in locks.items():
                spool_files.unlock(folder, lock, empty=True)

    def _adopt_file(self, home: Path, path: Path) -> None:
        if _PART_NAME.fullmatch(path.name):
            path.unlink()
            return
        size = path.lstat().st_size
        stamp = self._next_timestamp()
        if named := _REQUEST_NAME.fullmatch(path.name):
            signal, items = next(s for s in SIGNALS if s == named[2]), int(named[3])
            entry = _Entry(stamp, _file_name(stamp, f"{signal}.{items}"), items, size)
            path.rename(home / entry.name)
            self._add(signal, entry)
        else:
            entry = _Entry(stamp, _file_name(stamp, "damaged"), 0, size)
            path.rename(home / entry.name)
            self._quarantined.append(entry)
            self._used_bytes += size

    def _release(self) -> None:
        if self._own_folder is not None:
            spool_files.unlock(
                self._own_folder, self._lock_descriptor, empty=not self._used_bytes and not any(self._queues.values())
            )
        self._own_folder = None
        self._lock_descriptor = -1

    def _count_all_lost(self) -> None:
        """Count what was in a folder that is gone."""
        self._release()
        for signal, waiting in self._queues.items():
            if waiting:
                self._on_lost(signal, self._items[signal], "damaged")
                waiting.clear()
        self._items.clear()
        self._quarantined.clear()
        self._used_bytes = 0

    # Files.

    def _write(self, signal: Signal, request: bytes, items: int, *, durable: bool) -> _Entry:
        home = self._open()
        try:
            return self._write_to(home, signal, request, items, durable=durable)
        except FileNotFoundError:
            if home.exists():
                raise
        self._count_all_lost()  # somebody has cleared it away
        return self._write_to(self._open(), signal, request, items, durable=durable)

    def _write_to(self, home: Path, signal: Signal, request: bytes, items: int, *, durable: bool) -> _Entry:
        stamp = self._next_timestamp()
        entry = _Entry(stamp, _file_name(stamp, f"{signal}.{items}"), items, len(request) + spool_files.HEADER_BYTES)
        spool_files.write(home / entry.name, home / _file_name(stamp, "part"), request, durable=durable)
        return entry

    def _quarantine(self, signal: Signal, entry: _Entry) -> None:
        aside = entry._replace(name=_file_name(entry.timestamp, "damaged"))
        self.damaged_files += 1
        self._items[signal] -= entry.items
        self._on_lost(signal, entry.items, "damaged")
        try:
            if self._own_folder is not None:
                (self._own_folder / entry.name).rename(self._own_folder / aside.name)
                self._quarantined.append(aside)
                return
        except OSError:
            pass
        self._used_bytes -= entry.size

    # The books.

    def _next_timestamp(self) -> int:
        self._last_timestamp = max(time.time_ns(), self._last_timestamp + 1)
        return self._last_timestamp

    def _add(self, signal: Signal, entry: _Entry) -> None:
        self._queues[signal].append(entry)
        self._items[signal] += entry.items
        self._used_bytes += entry.size

    def _delete(self, signal: Signal, entry: _Entry) -> None:
        self._items[signal] -= entry.items
        self._unlink(entry)

    def _unlink(self, entry: _Entry) -> None:
        self._used_bytes -= entry.size
        if self._own_folder is not None:
            spool_files.discard(self._own_folder / entry.name)

    def _enforce_limit(self) -> None:
        """Get back within the limit: what was set aside goes first, then the oldest."""
        while self._used_bytes > self._max_bytes:
            if self._quarantined:
                self._unlink(self._quarantined.popleft())
                continue
            in_use = self._entries_in_flight()
            entry, signal = min(
                (entry, signal)
                for signal, waiting in self._queues.items()
                for entry in islice(waiting, 2)
                if entry not in in_use
            )
            self._queues[signal].remove(entry)
            self._delete(signal, entry)
            self._on_lost(signal, entry.items, "spool_full")

    def _entries_in_flight(self) -> list[_Entry]:
        """What `oldest` handed out and has not come back."""
        return [
            waiting[0]
            for signal, waiting in self._queues.items()
            if waiting and waiting[0].name == self._in_flight.get(signal)
        ]


def _file_name(stamp: int, rest: str) -> str:
    return f"{stamp:020d}.{rest}"


def _spool_files_in(folder: Path) -> Iterator[tuple[int, Path]]:
    """The files of ours in a folder, with their stamps; what is not ours stays where it is."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if any(pattern.fullmatch(entry.name) for pattern in (_REQUEST_NAME, _DAMAGED_NAME, _PART_NAME)):
                yield int(entry.name.partition(".")[0]), Path(entry.path)
