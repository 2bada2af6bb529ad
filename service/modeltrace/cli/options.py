"""Options that several commands have, and groups of options."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Annotated, Any

import typer

from modeltrace.cli.times import parse_time

time_option = partial(typer.Option, parser=parse_time, metavar="TIME")
# The bundle of the model whose predictions a command analyses, see `resolve_bundle`.
bundle_source_option = partial(
    typer.Option, metavar="SOURCE", show_default="MODELTRACE_BUNDLE, or the bundle of the newest prediction"
)

IncludeSynthetic = Annotated[
    bool, typer.Option("--include-synthetic", help="Include predictions of synthetic traffic.")
]
TrustPickle = Annotated[
    bool | None, typer.Option("--trust-pickle", help="Load joblib and pickle files, which can run any code.")
]


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let Typer make options of the fields of a dataclass, the last parameter of a command."""
    *parameters, options = inspect.signature(command).parameters.values()

    @wraps(command)
    def run(**values: Any) -> None:  # noqa: ANN401  any options
        own_values = [values.pop(parameter.name) for parameter in parameters]
        command(*own_values, options.annotation(**values))

    fields = inspect.signature(options.annotation).parameters.values()
    run.__signature__ = inspect.Signature([*parameters, *fields])  # type: ignore[attr-defined]  # read by `inspect`
    return run
