"""From files to a bundle, and what a person is told of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from modeltrace.bundles.artifact import ArtifactFormat, load_artifact
from modeltrace.bundles.manifest import MANIFEST_FILE, Manifest, read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.bundles.training_frame import date_columns, number_object_columns
from modeltrace.bundles.verify_outputs import first_line
from modeltrace.cli.terminal import SafeConsole
from modeltrace.errors import ModeltraceError, PackError
from modeltrace.inference.allowed_violations import AllowedViolations
from modeltrace.inference.schema import Feature, PrivacyRule

# Classes whose shares are printed.
MAX_SHOWN_CLASSES = 8
# Columns that a message names.
MAX_NAMED_COLUMNS = 50
FORMAT_BY_SUFFIX: dict[str, ArtifactFormat] = {
    ".skops": "skops",
    ".joblib": "joblib",
    ".pkl": "joblib",
    ".pickle": "joblib",
}


def pack_files(
    model_file: Path,
    data: Path,
    *,
    target: str | None,
    name: str,
    version: str,
    out: Path,
    traffic: Path | None,
    valid_ranges: Mapping[str, tuple[float, float]],
    strict_categories: bool,
    max_lengths: Mapping[str, int],
    allowed_violations: AllowedViolations,
    ignore_unknown: bool,
    privacy: Mapping[str, PrivacyRule],
    artifact_format: ArtifactFormat,
    trust_pickle: bool,
    trusted_types: tuple[str, ...],
    onnx: bool,
    force: bool,
) -> None:
    """Read a model and its data, pack them (`modeltrace.bundles.pack.pack`) and print what was packed.

    Raises:
        PackError: a file cannot be read, or they do not make a bundle.
        BundleError: the model file is not trusted, or is damaged.
    """
    estimator = _read_model(model_file, trust_pickle=trust_pickle, trusted_types=trusted_types)
    table = _read_table(data)
    if target is not None and target not in table.columns:
        raise PackError(
            f"{data} has no column {target}; it has {', '.join(map(str, table.columns[:MAX_NAMED_COLUMNS]))}"
        )
    bundle = _pack(
        estimator,
        table if target is None else table.drop(columns=target),
        None if target is None else table[target],
        name=name,
        version=version,
        out=out,
        artifact_format=artifact_format,
        traffic=None if traffic is None else _read_table(traffic),
        valid_ranges=valid_ranges,
        strict_categories=strict_categories,
        max_lengths=max_lengths,
        allowed_violations=allowed_violations,
        ignore_unknown=ignore_unknown,
        privacy=privacy,
        trusted_types=trusted_types,
        onnx=onnx,
        force=force,
    )
    _print_summary(bundle, [name for name in table.columns if name != target], table)


def _pack(*arguments: Any, **options: Any) -> Path:  # noqa: ANN401  those of `pack`
    """Pack; what an estimator or a table of others raises is an error of theirs, not a defect of the program."""
    try:
        return pack(*arguments, **options)
    except ModeltraceError:
        raise
    except Exception as error:
        raise PackError(
            f"the model and its data do not make a bundle: {type(error).__name__}: {first_line(error)}"
        ) from error


def _read_model(path: Path, *, trust_pickle: bool, trusted_types: tuple[str, ...]) -> object:
    if path.suffix not in FORMAT_BY_SUFFIX:
        raise PackError(f"{path}: the name must end in {', '.join(FORMAT_BY_SUFFIX)}")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: {error.strerror}") from None
    return load_artifact(
        raw, FORMAT_BY_SUFFIX[path.suffix], source=path, trust_pickle=trust_pickle, trusted_types=trusted_types
    )


def _read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    Raises:
        PackError: it is neither, or cannot be read.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise PackError(f"{path}: the name must end in .csv or .parquet")
    try:
        return pd.read_csv(path, low_memory=False) if path.suffix == ".csv" else pd.read_parquet(path)
    except Exception as error:  # those of pyarrow and of the C parser have no common base
        raise PackError(f"{path} cannot be read: {first_line(error)}") from error


def _print_summary(bundle: Path, columns: Sequence[str], table: pd.DataFrame) -> None:
    manifest, digest = read_manifest(bundle)
    console = SafeConsole(soft_wrap=True)
    console.print(f"Packed {manifest.name} {manifest.version} into {bundle}", style="bold")
    console.print(_feature_table(manifest))
    for line in _column_notes(
        table[[name for name in columns if str(name) in {one.name for one in manifest.features}]]
    ):
        console.print(line)
    for line in _output_lines(manifest):
        console.print(line)
    if manifest.traffic is not None:
        labels = "with" if manifest.traffic.target else "without"
        console.print(f"Held-out rows: {manifest.traffic.rows:,}, {labels} labels")
    if (onnx := manifest.onnx) is not None:
        console.print(
            f"For ONNX Runtime, in {onnx.precision}: answers to {onnx.verified_rows:,} rows of training data differ by "
            f"{onnx.max_difference:.1g} at most; serve it with MODELTRACE_ENGINE=onnx"
        )
    console.print(f"SHA-256 of {MANIFEST_FILE}, to pin it with --expect-sha256:\n  {digest}")
    pickled = "MODELTRACE_TRUST_PICKLE=true " if manifest.artifact.format == "joblib" else ""
    console.print(f"Next: {pickled}modeltrace up {bundle}")


def _column_notes(table: pd.DataFrame) -> list[str]:
    """What became of columns that are not what they look like."""
    decimals = [
        f"Note: {name} holds number objects (Decimal, say); the model is given floats"
        for name in number_object_columns(table)
    ]
    dates = [
        f"Note: {name} holds dates as text, which are categories to the model and to drift: each date is one. "
        "Numbers made of them (days since a day, month, weekday) before fitting are better features"
        for name in date_columns(table)
    ]
    return decimals + dates


def _output_lines(manifest: Manifest) -> list[str]:
    """What the model answers, which later answers are compared with."""
    if (answers := manifest.output_reference) is None:
        return []
    rows = "rows of training data" if answers.source == "training" else "held-out rows"
    if answers.edges is None:
        shares = sorted(answers.shares.items(), key=lambda one: -one[1])
        more = f", {len(shares) - MAX_SHOWN_CLASSES} more" if len(shares) > MAX_SHOWN_CLASSES else ""
        said = ", ".join(f"{label} {share:.1%}" for label, share in shares[:MAX_SHOWN_CLASSES]) + more
    else:
        said = f"{answers.mean:g} on average, deviation {answers.deviation:g}"
    lines = [f"Answers to {answers.n:,} {rows}: {said}"]
    if manifest.confidence_threshold is not None:
        lines.append(f"Confidence below {manifest.confidence_threshold:g} counts as low")
    return lines


def _feature_table(manifest: Manifest) -> Table:
    classes = "" if manifest.classes is None else f": {', '.join(map(str, manifest.classes))}"
    table = Table("feature", "type", "training data", box=None, title=f"{manifest.task}{classes}", title_justify="left")
    for feature in manifest.features:
        said = "" if feature.training_range is None else "{:g} to {:g}".format(*feature.training_range)
        if feature.categories is not None:
            said = f"{len(feature.categories)} categories"
        if feature.valid_range is not None:
            said += "; only {:g} to {:g} is taken".format(*feature.valid_range)
        said += "; may be missing" if feature.nullable else ""
        told = "" if feature.privacy == "plain" else f"; told: {feature.privacy}"
        table.add_row(feature.name, feature.type, f"{said}{_allowed_violations(feature)}{told}".removeprefix("; "))
    return table


def _allowed_violations(feature: Feature) -> str:
    counted = [reason for reason, treatment in feature.on_violation if treatment == "count"]
    return f"; let through and counted: {', '.join(counted)}" if counted else ""
