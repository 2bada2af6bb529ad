"""Output to the terminal that escapes control characters in names, labels and messages."""

import os
from collections.abc import Iterator
from typing import Any, Final

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from modeltrace.printable import escape_control_characters

# The width of output to a pipe or a file: enough for each table, because a program needs complete values.
PIPE_WIDTH: Final = 10_000


class SafeConsole(Console):
    """A rich console that escapes control and bidirectional characters in text.

    Styles and cursor movements of rich itself are not escaped. Markup (`[red]`) and emoji codes (`:key:`) are printed
    literally, because names and labels may contain them. Exception: rich interprets markup in the text of a spinner;
    pass a `Text` there.

    Cells of tables are never cut: a terminal shows long ones in several lines, other output is as wide as necessary.
    """

    def __init__(
        self,
        *,
        markup: bool = False,
        emoji: bool = False,
        highlight: bool = False,
        **options: Any,  # noqa: ANN401  options of rich
    ) -> None:
        super().__init__(markup=markup, emoji=emoji, highlight=highlight, **options)
        if "width" not in options and not self.is_terminal:
            self.width = PIPE_WIDTH

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render with escaped text and complete cells."""
        if isinstance(renderable, Table):
            for column in renderable.columns:
                column.overflow = "fold"
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else escape_control_characters(text), style, control)


def command(arguments: str) -> str:
    """Return a command of Modeltrace for a hint. `./dev run` sets how it is started in a clone."""
    return f"{os.environ.get('MODELTRACE_COMMAND') or 'modeltrace'} {arguments}"


def echo(text: object, *, err: bool = False) -> None:
    """Print a line with escaped text. Escaped JSON has the same value."""
    typer.echo(escape_control_characters(str(text)), err=err)
