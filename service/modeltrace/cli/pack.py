"""`modeltrace pack`."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack as pack_bundle
from modeltrace.bundles.pack_files import pack_files
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.mlflow_client import MlflowClient
from modeltrace.bundles.registry.next_version import known_versions, next_version, version_sources
from modeltrace.bundles.registry.publish import download_model
from modeltrace.bundles.registry.publish import register as publish
from modeltrace.bundles.registry.search_paths import search_paths
from modeltrace.bundles.registry.source import MLFLOW_PREFIX
from modeltrace.bundles.registry.version_order import sort_best_first
from modeltrace.cli.options import TrustPickle
from modeltrace.cli.pack_options import (
    merge_allowed_violations,
    parse_max_length,
    parse_privacy_rule,
    parse_valid_range,
)
from modeltrace.inference.intervals import DEFAULT_LEVEL
from modeltrace.settings import read_settings
from modeltrace.terminal import command, echo

_registry_option = partial(typer.Option, rich_help_panel="MLflow registry")


def pack(
    model_file: Annotated[
        str,
        typer.Argument(
            help="A fitted estimator: a .skops, .joblib or .pkl file, a file that XGBoost (.ubj, .json), LightGBM "
            "(.txt) or CatBoost (.cbm) has saved, a folder that MLflow has saved, or models:/NAME@ALIAS in MLflow."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default="the input example of a model of MLflow",
            help="The training data: .csv, .tsv, .jsonl (each also with .gz) or .parquet.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="The column of the data with the true labels. Repeatable for a model with several outputs.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(show_default="the name of the file", help="The name of the model.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(show_default="1.0.0, or the next version of the model", help="The version of the model."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default="NAME", help="The folder of the bundle.")
    ] = None,
    traffic: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Test rows, in the same formats: the reference of the model's predictions, and generated traffic.",
        ),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="FEATURE=LOW:HIGH",
            help="Reject numbers outside this range. Times and durations are ISO 8601, with a slash: "
            "since=2020-01-01/2025-12-31. Repeatable.",
        ),
    ] = None,
    strict_categories: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--strict-categories", help="Reject categories that are not in the data.")
    ] = False,
    max_lengths: Annotated[
        list[str] | None,
        typer.Option(
            "--max-length",
            metavar="FEATURE=CHARACTERS",
            show_default="4 times the longest text in the data, at least 256",
            help="Reject longer texts. Repeatable.",
        ),
    ] = None,
    allow_violations: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE[=REASON,…]",
            help="Accept rows in which the feature violates the schema, and count the violations. Reasons: missing, "
            "type (the model gets a missing value instead), range, category. Default: all. The model must accept such "
            "rows. Repeatable.",
        ),
    ] = None,
    ignore_unknown: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--ignore-unknown", help="Accept and count rows with unknown features.")
    ] = False,
    privacy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE=RULE",
            help="How telemetry and the prediction store record values of the feature: hash (equal values have equal "
            "hashes), bucket (the bin of the training data), drop (not at all), plain (unchanged). Repeatable.",
        ),
    ] = None,
    format_: Annotated[
        Literal["skops", "joblib"], typer.Option("--format", help="The file format of the estimator.")
    ] = "skops",
    trust_pickle: TrustPickle = None,
    code: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Your own modules that the model needs: a folder of modules, the folder of a package, or a .py file. "
            "They become part of the bundle. Repeatable.",
        ),
    ] = None,
    requirements: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A requirements.txt with the packages that the modules need. The service checks them when it loads "
            "the bundle.",
        ),
    ] = None,
    onnx: Annotated[  # noqa: FBT002  a flag
        bool, typer.Option("--onnx", help="Add the model in ONNX format. Fails if its predictions differ.")
    ] = False,
    cross_validation_seconds: Annotated[
        float,
        typer.Option(
            "--cross-validation-seconds",
            metavar="SECONDS",
            min=0,
            help="The time limit of cross-validation, which predicts training rows as new rows without test "
            "rows. It needs --target. 0 turns it off.",
        ),
    ] = 120.0,
    importance_seconds: Annotated[
        float,
        typer.Option(
            "--importance-seconds",
            metavar="SECONDS",
            min=0,
            help="The time limit of the importance of each feature, which is measured on --traffic rows with labels. 0 "
            "turns it off.",
        ),
    ] = 30.0,
    lower: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="The file of a regressor of a lower quantile, for prediction intervals."),
    ] = None,
    upper: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="The file of a regressor of an upper quantile.")
    ] = None,
    interval_level: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="The share of true labels that a regressor's prediction intervals enclose.",
            show_default=str(DEFAULT_LEVEL),
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,  # noqa: FBT002  a flag
    register: Annotated[
        str | None,
        _registry_option(metavar="NAME", help="Register the bundle as a new version of this model."),
    ] = None,
    alias: Annotated[str | None, _registry_option(help="Set this alias to the new version.")] = None,
) -> None:
    """Turn a fitted scikit-learn estimator and its training data into a bundle that can be served.

    The training data determines the type, range and distribution of each feature. Requests are later compared with
    them. Before the bundle is written, it is loaded and tested.

    Without --version, the highest existing version of the model is taken, and its last number is incremented. Versions
    are searched in DIR and next to it, in MODELTRACE_BUNDLE and, with --register, in the registry.

    With --register, the bundle is also stored in an MLflow registry (MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI).

    Example: modeltrace pack churn.joblib --trust-pickle --data train.parquet --target churned
    """
    if alias is not None and register is None:
        raise typer.BadParameter("an alias requires --register NAME", param_hint="--alias")
    if (lower is None) != (upper is None):
        raise typer.BadParameter("--lower and --upper belong together")

    settings = read_settings(trust_pickle=trust_pickle)
    known: Collection[str] = ()
    with TemporaryDirectory() as folder, MlflowClient() as mlflow:
        registered = model_file.startswith(MLFLOW_PREFIX)
        file = download_model(mlflow, model_file, Path(folder)) if registered else Path(model_file)
        model_name = name or (file.name if file.is_dir() else file.stem)
        bundle = out or Path(model_name)
        if version is None:
            configured = search_paths([settings.bundle, settings.challenger])
            with Catalog(lambda _: None) as catalog:  # broken bundles have no version
                known = known_versions(model_name, version_sources(bundle, configured, register), catalog)
            version = next_version(known)
        pack_estimator = partial(
            pack_bundle,
            name=model_name,
            version=version,
            out=bundle,
            valid_ranges=dict(map(parse_valid_range, ranges or ())),
            strict_categories=strict_categories,
            max_lengths=dict(map(parse_max_length, max_lengths or ())),
            allowed_violations=merge_allowed_violations(allow_violations or []),
            ignore_unknown=ignore_unknown,
            privacy=dict(map(parse_privacy_rule, privacy or ())),
            artifact_format=format_,
            requirements=requirements,
            onnx=onnx,
            cross_validation_seconds=cross_validation_seconds,
            importance_seconds=importance_seconds,
            interval_level=DEFAULT_LEVEL if interval_level is None else interval_level,
            on_message=lambda message: echo(message, err=True),
            force=force,
        )
        pack_files(
            file,
            data,
            pack_estimator,
            targets=target or (),
            traffic=traffic,
            trust_pickle=settings.trust_pickle,
            trusted_types=settings.trusted_types,
            code=code or (),
            quantile_files=None if lower is None or upper is None else (lower, upper),
        )
        if interval_level is not None and read_manifest(bundle).manifest.interval is None:
            echo(
                "--interval-level has no effect: the bundle has no prediction intervals, which need a regressor and "
                "enough labelled rows that it was not fitted on",
                err=True,
            )
        if known:
            echo(f"{model_name} existed with version {', '.join(sort_best_first(known))}, so this is {version}")
        if register is not None:
            number = publish(mlflow, bundle, register, alias)
            source = f"{MLFLOW_PREFIX}{register}@{alias}" if alias else f"{MLFLOW_PREFIX}{register}/{number}"
            echo(f"Registered as {MLFLOW_PREFIX}{register}/{number}. To serve it: {command(f'serve {source}')}")
