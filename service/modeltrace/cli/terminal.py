"""What the command line prints: names, labels and messages of others cannot speak to the terminal."""

from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from modeltrace.printable import escape_control_characters


class SafeConsole(Console):
    """Prints control and bidirectional characters of a text escaped; styles and cursor movement are rich's own.

    Markup (`[red]`) and emoji codes (`:key:`) are printed as they stand, for names and labels of others may hold them.
    Only a text that is given to a spinner is read as markup by rich all the same: give it a `Text`.
    """

    def __init__(
        self,
        *,
        markup: bool = False,
        emoji: bool = False,
        highlight: bool = False,
        **options: Any,  # noqa: ANN401  rich's
    ) -> None:
        super().__init__(markup=markup, emoji=emoji, highlight=highlight, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render, with every text escaped."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else escape_control_characters(text), style, control)


def echo(text: object, *, err: bool = False) -> None:
    """Print a line, escaped; JSON that is escaped says the same."""
    typer.echo(escape_control_characters(str(text)), err=err)
