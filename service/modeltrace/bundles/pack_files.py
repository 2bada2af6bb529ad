"""Pack a bundle from files, and print what it contains."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from modeltrace.bundles.artifact import ArtifactFormat, load_artifact
from modeltrace.bundles.code.pack_code import importable
from modeltrace.bundles.estimator_checks import unwrap_search
from modeltrace.bundles.manifest import MANIFEST_FILE, Manifest, read_manifest
from modeltrace.bundles.mlflow_folder import find_estimator, read_input_example, read_pyfunc
from modeltrace.bundles.proxies.native_models import NATIVE_SUFFIXES, read_native_file, wrap_model
from modeltrace.bundles.quantile_models import add_quantile_models
from modeltrace.bundles.training_files import read_training_table, restore_categories
from modeltrace.bundles.training_frame import date_columns, identifier_columns, number_object_columns
from modeltrace.errors import ModeltraceError, PackError
from modeltrace.inference.intervals import IntervalRule
from modeltrace.inference.schema import Feature, OutputReference
from modeltrace.printable import first_line
from modeltrace.terminal import SafeConsole, command, echo

# Classes whose shares are printed.
MAX_SHOWN_CLASSES = 8
# Columns that an error message lists.
MAX_NAMED_COLUMNS = 50
FORMATS: dict[str, ArtifactFormat] = {".skops": "skops", ".joblib": "joblib", ".pkl": "joblib", ".pickle": "joblib"}


def pack_files(
    model_file: Path,
    data: Path | None,
    pack: Callable[..., Path],
    *,
    targets: Sequence[str],
    traffic: Path | None,
    trust_pickle: bool,
    trusted_types: tuple[str, ...],
    code: Sequence[Path] = (),
    quantile_files: tuple[Path, Path] | None = None,
) -> None:
    """Read a model and its training data, pack them and print a summary of the bundle.

    Args:
        model_file: the file of a fitted estimator. Its suffix is one of `FORMATS` or `NATIVE_SUFFIXES`. Or a folder
            with a model that MLflow has saved.
        data: the training data, see `read_training_table`. `None`: the input example of a model that MLflow has saved.
        pack: `modeltrace.bundles.pack.pack` with all arguments that are not read from files.
        targets: the column with the labels, or the columns of an estimator with several outputs.
        traffic: test rows to replay, a file as for `data`.
        trust_pickle: allow joblib and pickle files, which can run any code.
        trusted_types: dotted names of types that are trusted, in addition to the reviewed ones.
        code: folders or files with the user's modules that the estimator needs.
        quantile_files: the files of regressors that predict a lower and an upper quantile.

    Raises:
        PackError: a file cannot be read, or model and data do not fit together.
        BundleError: the model file is not trusted, or is damaged.
    """
    with importable(code):
        estimator = _read_model(model_file, trust_pickle=trust_pickle, trusted_types=trusted_types)
        features, labels = _read_example(model_file, targets) if data is None else _read_training(data, targets)
        if quantile_files is not None:
            models = (
                _read_model(file, trust_pickle=trust_pickle, trusted_types=trusted_types) for file in quantile_files
            )
            parts = (unwrap_search(wrap_model(model, labels)) for model in (estimator, *models))
            estimator = add_quantile_models(*parts)
        if hasattr(estimator, "prepare"):  # a pyfunc of MLflow
            features = estimator.prepare(features, labels)
            pack = partial(pack, artifact_format="joblib")
        restored: list[str] = []
        if data is None or data.suffix != ".parquet":
            features, restored = restore_categories(wrap_model(estimator, labels), features)
        held_out = None if traffic is None else read_training_table(traffic)
        try:
            bundle = pack(estimator, features, labels, traffic=held_out, trusted_types=trusted_types, code=code)
        except ModeltraceError:
            raise
        except Exception as error:  # raised by the user's estimator or table, so it is not a defect of this program
            cause = f"{type(error).__name__}: {first_line(error)}"
            raise PackError(f"cannot pack {model_file} with {data or 'its input example'}: {cause}") from error
    _print_summary(bundle, features, restored)
    if data is None:
        echo(
            f"Warning: the {len(features):,} rows of the model's input example stand for its training data, so ranges, "
            "categories and classes are those of these rows, and few rows show only large drift. If you can, pack "
            "with --data",
            err=True,
        )


def _read_training(data: Path, targets: Sequence[str]) -> tuple[pd.DataFrame, Any]:
    """Return the features, and the labels: a series, a table with a column for each output, or `None`."""
    table = read_training_table(data)
    if absent := [target for target in targets if target not in table.columns]:
        columns = ", ".join(map(str, table.columns[:MAX_NAMED_COLUMNS]))
        raise PackError(f"--target {absent[0]}: {data} has no such column. Its columns are {columns}")
    features = table.drop(columns=[*targets])
    if not targets:
        return features, None
    return features, table[targets[0]] if len(targets) == 1 else table[[*targets]]


def _read_example(model_file: Path, targets: Sequence[str]) -> tuple[pd.DataFrame, None]:
    if not model_file.is_dir():
        raise PackError(
            f"{model_file}: name the training data with --data. Only a model that MLflow has saved with an input "
            "example is packed without it"
        )
    if targets:
        raise PackError(f"--target {targets[0]}: an input example has no labels. Name the training data with --data")
    return read_input_example(model_file), None


def _read_model(path: Path, *, trust_pickle: bool, trusted_types: tuple[str, ...]) -> Any:  # noqa: ANN401  any model
    suffix = path.suffix
    if path.is_dir():
        if (file := find_estimator(path)) is None:
            return read_pyfunc(path, trust_pickle=trust_pickle)
        path, suffix = file
    if suffix not in (*FORMATS, *NATIVE_SUFFIXES):
        raise PackError(f"{path}: the file name of a model must end in {', '.join((*FORMATS, *NATIVE_SUFFIXES))}")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: {error.strerror}") from None
    if suffix in NATIVE_SUFFIXES:
        return read_native_file(path, raw)
    artifact_format = FORMATS[suffix]
    return load_artifact(raw, artifact_format, source=path, trust_pickle=trust_pickle, trusted_types=trusted_types)


def _print_summary(bundle: Path, training: pd.DataFrame, restored: Sequence[str]) -> None:
    manifest, sha256 = read_manifest(bundle)
    console = SafeConsole(soft_wrap=True)
    console.print(f"Packed {manifest.name} {manifest.version} into {bundle}", style="bold")
    console.print(_feature_table(manifest))
    names = {feature.name for feature in manifest.features}
    for name in restored:
        levels = len(training[name].cat.categories)
        console.print(f"Note: column {name} is given as a category of {levels:,} levels, which the model needs")
    for line in _column_notes(training[[name for name in training.columns if str(name) in names]]):
        console.print(line)
    for line in _output_lines(manifest):
        console.print(line)
    if manifest.traffic is not None:
        labels = "with" if manifest.traffic.target else "without"
        console.print(f"Test rows: {manifest.traffic.rows:,}, {labels} labels")
    if (onnx := manifest.onnx) is not None:
        console.print(
            f"ONNX model in {onnx.precision}, verified on {onnx.verified_rows:,} rows of training data: predictions "
            f"differ by {onnx.max_difference:.1g} at most. To serve it: MODELTRACE_ENGINE=onnx"
        )
    console.print(f"SHA-256 of {MANIFEST_FILE}, to pin the bundle with --expect-sha256:\n  {sha256}")
    if manifest.code is not None:
        console.print(f"Modules in the bundle: {', '.join(manifest.code.modules)}")
    trust = "MODELTRACE_TRUST_PICKLE=true " if manifest.artifact.format == "joblib" else ""
    trust += "MODELTRACE_TRUST_CODE=true " if manifest.code is not None else ""
    console.print(f"Next: {trust}{command(f'up {bundle}')}")


def _column_notes(table: pd.DataFrame) -> list[str]:
    """Return a note for each column that is not what it seems: converted numbers, dates as text, identifiers."""
    numbers = [
        f"Note: column {name} contains number objects such as Decimal, which the model receives as floats"
        for name in number_object_columns(table)
    ]
    dates_as_text = date_columns(table)
    dates = [
        f"Note: column {name} contains dates as text, so each date is a category, for the model and for drift. Numbers "
        "derived from them before fitting (days since a date, month, weekday) are better features"
        for name in dates_as_text
    ]
    identifiers = [
        f"Note: column {name} looks like an identifier: nearly all values differ, so its drift cannot be detected. "
        "Unless a text vectorizer reads it, the model cannot learn from it: remove the column and fit again"
        for name in identifier_columns(table)
        if name not in dates_as_text
    ]
    return numbers + dates + identifiers


def _output_lines(manifest: Manifest) -> Sequence[str]:
    """Describe the reference distribution of the model's outputs."""
    monitored = manifest.monitored_outputs
    named = [] if monitored is None else [*monitored.references.items()]
    lines = [
        f"Output {name} for {_rows_of(reference)}: mean {reference.mean:g}, standard deviation {reference.deviation:g}"
        for name, reference in named[:MAX_SHOWN_CLASSES]
        if reference.mean is not None
    ]
    if (outputs := manifest.output_reference) is None:
        return lines
    if outputs.edges is None:
        shares = sorted(outputs.shares.items(), key=lambda item: -item[1])
        more = f", {len(shares) - MAX_SHOWN_CLASSES} more" if len(shares) > MAX_SHOWN_CLASSES else ""
        summary = ", ".join(f"{label} {share:.1%}" for label, share in shares[:MAX_SHOWN_CLASSES]) + more
    else:
        summary = f"mean {outputs.mean:g}, standard deviation {outputs.deviation:g}"
    lines.insert(0, f"Predictions for {_rows_of(outputs)}: {summary}")
    if manifest.confidence_threshold is not None:
        share = None if manifest.held_out is None else manifest.held_out.low_confidence_share
        known = "" if share is None else f": {share:.1%} of these predictions"
        lines.append(f"A confidence below {manifest.confidence_threshold:g} counts as low{known}")
    if (held_out := manifest.held_out) is not None and held_out.labelled_rows:
        quality = (
            f"accuracy {held_out.accuracy:.1%}"
            if held_out.accuracy is not None
            else f"mean absolute error {held_out.mean_absolute_error:.4g}"
        )
        lines.append(f"On the {held_out.labelled_rows:,} of these rows that have a label: {quality}")
    if manifest.interval is not None:
        lines.append(_interval_line(manifest.interval))
    elif manifest.task == "regressor":
        lines.append(
            "No prediction intervals: too few rows with a label that the model was not fitted on (--target, --traffic)"
        )
    return lines


