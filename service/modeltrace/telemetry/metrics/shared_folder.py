"""A folder in which the workers of one service share snapshots of their metrics.

    metrics-…/
    ├── lock             held while a worker is added, and while snapshots are read
    ├── ended            the sums of the workers that have ended, and their names
    ├── 71-18a….alive    locked by the worker as long as it runs; the system releases the lock if it is killed
    ├── 71-18a….records  a snapshot of the worker's metrics that are counted from records
    └── 71-18a….sdk      a snapshot of its other metrics

A reader adds the snapshots of ended workers to `ended`. Counters therefore never decrease, and the number of files
stays bounded.
"""

import fcntl
import os
import pickle
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from modeltrace.errors import SettingsError
from modeltrace.telemetry.metrics.snapshots import Snapshot, add_snapshots

_ALIVE: Final = ".alive"
_ENDED: Final = "ended"
# The metrics that are counted from records, and those of the SDK.
RECORDS, SDK = PARTS = ("records", "sdk")


@contextmanager
def create_shared_folder() -> Iterator[Path]:
    """Create the folder in the supervisor of the workers, and remove it at the end.

    The folder is locked, so that systemd-tmpfiles does not remove its files.

    Raises:
        SettingsError: it cannot be created.
    """
    try:
        temporary = tempfile.TemporaryDirectory(prefix="modeltrace-metrics-", ignore_cleanup_errors=True)
    except OSError as error:
        raise SettingsError(
            f"several workers need a temporary folder: {error.strerror or error}; name one in TMPDIR"
        ) from None
    with temporary as folder:
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield Path(folder)
        finally:
            os.close(handle)


class SharedMetrics:
    """The snapshots of all workers. One instance per worker; it stays registered until the process ends."""

    def __init__(self, folder: Path) -> None:
        """Register this worker.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder = folder
        self._name = f"{os.getpid()}-{time.time_ns():x}"
        with self._locked():
            self._alive = _open(folder / f"{self._name}{_ALIVE}")
            fcntl.flock(self._alive, fcntl.LOCK_EX)

    def write(self, part: str, snapshot: Snapshot) -> None:
        """Replace one of the `PARTS` of this worker's metrics.

        Raises:
            OSError: the file cannot be written.
        """
        _replace(self._folder / f"{self._name}.{part}", snapshot)

    def read(self) -> Snapshot:
        """Return the metrics of all workers, including those that have ended.

        Raises:
            OSError: a file cannot be read or written.
        """
        with self._locked():
            sums, counted = self._read_ended()
            names = {path.stem for path in self._folder.glob(f"*{_ALIVE}")}
            ended = {name for name in names - counted if not self._is_alive(name)}
            if ended:
                sums = add_snapshots([], [sums, *self._load(ended)])
                counted = (counted & names) | ended
                # With the names: if this process is killed now, the next reader does not add the files again.
                _replace(self._folder / _ENDED, (sums, counted))
            for name in counted & names:
                self._remove(name)
            return add_snapshots(self._load(names - counted), [sums])

    def _read_ended(self) -> tuple[Snapshot, set[str]]:
        """Return the sums of the workers that have ended, and the names of the last ones."""
        with suppress(FileNotFoundError):
            sums, names = _read(self._folder / _ENDED)
            return sums, names
        return {}, set()

    def _load(self, names: Iterable[str]) -> list[Snapshot]:
        """Return the snapshots of workers, the latest last."""
        paths = [self._folder / f"{name}.{part}" for name in names for part in PARTS]
        existing = sorted((path for path in paths if path.exists()), key=lambda path: path.stat().st_mtime_ns)
        return [_read(path) for path in existing]

    def _remove(self, name: str) -> None:
        """Remove the files of a worker, first those that make it known."""
        for path in sorted(self._folder.glob(f"{name}.*"), key=lambda path: path.suffix != _ALIVE):
            path.unlink()

    def _is_alive(self, name: str) -> bool:
        """Return whether a worker runs: whether its lock is held."""
        handle = _open(self._folder / f"{name}{_ALIVE}")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = _open(self._folder / "lock")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _replace(path: Path, content: object) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(pickle.dumps(content))
    temporary.replace(path)


def _read(path: Path) -> Any:  # noqa: ANN401  as it was written
    return pickle.loads(path.read_bytes())  # noqa: S301  a file of this service, in a folder that only its user can write
