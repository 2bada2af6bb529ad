"""`modeltrace replay`."""

import json
from functools import partial
from typing import Annotated

import typer

from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.search_paths import search_paths
from modeltrace.cli.bundle_option import BUNDLE_HINT
from modeltrace.cli.options import TrustCode, TrustPickle, bundle_option
from modeltrace.cli.store import open_configured_store
from modeltrace.errors import BundleNotFoundError, ModeltraceError
from modeltrace.replay.render import render, to_json
from modeltrace.replay.run import ModelReplay, Replayer, group_by_model, overall_verdict
from modeltrace.settings import read_settings
from modeltrace.store.lookup import find_predictions
from modeltrace.terminal import SafeConsole, echo

# 1 is the exit code of errors.
EXIT_CODE_DIFFERENT = 2


class ReplayError(ModeltraceError):
    """Stored predictions cannot be replayed."""


def replay(
    identifier: Annotated[
        str, typer.Argument(metavar="TRACE_ID|PREDICTION_ID", help="The ID of a trace or of one prediction.")
    ],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|SOURCE",
            show_default="the model that made the predictions",
            help="Another version of the model, or a SOURCE as for `modeltrace serve`.",
        ),
    ] = None,
    bundle: Annotated[
        list[str] | None, bundle_option(help="Search for the bundle of the model here, too. Repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result, with all rows, as JSON.")] = False,  # noqa: FBT002  a flag
    trust_pickle: TrustPickle = None,
    trust_code: TrustCode = None,
) -> None:
    """Repeat stored predictions with a model, and show the differences.

    The inputs come from the prediction store (MODELTRACE_STORE). Without --against, the model that made the predictions
    is used. It is identified by its SHA-256, and searched in --bundle, in MODELTRACE_BUNDLE, in the current folder and
    in the local copies from registries.

    The exit code is 0 if all predictions are equal, 2 if any differs, and 1 if some could not be repeated.

    Example: modeltrace replay 4bf92f3577b34da6a3ce929d0e0e4736 --against 1.1.0 --bundle models
    """
    settings = read_settings(trust_pickle=trust_pickle, trust_code=trust_code)
    with open_configured_store() as store:
        predictions = find_predictions(store, identifier)
    sources = search_paths([*(bundle or ()), settings.bundle, settings.challenger, "."])
    errors: list[str] = []
    replays: list[ModelReplay] = []
    with Catalog(partial(echo, err=True)) as catalog:
        replayer = Replayer(catalog, sources, settings)
        for group in group_by_model(predictions):
            try:
                replays.append(replayer.replay(group, against))
            except ModeltraceError as error:
                hint = f". {BUNDLE_HINT}" if isinstance(error, BundleNotFoundError) else ""
                errors.append(f"{len(group):,} of {group[0].model_name} {group[0].model_version}: {error}{hint}")
    verdict = overall_verdict(replays, complete=not errors)
    if as_json:
        echo(json.dumps(to_json(replays, errors, verdict), indent=2, ensure_ascii=False))
    else:
        render(SafeConsole(soft_wrap=True), replays)
    if verdict == "equal":
        return
    reasons = [*errors, *(reason for model_replay in replays for reason in model_replay.reasons())]
    if verdict == "incomplete":
        raise ReplayError("; ".join(reasons))
    for reason in reasons:
        echo(reason, err=True)
    raise typer.Exit(EXIT_CODE_DIFFERENT)
