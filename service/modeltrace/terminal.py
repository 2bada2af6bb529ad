"""Output to the terminal that escapes control characters in names, labels and messages."""

from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from modeltrace.printable import escape_control_characters


class SafeConsole(Console):
    """A rich console that escapes control and bidirectional characters in text.

    Styles and cursor movements of rich itself are not escaped. Markup (`[red]`) and emoji codes (`:key:`) are printed
    literally, because names and labels may contain them. Exception: rich interprets markup in the text of a spinner;
    pass a `Text` there.
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

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render with escaped text."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else escape_control_characters(text), style, control)


def echo(text: object, *, err: bool = False) -> None:
    """Print a line with escaped text. Escaped JSON has the same value."""
    typer.echo(escape_control_characters(str(text)), err=err)
