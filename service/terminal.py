"""What the command line prints: names, labels and messages of others cannot speak to the terminal."""

from collections.abc import Iterator

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from service.printable import escape_controls


class SafeConsole(Console):
    """Prints control and bidirectional characters of a text escaped; styles and cursor movement are rich's own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render, with every text escaped."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else escape_controls(text), style, control)


def echo(text: object, *, err: bool = False) -> None:
    """Print a line, escaped; JSON that is escaped says the same."""
    typer.echo(escape_controls(str(text)), err=err)
