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

_FOLDER: Final = re.compile(r"[0-9]+-[0-9a-f]{16}")
_REQUEST: Final = re.compile(rf"([0-9]{{1,30}})\.({'|'.join(SIGNALS)})\.([0-9]{{1,15}})")
_DAMAGED: Final = re.compile(r"([0-9]{1,30})\.damaged")
_PART: Final = re.compile(r"[0-9]{1,30}\.part")
_NOT_ITS_FAULT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# signal, items, why
Lost = Callable[[Signal, int, str], object]


class Stored(NamedTuple):
    """A request that waits, and how many items it holds."""

    name: str
    signal: Signal
    items: int
    request: bytes


class _Entry(NamedTuple):
    stamp: int
    name: str
    items: int
    size: int


class Spool:
    """The folder of one process. Any thread may call; the one call at a time waits for the disk."""

    def __init__(self, folder: Path, limit_bytes: int, lost: Lost = lambda *_: None) -> None:
        self.damaged = 0  # files set aside by this process
        self._folder = folder
        self._limit = limit_bytes
        self._lost = lost
        self._one_at_a_time = threading.Lock()
        self._home: Path | None = None
        self._lock_file = -1
        self._last_stamp = 0
        self._bytes = 0
        self._items: Counter[Signal] = Counter()
        self._waiting: dict[Signal, deque[_Entry]] = {signal: deque() for signal in SIGNALS}
        self._aside: deque[_Entry] = deque()
        self._handed_out: dict[Signal, str] = {}
        with suppress(OSError):
            self._open()

    @property
    def used_bytes(self) -> int:
        """The size of all files."""
        return self._bytes

    def items(self, signal: Signal) -> int:
        """How many items of a signal wait."""
        return self._items[signal]

    def put(self, signal: Signal, request: bytes, items: int, *, durable: bool = True) -> bool:
        """Keep a request as the youngest of its signal; over the limit the oldest of any signal go, once it is whole.

        Returns:
            Whether it is kept: from now on it survives the process, and with `durable` a crash of the machine too.
        """
        with self._one_at_a_time:
            if spool_files.HEADER_BYTES + len(request) + sum(entry.size for entry in self._in_use()) > self._limit:
                return False
            try:
                entry = self._write(signal, request, items, durable=durable)
            except OSError:
                return False
            self._add(signal, entry)
            self._shrink()
            return True

    def oldest(self, signal: Signal) -> Stored | None:
        """The request that waits longest; until it is removed it stays, and the limit does not touch it."""
        with self._one_at_a_time:
            waiting = self._waiting[signal]
            while waiting and self._home is not None:
                entry = waiting[0]
                try:
                    request = spool_files.read(self._home / entry.name, self._limit)
                except OSError as error:
                    if error.errno in _NOT_ITS_FAULT:
                        return None
                    request = None
                if request is not None:
                    self._handed_out[signal] = entry.name
                    return Stored(entry.name, signal, entry.items, request)
                self._set_aside(signal, waiting.popleft())
            return None

    def remove(self, stored: Stored) -> None:
        """Drop a request that `oldest` handed out."""
        with self._one_at_a_time:
            self._handed_out.pop(stored.signal, None)
            waiting = self._waiting[stored.signal]
            if waiting and waiting[0].name == stored.name:
                self._forget(stored.signal, waiting.popleft())

    def close(self) -> None:
        """Leave what waits to the next process."""
        with self._one_at_a_time:
            self._leave()

    # The folder.

    def _open(self) -> Path:
        """Make the process's own subfolder and take over those of the dead.

        It gets its name when its lock is held already, or it would look dead to another process that starts.
        """
        if self._home is not None:
            return self._home
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
        self._home, self._lock_file = home, lock
        with suppress(OSError):
            self._adopt(home)
        self._shrink()
        return home

    def _adopt(self, home: Path) -> None:
        """Take over, oldest first, what processes left that are no more."""
        left: list[tuple[int, Path]] = []
        with os.scandir(self._folder) as siblings:
            dead = [Path(each.path) for each in siblings if _FOLDER.fullmatch(each.name) and each.name != home.name]
        locks: dict[Path, int] = {}
        try:
            for folder in dead:
                with suppress(OSError):
                    locks[folder] = spool_files.lock(folder)
                    left += _left_in(folder)
            for _, path in sorted(left):
                with suppress(OSError):
                    self._take_over(home, path)
        finally:
            for folder, lock in locks.items():
                spool_files.unlock(folder, lock, empty=True)

    def _take_over(self, home: Path, path: Path) -> None:
        if _PART.fullmatch(path.name):
            path.unlink()
            return
        size = path.lstat().st_size
        stamp = self._stamp()
        if named := _REQUEST.fullmatch(path.name):
            signal, items = next(s for s in SIGNALS if s == named[2]), int(named[3])
            entry = _Entry(stamp, _name(stamp, f"{signal}.{items}"), items, size)
            path.rename(home / entry.name)
            self._add(signal, entry)
        else:
            entry = _Entry(stamp, _name(stamp, "damaged"), 0, size)
            path.rename(home / entry.name)
            self._aside.append(entry)
            self._bytes += size

    def _leave(self) -> None:
        if self._home is not None:
            spool_files.unlock(self._home, self._lock_file, empty=not self._bytes and not any(self._waiting.values()))
        self._home = None
        self._lock_file = -1

    def _give_up(self) -> None:
        """Count what was in a folder that is gone."""
        self._leave()
        for signal, waiting in self._waiting.items():
            if waiting:
                self._lost(signal, self._items[signal], "damaged")
                waiting.clear()
        self._items.clear()
        self._aside.clear()
        self._bytes = 0

    # Files.

    def _write(self, signal: Signal, request: bytes, items: int, *, durable: bool) -> _Entry:
        home = self._open()
        try:
            return self._write_to(home, signal, request, items, durable=durable)
        except FileNotFoundError:
            if home.exists():
                raise
        self._give_up()  # somebody has cleared it away
        return self._write_to(self._open(), signal, request, items, durable=durable)

    def _write_to(self, home: Path, signal: Signal, request: bytes, items: int, *, durable: bool) -> _Entry:
        stamp = self._stamp()
        entry = _Entry(stamp, _name(stamp, f"{signal}.{items}"), items, len(request) + spool_files.HEADER_BYTES)
        spool_files.write(home / entry.name, home / _name(stamp, "part"), request, durable=durable)
        return entry

    def _set_aside(self, signal: Signal, entry: _Entry) -> None:
        aside = entry._replace(name=_name(entry.stamp, "damaged"))
        self.damaged += 1
        self._items[signal] -= entry.items
        self._lost(signal, entry.items, "damaged")
        try:
            if self._home is not None:
                (self._home / entry.name).rename(self._home / aside.name)
                self._aside.append(aside)
                return
        except OSError:
            pass
        self._bytes -= entry.size

    # The books.

    def _stamp(self) -> int:
        self._last_stamp = max(time.time_ns(), self._last_stamp + 1)
        return self._last_stamp

    def _add(self, signal: Signal, entry: _Entry) -> None:
        self._waiting[signal].append(entry)
        self._items[signal] += entry.items
        self._bytes += entry.size

    def _forget(self, signal: Signal, entry: _Entry) -> None:
        self._items[signal] -= entry.items
        self._unlink(entry)

    def _unlink(self, entry: _Entry) -> None:
        self._bytes -= entry.size
        if self._home is not None:
            spool_files.discard(self._home / entry.name)

    def _shrink(self) -> None:
        """Get back within the limit: what was set aside goes first, then the oldest."""
        while self._bytes > self._limit:
            if self._aside:
                self._unlink(self._aside.popleft())
                continue
            in_use = self._in_use()
            entry, signal = min(
                (entry, signal)
                for signal, waiting in self._waiting.items()
                for entry in islice(waiting, 2)
                if entry not in in_use
            )
            self._waiting[signal].remove(entry)
            self._forget(signal, entry)
            self._lost(signal, entry.items, "spool_full")

    def _in_use(self) -> list[_Entry]:
        """What `oldest` handed out and has not come back."""
        return [
            waiting[0]
            for signal, waiting in self._waiting.items()
            if waiting and waiting[0].name == self._handed_out.get(signal)
        ]


def _name(stamp: int, rest: str) -> str:
    return f"{stamp:020d}.{rest}"


def _left_in(folder: Path) -> Iterator[tuple[int, Path]]:
    """The files of ours in a folder, with their stamps; what is not ours stays where it is."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if any(pattern.fullmatch(entry.name) for pattern in (_REQUEST, _DAMAGED, _PART)):
                yield int(entry.name.partition(".")[0]), Path(entry.path)
