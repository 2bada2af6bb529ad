"""The command line: the only module that reads argv or exits."""

import gc
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from modeltrace.errors import ModeltraceError
from modeltrace.imports import import_object

# The commands of each group, with the first line of their docstrings: the help of a group imports no command. A command
# is the function of its name, in the module of its group or, at the top level, in a module of its own.
COMMANDS: Mapping[str, str] = {
    "up": "Start service, hub and traffic on this machine, and stop them together.",
    "serve": "Serve a bundle over HTTP and send its telemetry over OTLP.",
    "pack": "Turn a fitted scikit-learn estimator and its training data into a bundle that can be served.",
    "image": "Write a Dockerfile and its build context for an image that serves a bundle.",
    "score": "Predict all rows of a file and write one result per row, in the same order.",
    "traffic": "Send prediction requests to a service at a steady rate, each with its own span.",
    "doctor": "Send one prediction request and check that its spans, its log records and a metric exemplar arrive.",
    "evaluate": "Compare predictions with true labels: accuracy, F1, calibration, concept drift, or a regressor's "
    "errors.",
    "evidence": "List the traces behind the drift of a feature: those with values that are more frequent than in "
    "training.",
    "drift": "Compare the stored predictions with reference rows by all features together (multivariate drift).",
    "explain": "Show by how much each feature of a stored prediction changes the output (Shapley values).",
    "replay": "Repeat stored predictions with a model, and show the differences.",
}
AUDIT_COMMANDS: Mapping[str, str] = {
    "export": "Write stored predictions and their true labels to a file.",
    "show": "Print a stored prediction, or all stored predictions of a trace or of an external ID, as JSON.",
    "erase": "Erase the inputs, external IDs and tags of stored predictions; the other columns stay.",
    "partition": "Divide a PostgreSQL store into partitions by day (UTC), which are dropped when they expire.",
    "prune": "Delete predictions before a given time, and their true labels.",
}
REPORT_COMMANDS: Mapping[str, str] = {
    "evidently": "Write Evidently's report: drift, data quality and model quality, as one HTML file.",
    "alibi": "Run Alibi Detect's drift tests: Kolmogorov-Smirnov or chi-square per column, MMD for all numeric "
    "columns.",
    "whylogs": "Write whylogs profiles of the predictions and of the reference data. whylogs can merge them with "
    "others.",
    "fiddler": "Write predictions as events for Fiddler, with the schema and specification of their model.",
}


class LazyCommand(TyperCommand):
    """A command that is imported when it runs or its help is printed. Its callback returns the command's function."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:  # noqa: ANN401  the types are private to typer
        """Import the command and let it parse the arguments. The context belongs to the imported command."""
        assert self.callback is not None  # noqa: S101  `_group` sets it
        app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        completes = bool(extra.get("resilient_parsing"))  # a shell completes the command, so it does not run
        app.command(self.name)(self.callback(for_help=completes or "--help" in args))
        return get_command(app).make_context(info_name, args, parent, **extra)


def _group(help_text: str, commands: Mapping[str, str], name: str | None = None) -> typer.Typer:
    """Return the group `name`, or the top level."""
    group = typer.Typer(
        name=name or "modeltrace",
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=name is None,
    )
    for command, summary in commands.items():
        target = f"modeltrace.cli.{name or command}:{command}"
        group.command(command, cls=LazyCommand, help=summary)(_loader(target))
    return group


def _loader(target: str) -> Callable[..., Any]:
    def import_command(*, for_help: bool) -> Any:  # noqa: ANN401  any function
        from modeltrace.otel_env.environment import read_variables, write_environment  # noqa: PLC0415  help needs no imports

        # Check the variables before the import: OpenTelemetry's packages read them and fail on unknown values.
        environ = {name: value for name, value in os.environ.items() if not (for_help and name.startswith("OTEL_"))}
        variables = read_variables(environ)
        write_environment(variables, os.environ)
        if variables.warnings:
            from modeltrace.terminal import echo  # noqa: PLC0415  only needed for a warning

            for warning in variables.warnings:
                echo(f"modeltrace: {warning}", err=True)
        return import_object(target)

    return import_command


app = _group("Serve scikit-learn models and trace every prediction with OpenTelemetry.", COMMANDS)
app.add_typer(_group("Export, show, erase or delete predictions in the prediction store.", AUDIT_COMMANDS, "audit"))
app.add_typer(
    _group(
        "Compare stored predictions with reference data (Evidently, Alibi Detect, whylogs), or export them (Fiddler).",
        REPORT_COMMANDS,
        "report",
    )
)


def _print_version(value: bool | None) -> None:  # noqa: FBT001  a callback of typer
    if value:
        from importlib.metadata import version  # noqa: PLC0415  only needed for this option

        from modeltrace.terminal import echo  # noqa: PLC0415  only needed for this option

        echo(f"modeltrace {version('modeltrace')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool | None, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    """Parse the options that come before the command."""


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    help="Start the hub, which receives, stores and shows telemetry (modeltrace-hub).",
)
def hub(context: typer.Context) -> None:
    """Replace this process with the hub, which parses the arguments. The service never imports the hub."""
    os.execv(sys.executable, [sys.executable, "-m", "modeltrace_hub", *context.args])  # noqa: S606  no shell is needed


def main() -> None:
    """Run a command. A `ModeltraceError`, or the lack of an extra, becomes one line on stderr and exit code 1."""
    try:
        app()
    except ModeltraceError as error:
        from rich.markup import escape  # noqa: PLC0415  only needed for an error message

        from modeltrace.terminal import SafeConsole  # noqa: PLC0415  see above

        SafeConsole(stderr=True, soft_wrap=True, markup=True).print(f"[red]modeltrace:[/red] {escape(str(error))}")
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name not in ("pyarrow", "duckdb_engine"):
            raise
        sys.exit(f"modeltrace: this command needs {error.name}: pip install 'modeltrace[arrow]'")
    finally:
        gc.unfreeze()  # the interpreter never frees frozen objects, and DuckDB's binding then reports leaks
