"""Progress of builds and starts: bars in a terminal, otherwise a line per change."""

import time
from collections.abc import Callable, Mapping
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

from stack.components import Program

# Seconds between two plain lines about the same step.
PLAIN_INTERVAL = 30.0

# Reports progress: component, current step, completed and total number of packages or steps (total 0: not known).
OnProgress = Callable[[str, str, int, int], None]


class ProgressDisplay:
    """One row per component in a terminal, otherwise plain lines."""

    def __init__(self, console: Console, components: Mapping[str, Program], *columns: ProgressColumn) -> None:
        self._console = console
        self._components = components
        self._tasks: dict[str, TaskID] = {}
        self._printed: dict[str, tuple[str, float]] = {}
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            *columns,
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, name: str, step: str, done: int, total: int) -> None:
        """Show the step of a component."""
        title = self._components[name].title
        if not self._console.is_terminal:
            step_printed, printed_at = self._printed.get(name, ("", 0.0))
            if step != step_printed or time.monotonic() - printed_at > PLAIN_INTERVAL:
                self._printed[name] = (step, time.monotonic())
                figures = f" ({done:,} of {total:,} packages)" if total > 1 else ""
                self._console.print(f"{title}: {step}{figures}", highlight=False, soft_wrap=True)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(title, total=None, step=step)
        self._progress.update(self._tasks[name], completed=done, total=total or None, step=step)


def build_display(console: Console, components: Mapping[str, Program]) -> ProgressDisplay:
    """Return a display of builds, in compiled packages."""
    if not console.is_terminal:
        console.print("building the stack from source, once; this takes about 25 minutes on two cores")
    return ProgressDisplay(
        console,
        components,
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[step]}[/dim]"),
    )


def start_display(console: Console, components: Mapping[str, Program]) -> ProgressDisplay:
    """Return a display of starts."""
    return ProgressDisplay(
        console, components, TextColumn("{task.description}"), TextColumn("[dim]{task.fields[step]}[/dim]")
    )