def _rows_of(reference: OutputReference) -> str:
    rows = {
        "training": "rows of training data (no held-out reference)",
        "held_out": "test rows",
        "cross_validation": "rows of training data, by cross-validation",
    }[reference.source]
    return f"{reference.n:,} {rows}"


def _interval_line(rule: IntervalRule) -> str:
    """Describe the prediction intervals."""
    width = {
        "residuals": f"the value ± {rule.correction:.4g}",
        "standard_deviation": f"the value ± {rule.correction:.4g} standard deviations, which the estimator predicts",
        "quantile_models": f"the predictions of the quantile models, moved outward by {rule.correction:.4g}",
    }[rule.method]
    source = f"from {rule.rows:,} of these rows" if rule.rows else "without labelled rows, so they are not verified"
    return f"Prediction intervals for {rule.level:.4g} of the labels: {width} ({source})"


def _feature_table(manifest: Manifest) -> Table:
    outputs = manifest.classes or [output.name for output in manifest.outputs]
    names = [str(name) for name in outputs[:MAX_NAMED_COLUMNS]]
    if len(outputs) > len(names):
        names.append(f"{len(outputs) - len(names):,} more")
    title = f"{manifest.task}: {', '.join(names)}" if names else manifest.task
    table = Table("feature", "type", "training data", box=None, title=title, title_justify="left")
    for feature in manifest.features:
        table.add_row(feature.name, feature.type, "; ".join(_feature_notes(feature)))
    return table


def _feature_notes(feature: Feature) -> list[str]:
    notes = []
    if feature.categories is not None:
        notes.append(f"{len(feature.categories)} categories")
    elif feature.training_range is not None:
        notes.append(feature.range_text(feature.training_range))
    if feature.valid_range is not None:
        notes.append(f"valid {feature.range_text(feature.valid_range)}")
    if feature.nullable:
        notes.append("may be missing")
    if counted := [reason for reason, action in feature.on_violation if action == "count"]:
        notes.append(f"allowed violations: {', '.join(counted)}")
    if feature.privacy != "plain":
        notes.append(f"privacy: {feature.privacy}")
    return notes
