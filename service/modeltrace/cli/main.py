"""The command line: the only code that reads argv or exits."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from modeltrace.errors import ModeltraceError
from modeltrace.imports import import_object

# Import path and first docstring line of each command, so that help needs no imports.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("modeltrace.cli.up:up", "Start service, hub and traffic on this machine, and stop them together."),
    "serve": ("modeltrace.cli.serve:serve", "Serve a bundle over HTTP and send its telemetry over OTLP."),
    "pack": (
        "modeltrace.cli.pack:pack",
        "Turn a fitted scikit-learn estimator and its training data into a bundle that can be served.",
    ),
    "traffic": (
        "modeltrace.cli.traffic:traffic",
        "Send predictions to a service at a steady rate, with spans of their own.",
    ),
    "doctor": (
        "modeltrace.cli.doctor:doctor",
        "Send one prediction and see whether all of its telemetry arrives: spans, log records, a metric exemplar.",
    ),
    "evaluate": (
        "modeltrace.cli.evaluate:evaluate",
        "Say how right a model is: accuracy, precision, recall, F1, calibration, concept drift; or how far off.",
    ),
    "evidence": (
        "modeltrace.cli.evidence:evidence",
        "List the traces of predictions that fell into the bins that grew against the training data.",
    ),
    "replay": ("modeltrace.cli.replay:replay", "Answer recorded predictions again, and show what differs."),
}
AUDIT_COMMANDS: Mapping[str, tuple[str, str]] = {
    "export": (
        "modeltrace.cli.audit:export",
        "Write predictions, with the true labels that have arrived, to a file.",
    ),
    "show": (
        "modeltrace.cli.audit:show",
        "Print what is kept of a prediction, or of all predictions of a trace, as JSON.",
    ),
    "erase": (
        "modeltrace.cli.audit:erase",
        "Remove the inputs of predictions; their rows stay, with the time of the removal.",
    ),
    "prune": ("modeltrace.cli.audit:prune", "Delete predictions, and their labels, that are older than a time."),
}
REPORT_COMMANDS: Mapping[str, tuple[str, str]] = {
    "evidently": (
        "modeltrace.cli.report:evidently",
        "Evidently's report: drift, data quality, and how right the answers are, as one HTML file.",
    ),
    "alibi": (
        "modeltrace.cli.report:alibi",
        "Alibi Detect's drift tests: Kolmogorov-Smirnov and chi-square for each column, MMD for all numbers together.",
    ),
    "whylogs": (
        "modeltrace.cli.report:whylogs",
        "Profiles by whylogs of the window and of the reference, which merge with others of its kind.",
    ),
    "fiddler": (
        "modeltrace.cli.report:fiddler",
        "Predictions as events that Fiddler takes, and OUT.model.json: schema and specification of their model.",
    ),
}


class LazyCommand(TyperCommand):
    """A command that is imported when it is invoked or its help is printed. Its callback returns the function."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:  # noqa: ANN401  the types are private to typer
        """Import the command and parse the arguments with it. The context's command is the imported one."""
        assert self.callback is not None  # noqa: S101  `_group` gives each one
        app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        app.command(self.name)(self.callback(for_help="--help" in args))
        return get_command(app).make_context(info_name, args, parent, **extra)


def _group(name: str, help_text: str, commands: Mapping[str, tuple[str, str]]) -> typer.Typer:
    group = typer.Typer(
        name=name, help=help_text, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
    )
    for command, (target, summary) in commands.items():
        group.command(command, cls=LazyCommand, help=summary)(_loader(target))
    return group


def _loader(target: str) -> Callable[..., Any]:
    def import_command(*, for_help: bool) -> Any:  # noqa: ANN401  whatever the target is
        from modeltrace.otel_env.variables import read_variables, write_environment  # noqa: PLC0415  help needs no imports

        # First: OpenTelemetry's packages read variables when they are imported, and fail on unknown values.
        environ = {name: value for name, value in os.environ.items() if not (for_help and name.startswith("OTEL_"))}
        variables = read_variables(environ)
        write_environment(variables, os.environ)
        if variables.warnings:
            from modeltrace.cli.terminal import echo  # noqa: PLC0415  only needed for a warning

            for warning in variables.warnings:
                echo(f"modeltrace: {warning}", err=True)
        return import_object(target)

    return import_command


app = _group("modeltrace", "Serve a scikit-learn model and follow every prediction by one trace ID.", COMMANDS)
app.add_typer(_group("audit", "Export, show, erase and prune predictions in the prediction store.", AUDIT_COMMANDS))
app.add_typer(
    _group(
        "report",
        "Report on predictions, by the field's own libraries: Evidently, Alibi Detect, whylogs; events for Fiddler.",
        REPORT_COMMANDS,
    )
)


def main() -> None:
    """Run a command. What Modeltrace raises on purpose becomes one line and exit code 1."""
    try:
        app()
    except ModeltraceError as error:
        from rich.markup import escape  # noqa: PLC0415  only needed for an error message

        from modeltrace.cli.terminal import SafeConsole  # noqa: PLC0415  see above

        SafeConsole(stderr=True, soft_wrap=True, markup=True).print(f"[red]modeltrace:[/red] {escape(str(error))}")
        sys.exit(1)
