"""Options that several commands have, and groups of options."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from modeltrace.cli.times import parse_time
from modeltrace.tag_names import TAG_NAME

time_option = partial(typer.Option, parser=parse_time, metavar="TIME")
# The model that a command uses. Each command names it with `--bundle SOURCE`, as `modeltrace serve SOURCE` does.
bundle_option = partial(typer.Option, metavar="SOURCE")
# The bundle of the model whose predictions a command analyses, see `resolve_bundle`.
analysed_bundle_option = partial(
    bundle_option, show_default="MODELTRACE_BUNDLE, or the bundle of the newest prediction"
)
ModelName = Annotated[str | None, typer.Option("--name", help="Only predictions of the model with this name.")]
ModelVersion = Annotated[str | None, typer.Option("--version", help="Only predictions of this version of the model.")]

IncludeSynthetic = Annotated[
    bool, typer.Option("--include-synthetic", help="Include predictions of synthetic traffic.")
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        show_default="only SSL_CERT_FILE, or public CAs",
        help="Trust the CAs in this PEM file, too. It may also be the server's certificate itself.",
    ),
]
TrustPickle = Annotated[
    bool | None, typer.Option("--trust-pickle", help="Load joblib and pickle files, which can run any code.")
]
TrustCode = Annotated[
    bool | None, typer.Option("--trust-code", help="Import the modules that a bundle contains, which can run any code.")
]


def local_bundle(source: str, on_search: Callable[[], object] = lambda: None) -> Path:
    """Return the folder of the bundle that a source refers to now. Nothing is verified.

    Args:
        source: as for `modeltrace serve`.
        on_search: called before a search that takes time.

    Raises:
        ModeltraceError: there is no such bundle.
    """
    if (Path(source) / "model.json").exists():
        return Path(source)
    on_search()
    # Imported here: the import takes time, and most sources are the folder of a bundle.
    from modeltrace.bundles.registry.catalog import Catalog  # noqa: PLC0415  see above

    with Catalog(lambda _: None) as catalog:  # broken bundles are not used
        return catalog.resolve(source).path


def parse_tag(text: str) -> tuple[str, str]:
    """Return name and value of `NAME=VALUE`.

    Raises:
        typer.BadParameter: the text has another form.
    """
    name, separator, value = text.partition("=")
    if not separator or not TAG_NAME.fullmatch(name):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE, with a name such as country")
    return name, value


tag_option = partial(typer.Option, "--tag", parser=parse_tag, metavar="NAME=VALUE")


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
