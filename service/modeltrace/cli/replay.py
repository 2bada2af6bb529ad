"""`modeltrace replay`."""

import json
from functools import partial
from typing import Annotated

import typer

from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.search_paths import search_paths
from modeltrace.cli.audit import open_configured_store
from modeltrace.cli.terminal import SafeConsole, echo
from modeltrace.errors import ModeltraceError, SettingsError
from modeltrace.replay.render import render
from modeltrace.replay.render import to_json as told
from modeltrace.replay.run import ModelReplay, Replayer, group_by_model, overall_verdict
from modeltrace.settings import read_settings
from modeltrace.store.lookup import find_predictions

# Exit codes beside 0 and the 1 of every error.
EXIT_CODE_DIFFERENT = 2


class ReplayError(ModeltraceError):
    """Recorded predictions cannot be answered again."""


def replay(
    what: Annotated[str, typer.Argument(metavar="TRACE_ID|PREDICTION_ID", help="All predictions of a trace, or one.")],
    against: Annotated[
        str | None,
        typer.Option(metavar="VERSION|SOURCE", help="Another version of the model, or any source that serve takes."),
    ] = None,
    bundles: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="Where to look for bundles, beside MODELTRACE_BUNDLE. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of it as JSON, every row.")] = False,  # noqa: FBT002  a flag
    trust_pickle: Annotated[
        bool | None, typer.Option("--trust-pickle", help="Load joblib or pickle, which can run any code.")
    ] = None,
) -> None:
    """Answer recorded predictions again, and show what differs.

    The inputs are those in the prediction store (MODELTRACE_STORE). The model is the very one that answered, found by
    its SHA-256 in MODELTRACE_BUNDLE, --bundles or a copy from a registry; with --against it is another one.

    Ends with exit code 0 when every answer is equal, 2 when one differs, 1 when it cannot be told.

    Example: modeltrace replay 4bf92f3577b34da6a3ce929d0e0e4736 --against 1.1.0 --bundles models
    """
    settings = read_settings(trust_pickle=trust_pickle)
    with open_configured_store() as store:
        kept = find_predictions(store, what)
    sources = search_paths([*(bundles or ()), settings.bundle, settings.challenger])
    if not sources:
        raise SettingsError("no bundles to look in: name a folder with --bundles, or set MODELTRACE_BUNDLE")
    errors: list[str] = []
    groups: list[ModelReplay] = []
    with Catalog(partial(echo, err=True)) as catalog:
        replayer = Replayer(catalog, sources, trust_pickle=settings.trust_pickle, trusted_types=settings.trusted_types)
        for of_one_model in group_by_model(kept):
            try:
                groups.append(replayer.replay(of_one_model, against))
            except ModeltraceError as error:
                one = of_one_model[0]
                errors.append(f"{len(of_one_model):,} of {one.model_name} {one.model_version}: {error}")
    verdict = overall_verdict(groups, complete=not errors)
    if as_json:
        echo(json.dumps(told(groups, errors, verdict), indent=2, ensure_ascii=False))
    else:
        render(SafeConsole(soft_wrap=True), groups)
    if verdict == "equal":
        return
    reasons = [*errors, *(reason for group in groups for reason in group.reasons())]
    if verdict == "incomplete":
        raise ReplayError("; ".join(reasons))
    for reason in reasons:
        echo(reason, err=True)
    raise typer.Exit(EXIT_CODE_DIFFERENT)
