"""`modeltrace pack`."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from modeltrace.bundles.pack_files import pack_files
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.next_version import known_versions, next_version, version_sources
from modeltrace.bundles.registry.publish import download_estimator
from modeltrace.bundles.registry.publish import register as publish
from modeltrace.bundles.registry.search_paths import search_paths
from modeltrace.bundles.registry.source import MLFLOW_PREFIX
from modeltrace.bundles.registry.version_order import sort_best_first
from modeltrace.cli.terminal import echo
from modeltrace.inference.schema import PRIVACY_RULES, REASONS, PrivacyRule, Reason
from modeltrace.settings import read_settings

_MLFLOW_PANEL = "An MLflow registry"


def parse_valid_range(text: str) -> tuple[str, float, float]:
    """Read `FEATURE=LOW:HIGH`."""
    name, _, bounds = text.rpartition("=")
    try:
        low, high = (float(bound) for bound in bounds.split(":"))
    except ValueError:
        raise typer.BadParameter("write FEATURE=LOW:HIGH, e.g. age=0:120", param_hint="--range") from None
    if not name or not float("-inf") < low <= high < float("inf"):
        raise typer.BadParameter("the bounds must be finite, the lower one first: age=0:120", param_hint="--range")
    return name, low, high


def parse_max_length(text: str) -> tuple[str, int]:
    """Read `FEATURE=CHARACTERS`."""
    name, _, said = text.rpartition("=")
    if not name or not re.fullmatch("[0-9]{1,9}", said) or int(said) < 1:
        raise typer.BadParameter("write FEATURE=CHARACTERS, e.g. comment=2000", param_hint="--max-length")
    return name, int(said)


def parse_allowed_violations(text: str) -> tuple[str, tuple[Reason, ...]]:
    """Read `FEATURE` or `FEATURE=REASON,…`; without a reason, all of them."""
    name, _, tail = text.rpartition("=")
    reasons = tuple(reason for reason in REASONS if reason in tail.split(","))
    # A name may hold an equals sign, too.
    return (name, reasons) if name and set(tail.split(",")) <= set(REASONS) else (text, ())


def merge_allowed_violations(asked: list[str]) -> dict[str, tuple[Reason, ...]]:
    """All of them, by feature."""
    found: dict[str, tuple[Reason, ...]] = {}
    for name, reasons in map(parse_allowed_violations, asked):
        # Without a reason means all of them, whatever else is said of the feature.
        all_of_them = not reasons or found.get(name) == ()
        found[name] = () if all_of_them else tuple(dict.fromkeys((*found.get(name, ()), *reasons)))
    return found


def parse_privacy_rule(text: str) -> tuple[str, PrivacyRule]:
    """Read `FEATURE=RULE`."""
    name, _, said = text.rpartition("=")
    rule = next((rule for rule in PRIVACY_RULES if rule == said), None)
    if not name or rule is None:
        raise typer.BadParameter("write FEATURE=hash, =bucket, =drop or =plain", param_hint="--privacy")
    return name, rule


def pack(
    model_file: Annotated[
        str, typer.Argument(help="A fitted estimator: .skops, .joblib, .pkl, or a registered one: models:/NAME@ALIAS.")
    ],
    data: Annotated[Path, typer.Option(metavar="FILE", help="The training data: .csv or .parquet.")],
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The label's column in the data.")] = None,
    name: Annotated[str | None, typer.Option(show_default="the file's", help="The model's name.")] = None,
    version: Annotated[
        str | None,
        typer.Option(show_default="1.0.0, or the next one of a model that is packed already", help="The version."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", show_default="NAME", help="The bundle's folder.")] = None,
    traffic: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Held-out rows to replay: .csv or .parquet.")
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="RANGE", help="FEATURE=LOW:HIGH: refuse what lies outside. Repeatable."),
    ] = None,
    strict_categories: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--strict-categories", help="Refuse categories that the data does not have.")
    ] = False,
    max_lengths: Annotated[
        list[str] | None,
        typer.Option(
            "--max-length",
            metavar="FEATURE=CHARACTERS",
            show_default="4 times the longest text of the data, 256 or more",
            help="Refuse longer texts. Repeatable.",
        ),
    ] = None,
    allow_violations: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-violations",
            metavar="FEATURE[=REASON,…]",
            help="Answer rows that break the schema there, and count them. Reasons: missing, type (given to the model "
            "as missing), range, category; all of them if none is named. Refused unless the model takes such rows. "
            "Repeatable.",
        ),
    ] = None,
    ignore_unknown: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--ignore-unknown", help="Answer rows with features that the model does not have, counted.")
    ] = False,
    privacy: Annotated[
        list[str] | None,
        typer.Option(
            "--privacy",
            metavar="FEATURE=RULE",
            help="What telemetry, audit records and the prediction store are told of its values: hash (equal ones stay "
            "equal), bucket (the bin of the training data), drop (nothing). Repeatable.",
        ),
    ] = None,
    format_: Annotated[
        Literal["skops", "joblib"], typer.Option("--format", help="How the estimator is kept.")
    ] = "skops",
    trust_pickle: Annotated[
        bool | None, typer.Option("--trust-pickle", help="Load a joblib or pickle file, which can run any code.")
    ] = None,
    onnx: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--onnx", help="Keep it for ONNX Runtime, too, if it is proven to answer the same there.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,  # noqa: FBT002  a flag
    register: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make it a new version of that model.", rich_help_panel=_MLFLOW_PANEL),
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help="Have this alias mean that version.", rich_help_panel=_MLFLOW_PANEL)
    ] = None,
) -> None:
    """Turn a fitted scikit-learn estimator and its training data into a bundle that can be served.

    The data gives each feature its type, its range and its distribution, which later traffic is compared with. The
    bundle is loaded and asked for proof before it is written.

    Without --version, bundles of the same name beside DIR, in MODELTRACE_BUNDLE and in the registry decide: the highest
    version, its last number raised by one.

    With --register it goes to the MLflow registry that MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI names, too.

    Example: modeltrace pack churn.joblib --trust-pickle --data train.parquet --target churned
    """
    if alias is not None and register is None:
        raise typer.BadParameter("an alias is of a registered model: name that with --register", param_hint="--alias")

    settings = read_settings(trust_pickle=trust_pickle)
    with TemporaryDirectory() as folder, MlflowClient() as mlflow:
        registered = model_file.startswith(MLFLOW_PREFIX)
        file = download_estimator(mlflow, model_file, Path(folder)) if registered else Path(model_file)
        called = name or file.stem
        bundle = out or Path(called)
        if version is None:
            named = search_paths([settings.bundle, settings.challenger])
            with Catalog(lambda _: None) as catalog:  # what is broken there has no version
                known = known_versions(called, version_sources(bundle, named, register), catalog)
            version = next_version(known)
            if known:
                echo(f"{called} is packed already, as {', '.join(sort_best_first(known))}: this one is {version}")
        pack_files(
            file,
            data,
            target=target,
            name=called,
            version=version,
            out=bundle,
            traffic=traffic,
            valid_ranges={feature: (low, high) for feature, low, high in map(parse_valid_range, ranges or ())},
            strict_categories=strict_categories,
            max_lengths=dict(map(parse_max_length, max_lengths or ())),
            allowed_violations=merge_allowed_violations(allow_violations or []),
            ignore_unknown=ignore_unknown,
            privacy=dict(map(parse_privacy_rule, privacy or ())),
            artifact_format=format_,
            trust_pickle=settings.trust_pickle,
            trusted_types=settings.trusted_types,
            onnx=onnx,
            force=force,
        )
        if register is not None:
            number = publish(mlflow, bundle, register, alias)
            source = f"{MLFLOW_PREFIX}{register}@{alias}" if alias else f"{MLFLOW_PREFIX}{register}/{number}"
            echo(f"Registered as {MLFLOW_PREFIX}{register}/{number}. To serve it from there: modeltrace serve {source}")
