"""Access to the configured prediction store, and progress of long work on it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.progress import Progress

from modeltrace.errors import SettingsError
from modeltrace.evaluation.queries import METRIC_COLUMNS
from modeltrace.settings import read_settings
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store, open_store
from modeltrace.store.store_url import POSTGRESQL
from modeltrace.terminal import SafeConsole

# Seconds between two lines of progress if stderr is not a terminal.
PROGRESS_INTERVAL = 10.0


def open_configured_store() -> Store:
    """Open the prediction store of the settings.

    Raises:
        SettingsError: MODELTRACE_STORE is none.
        StoreError: the store cannot be opened.
    """
    url = read_settings().store_url()
    if url is None:
        raise SettingsError("there is no prediction store: MODELTRACE_STORE is none")
    return open_store(url, create=False)


@contextmanager
def open_store_or_export(
    exported: str | None, since: int | None, until: int | None, *, inputs: bool = True
) -> Iterator[Store]:
    """Open the prediction store of the settings, or load predictions of a time range that were exported.

    Args:
        exported: the exported predictions; `None` for the prediction store.
        since: the earliest time, in nanoseconds since the epoch.
        until: the first time after the range, in nanoseconds since the epoch.
        inputs: whether inputs are needed. Without them, only the columns for metrics are loaded.

    Raises:
        SettingsError: MODELTRACE_STORE is none.
        StoreError: the store cannot be opened.
        ExportError: the exported predictions cannot be read.
    """
    if exported is None:
        with open_configured_store() as store:
            yield store
        return
    # Imported here: the import takes a fifth of a second.
    from modeltrace.store.columnar_store import LABEL_COLUMNS  # noqa: PLC0415  see above
    from modeltrace.store.day_files import EXPORTED_COLUMNS, open_exported_store  # noqa: PLC0415  see above

    columns = EXPORTED_COLUMNS if inputs else (*METRIC_COLUMNS, *LABEL_COLUMNS)
    with open_exported_store(exported, since, until, columns) as store:
        yield store


@contextmanager
def open_metrics_store(store: Store, selection: Selection) -> Iterator[Store]:
    """Open the store in which the metrics of a selection are computed: a copy without inputs if that is faster.

    Predictions in PostgreSQL are copied if the packages of the extra `arrow` are installed.

    Raises:
        StoreError: the store cannot be read.
    """
    if store.location.url.drivername != POSTGRESQL or find_spec("adbc_driver_postgresql") is None:
        yield store
        return
    # Imported here: the import takes a fifth of a second, and needs the extra.
    from modeltrace.store.postgres_copy import open_postgres_copy  # noqa: PLC0415  see above

    with open_postgres_copy(store, selection, METRIC_COLUMNS) as copy:
        yield copy


@contextmanager
def progress_display(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show on stderr how many predictions are done: a progress bar in a terminal, otherwise a line at intervals.

    Yields a function that takes the number of predictions done so far.
    """
    console = SafeConsole(stderr=True)
    if console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("predictions", total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    last = time.monotonic()

    def print_progress(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_INTERVAL:
            last = time.monotonic()
            console.print(f"{done:,} predictions" if total is None else f"{done:,} of {total:,} predictions")

    yield print_progress
