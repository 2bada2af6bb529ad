"""What a person sees while parts are built or started: bars in a terminal, a line a change elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from stack.parts import Part

# Seconds between two plain lines about the same work.
PLAIN_INTERVAL = 30.0


class _Screen:
    """A row a part in a terminal; elsewhere plain lines."""

    def __init__(self, console: Console, parts: Mapping[str, Part], *columns: ProgressColumn) -> None:
        self._console = console
        self._parts = parts
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, tuple[str, float]] = {}
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            *columns,
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _show(self, name: str, what: str, done: int, total: int) -> None:
        title = self._parts[name].title
        if not self._console.is_terminal:
            said, at = self._said.get(name, ("", 0.0))
            if what != said or time.monotonic() - at > PLAIN_INTERVAL:
                self._said[name] = (what, time.monotonic())
                figures = f" ({done:,} of {total:,} packages)" if total > 1 else ""
                self._console.print(f"{title}: {what}{figures}", highlight=False, soft_wrap=True)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(title, total=None, what=what)
        self._progress.update(self._tasks[name], completed=done, total=total or None, what=what)


class Building(_Screen):
    """Builds: packages compiled out of all."""

    def __init__(self, console: Console, parts: Mapping[str, Part]) -> None:
        super().__init__(
            console,
            parts,
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[what]}[/dim]"),
        )
        if not console.is_terminal:
            console.print("building the stack's parts from source, once; about 25 minutes on two cores")

    def tell(self, name: str, what: str, done: int, total: int) -> None:
        """A part's build has come further."""
        self._show(name, what, done, total)


class Starting(_Screen):
    """Starts."""

    def __init__(self, console: Console, parts: Mapping[str, Part]) -> None:
        super().__init__(console, parts, TextColumn("{task.description}"), TextColumn("[dim]{task.fields[what]}[/dim]"))

    def tell(self, name: str, what: str) -> None:
        """A part starts, or is healthy."""
        self._show(name, what, int(what == "healthy"), 1)
