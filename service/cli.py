"""The command line: the only code that reads argv or exits."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from service.commands.audit import erase, export, prune, show
from service.commands.doctor import doctor
from service.commands.evaluate import evaluate
from service.commands.evidence import evidence
from service.commands.pack import pack
from service.commands.replay import replay
from service.commands.report import alibi, evidently, fiddler, whylogs
from service.commands.serve import serve
from service.commands.traffic import traffic
from service.commands.up import up
from service.errors import ModeltraceError

app = typer.Typer(
    name="modeltrace",
    help="Serve a scikit-learn model and follow every prediction by one trace ID.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (up, serve, pack, traffic, doctor, evaluate, evidence, replay):
    app.command()(command)
audit = typer.Typer(
    name="audit", help="Export, show, erase and prune predictions in the prediction store.", no_args_is_help=True
)
for question in (export, show, erase, prune):
    audit.command()(question)
app.add_typer(audit)
report = typer.Typer(
    name="report",
    help="Report on predictions, by the field's own libraries: Evidently, Alibi Detect, whylogs; events for Fiddler.",
    no_args_is_help=True,
)
for library in (evidently, alibi, whylogs, fiddler):
    report.command()(library)
app.add_typer(report)


def main() -> None:
    """Run a command. What Modeltrace raises on purpose becomes one line and exit code 1."""
    try:
        app()
    except ModeltraceError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]modeltrace:[/red] {escape(str(error))}")
        sys.exit(1)
