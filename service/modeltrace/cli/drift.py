"""`modeltrace drift`."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from modeltrace.bundles.manifest import read_manifest
from modeltrace.cli.bundle_option import resolve_bundle
from modeltrace.cli.options import IncludeSynthetic, analysed_bundle_option, time_option
from modeltrace.cli.store import open_configured_store
from modeltrace.errors import SettingsError
from modeltrace.inference.importance import Importance
from modeltrace.inference.schema import Feature
from modeltrace.monitoring.domain_classifier import ALPHA, MIN_ROWS, DomainError, DomainResult, compare_samples
from modeltrace.printable import truncate
from modeltrace.settings import read_settings
from modeltrace.store.selection import Selection
from modeltrace.terminal import SafeConsole, echo
from modeltrace.traffic.rows import RowSourceError, Sample, load_samples, load_test_samples

# Nanoseconds.
DAY = 86_400 * 10**9
# The newest stored predictions, of which a sample is compared.
MAX_STORED_ROWS = 50_000
MAX_FEATURES_SHOWN = 10


def drift(
    since: Annotated[int | None, time_option(help="Predictions from this time on.", show_default="1d")] = None,
    until: Annotated[int | None, time_option(help="Predictions before this time.")] = None,
    bundle: Annotated[str | None, analysed_bundle_option(help="The bundle of the model.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The rows to compare with: .csv, .parquet or .jsonl.",
            show_default="the test rows of the bundle",
        ),
    ] = None,
    include_synthetic: IncludeSynthetic = False,  # noqa: FBT002  a flag
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Compare the stored predictions with reference rows by all features together (multivariate drift).

    A classifier tries to distinguish them. It sees what the drift of single features does not show, such as a change of
    their correlation. Single features are monitored all the time, see `modeltrace evidence`.

    Example: modeltrace drift --since 7d --reference training.parquet
    """
    start = since if since is not None else time.time_ns() - DAY
    with open_configured_store() as store:
        path = resolve_bundle(read_settings(bundle=bundle), store)
        manifest = read_manifest(path).manifest
        if reference is None and manifest.traffic is None:
            raise SettingsError(f"{path} has no test rows: name a file with --reference, such as the training data")
        samples = (
            load_test_samples(path, manifest.features)
            if reference is None
            else load_samples(reference, manifest.features)
        )
        if reference is not None:
            _check_numbers(reference, samples, manifest.features)
        selection = Selection(start, until, None, manifest.name, manifest.version, include_synthetic=include_synthetic)
        inputs: list[Any] = store.latest_inputs(selection, MAX_STORED_ROWS)
    if len(inputs) < MIN_ROWS:
        raise DomainError(
            f"{len(inputs):,} predictions of {manifest.name} {manifest.version}, and {MIN_ROWS} are needed. Only "
            "predictions of the version of the bundle count: name another one with --bundle, or an earlier --since"
        )
    result = compare_samples(
        manifest.features,
        [_values(sample.row, manifest.features) for sample in samples],
        [_values(row, manifest.features) for row in inputs],
    )
    features = weigh_features(result, manifest.importance)
    if as_json:
        content = {"model": {"name": manifest.name, "version": manifest.version}, **asdict(result)}
        echo(json.dumps({**content, "features": [*map(asdict, features)]}, indent=2, ensure_ascii=False))
    else:
        _print(f"{manifest.name} {manifest.version}", result, features)


@dataclass(frozen=True, slots=True)
class WeighedFeature:
    """A feature with its importance for the classifier of the drift, and for the model.

    `model_importance` is the share in the importances of all features of the model, and `weighted` its product with
    `importance`. Both are None if the bundle has no importances.
    """

    feature: str
    importance: float
    model_importance: float | None
    weighted: float | None


def weigh_features(result: DomainResult, importance: Importance | None) -> list[WeighedFeature]:
    """Weigh the features by their importance for the model, and sort them by it. Without it, the order stays."""
    if importance is None:
        return [WeighedFeature(entry.feature, entry.importance, None, None) for entry in result.features]
    shares = importance.shares()
    weighed = [
        WeighedFeature(entry.feature, entry.importance, share, max(entry.importance, 0.0) * share)
        for entry in result.features
        for share in [shares.get(entry.feature, 0.0)]
    ]
    return sorted(weighed, key=lambda entry: -(entry.weighted or 0.0))


def _check_numbers(file: Path, samples: Sequence[Sample], features: Sequence[Feature]) -> None:
    """Reject a file with another value than a number in the column of a number."""
    for feature in features:
        for number, sample in enumerate(samples, 1):
            value = sample.row[feature.name]
            if value is not None and _value(value, feature) is None:
                raise RowSourceError(
                    f"{file}, row {number:,}: {feature.name} is no number: {truncate(repr(value), 40)}"
                )


def _values(row: Any, features: tuple[Feature, ...]) -> list[Any]:  # noqa: ANN401  of JSON
    """Return the values in the order of the features. A number that was sent as another type counts as missing."""
    return [_value(row.get(feature.name), feature) for feature in features]


def _value(value: Any, feature: Feature) -> Any:  # noqa: ANN401  of JSON
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        is_number = False  # it cannot be converted to a float
    return None if feature.type in ("number", "integer") and not is_number else value


def _print(model: str, result: DomainResult, features: Sequence[WeighedFeature]) -> None:
    console = SafeConsole(soft_wrap=True)
    state = "drift" if result.drift else "no drift"
    console.print(
        f"{model} · {state} · ROC AUC {result.auc:.3f}, {1 - ALPHA:.0%} interval {result.low:.3f} to {result.high:.3f}",
        style="bold",
    )
    main = [entry.feature for entry in result.features[:1] if result.drift and entry.importance > 0]
    console.print(
        f"The {result.rows:,} predictions {'can' if result.drift else 'cannot'} be distinguished from the "
        f"{result.reference_rows:,} reference rows{f', mainly by {main[0]}' if main else ''}"
    )
    if result.excluded:
        console.print(f"Not compared: {', '.join(result.excluded)} (private, or times)")
    is_weighed = any(entry.weighted is not None for entry in features)
    table = Table("feature", "change of the AUC if shuffled", *(["importance for the model"] * is_weighed), box=None)
    for entry in features[:MAX_FEATURES_SHOWN]:
        share = [] if entry.model_importance is None else [f"{entry.model_importance:.1%}"]
        table.add_row(entry.feature, f"{-entry.importance:+.3f}", *share)
    console.print(table)
