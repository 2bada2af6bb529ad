"""`modeltrace pack`."""

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from service.errors import PackError
from service.inference.artifact import Format, load_artifact
from service.inference.bundle import MANIFEST, Manifest, read_manifest
from service.inference.pack import pack as write
from service.settings import read_settings

FORMATS: dict[str, Format] = {".skops": "skops", ".joblib": "joblib", ".pkl": "joblib", ".pickle": "joblib"}


def valid_range(text: str) -> tuple[str, float, float]:
    """Read `FEATURE=LOW:HIGH`."""
    name, _, bounds = text.rpartition("=")
    try:
        low, high = (float(bound) for bound in bounds.split(":"))
    except ValueError:
        raise typer.BadParameter("write FEATURE=LOW:HIGH, e.g. age=0:120", param_hint="--range") from None
    if not name or not float("-inf") < low <= high < float("inf"):
        raise typer.BadParameter("the bounds must be finite, the lower one first: age=0:120", param_hint="--range")
    return name, low, high


def pack(
    model_file: Annotated[Path, typer.Argument(help="A fitted estimator: .skops, .joblib or .pkl.")],
    data: Annotated[Path, typer.Option(metavar="FILE", help="The training data: .csv or .parquet.")],
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The label's column in the data.")] = None,
    name: Annotated[str | None, typer.Option(help="The model's name. [default: the file's]")] = None,
    version: Annotated[str, typer.Option(help="The model's version.")] = "1.0.0",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The bundle's folder. [default: NAME]")] = None,
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
    format_: Annotated[
        Literal["skops", "joblib"], typer.Option("--format", help="How the estimator is kept.")
    ] = "skops",
    trust_pickle: Annotated[
        bool | None, typer.Option("--trust-pickle", help="Load a joblib or pickle file, which can run any code.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,  # noqa: FBT002  a flag
) -> None:
    """Turn a fitted scikit-learn estimator and its training data into a bundle that can be served.

    The data gives each feature its type, its range and its distribution, which later traffic is compared with. The
    bundle is loaded and asked for proof before it is written.

    Example: modeltrace pack churn.joblib --trust-pickle --data train.parquet --target churned
    """
    bounds = {feature: (low, high) for feature, low, high in map(valid_range, ranges or ())}
    settings = read_settings(trust_pickle=trust_pickle)
    estimator = _read_model(model_file, trust_pickle=settings.trust_pickle, trusted_types=settings.trusted_types)
    table = _read_table(data)
    if target is not None and target not in table.columns:
        raise PackError(f"{data} has no column {target}; it has {', '.join(map(str, table.columns))}")
    chosen = name or model_file.stem
    bundle = write(
        estimator,
        table if target is None else table.drop(columns=target),
        None if target is None else table[target],
        name=chosen,
        version=version,
        out=out or Path(chosen),
        kind=format_,
        traffic=None if traffic is None else _read_table(traffic),
        valid_ranges=bounds,
        strict_categories=strict_categories,
        trusted_types=settings.trusted_types,
        force=force,
    )
    _show(bundle)


def _read_model(path: Path, *, trust_pickle: bool, trusted_types: tuple[str, ...]) -> object:
    if path.suffix not in FORMATS:
        raise PackError(f"{path}: the name must end in {', '.join(FORMATS)}")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: {error.strerror}") from None
    return load_artifact(raw, FORMATS[path.suffix], source=path, trust_pickle=trust_pickle, trusted_types=trusted_types)


def _read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    Raises:
        PackError: it is neither, or cannot be read.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise PackError(f"{path}: the name must end in .csv or .parquet")
    try:
        return pd.read_csv(path, low_memory=False) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be read: {error}") from None


def _show(bundle: Path) -> None:
    manifest, digest = read_manifest(bundle)
    # No markup: a feature may be called `length [cm]`.
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"Packed {manifest.name} {manifest.version} into {bundle}", style="bold")
    console.print(_features(manifest))
    if manifest.traffic is not None:
        labels = "with" if manifest.traffic.target else "without"
        console.print(f"Held-out rows: {manifest.traffic.rows:,}, {labels} labels")
    console.print(f"SHA-256 of {MANIFEST}, to pin it with --expect-sha256:\n  {digest}")
    pickled = "MODELTRACE_TRUST_PICKLE=true " if manifest.artifact.format == "joblib" else ""
    console.print(f"Next: {pickled}modeltrace up {bundle}")


def _features(manifest: Manifest) -> Table:
    classes = "" if manifest.classes is None else f": {', '.join(map(str, manifest.classes))}"
    table = Table("feature", "type", "training data", box=None, title=f"{manifest.task}{classes}", title_justify="left")
    for feature in manifest.features:
        said = "" if feature.training_range is None else "{:g} to {:g}".format(*feature.training_range)
        if feature.categories is not None:
            said = f"{len(feature.categories)} categories"
        if feature.valid_range is not None:
            said += "; only {:g} to {:g} is taken".format(*feature.valid_range)
        table.add_row(feature.name, feature.type, f"{said}{'; may be missing' if feature.nullable else ''}")
    return table
