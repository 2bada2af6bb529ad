"""Pack a fitted estimator and its training data into a bundle, and verify that the bundle predicts the same."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from modeltrace.bundles.artifact import ArtifactFormat, dump_artifact
from modeltrace.bundles.bundle import load_bundle, verify_replaceable, write_bundle
from modeltrace.bundles.code.pack_code import pack_code, verify_in_new_process
from modeltrace.bundles.duplicate_probability import duplicate_probability
from modeltrace.bundles.estimator_checks import expects_frame, infer_task, select_fitted_columns, unwrap_search
from modeltrace.bundles.held_out_rows import HeldOutPredictions, find_held_out, summarize
from modeltrace.bundles.interval_rule import final_rule, initial_rule
from modeltrace.bundles.libraries import find_libraries, installed_versions
from modeltrace.bundles.manifest import Artifact, Manifest, OnnxFile
from modeltrace.bundles.onnx.export import ONNX_FILE, export_onnx
from modeltrace.bundles.output_reference import (
    MAX_REFERENCE_ROWS,
    Source,
    build_monitored_outputs,
    build_output_reference,
    confidence_threshold,
)
from modeltrace.bundles.output_schema import check_target, describe_outputs
from modeltrace.bundles.parallelism import warn_of_parallelism
from modeltrace.bundles.permutation_importance import measure_importance
from modeltrace.bundles.proxies.native_models import wrap_model
from modeltrace.bundles.schema_redaction import redact_schema
from modeltrace.bundles.target_order import verify_target_order
from modeltrace.bundles.time_columns import ValidRange
from modeltrace.bundles.traffic_file import encode_traffic
from modeltrace.bundles.training_frame import DATE_ADVICE, date_columns, to_frame, to_series
from modeltrace.bundles.training_schema import build_schema
from modeltrace.bundles.verify_outputs import predict_rows, to_array, to_rows, verify_example, verify_outputs
from modeltrace.errors import PackError
from modeltrace.inference.allowed_violations import AllowedViolations, verify_allowed_violations, violating_rows
from modeltrace.inference.intervals import DEFAULT_LEVEL, IntervalRule
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.predict_fns import make_predict_fn
from modeltrace.inference.schema import PrivacyRule, Schema
from modeltrace.inference.tasks import NAMED_OUTPUT_TASKS, Task
from modeltrace.printable import validation_message

# Rows that are predicted to determine the input type and to verify the allowed violations.
SAMPLE_ROWS = 50
# Rows on which scikit-learn and ONNX Runtime must agree.
MAX_ONNX_ROWS = 10_000


def pack(
    estimator: Any,  # noqa: ANN401  any estimator
    training: Any,  # noqa: ANN401  any table
    target: Any = None,  # noqa: ANN401  any column
    *,
    name: str,
    out: Path | str | None = None,
    version: str = "1.0.0",
    artifact_format: ArtifactFormat = "skops",
    traffic: pd.DataFrame | None = None,
    valid_ranges: Mapping[str, ValidRange] | None = None,
    strict_categories: bool = False,
    max_lengths: Mapping[str, int] | None = None,
    allowed_violations: AllowedViolations | None = None,
    ignore_unknown: bool = False,
    privacy: Mapping[str, PrivacyRule] | None = None,
    trusted_types: Sequence[str] = (),
    code: Sequence[Path | str] = (),
    requirements: Path | str | None = None,
    onnx: bool = False,
    cross_validation_seconds: float = 120.0,
    importance_seconds: float = 30.0,
    interval_level: float = DEFAULT_LEVEL,
    on_message: Callable[[str], None] = lambda _: None,
    force: bool = False,
) -> Path:
    """Pack a fitted estimator into a bundle, and return its folder.

    For a search (`GridSearchCV` etc.), only its best estimator is packed. A tuned threshold is packed as a fixed
    threshold. Predictions do not need the other parts.

    Args:
        estimator: a fitted scikit-learn estimator that can predict or transform new rows, for example a `Pipeline`, or
            a model of XGBoost, LightGBM or CatBoost.
        training: the features that the estimator was fitted on, one per column: a data frame, or an array of the shape
            (n_rows, n_features).
        target: the labels that it was fitted on, a series, an array or a list; they are compared with its classes. For
            an estimator with several outputs, the columns of a table name the outputs.
        name: the name of the model in telemetry.
        out: the folder to write; by default, the name of the model in the current folder.
        version: the version of the model.
        artifact_format: the format of the estimator's file; use joblib if skops does not support a type.
        traffic: test rows to replay later, with the column of `target` if there is one. They are the reference of
            the model's outputs.
        valid_ranges: by feature, the lowest and highest value that a request may send: numbers, or times or durations
            (as objects, or as ISO 8601 texts).
        strict_categories: reject categories that the training data does not contain.
        max_lengths: by text feature, the maximum number of characters of a text in a request. The default is at least
            256 and at least four times the longest text of the training data.
        allowed_violations: by feature, the schema violations that are counted but do not reject the row. An empty
            collection means all violations that can occur. `pack` verifies that the model predicts such rows.
        ignore_unknown: count and ignore unknown features in a row, instead of rejecting the row.
        privacy: by feature, how telemetry and store record its values (`modeltrace.inference.privacy`). By default,
            values are recorded unchanged.
        trusted_types: dotted names of types that the service will trust, in addition to the reviewed ones.
        code: your own modules that the estimator needs: folders of modules, folders of packages, or `.py` files. The
            service imports them from the bundle if it trusts them.
        requirements: a file in pip's format with the packages that they need; the service checks them at its start.
        onnx: add the model for ONNX Runtime, and verify on training rows that it predicts the same.
        cross_validation_seconds: the time limit of the cross-validation that replaces missing test rows; 0 for
            none.
        importance_seconds: the time limit of the permutation importance of the features, which needs labelled rows in
            `traffic`; 0 for none.
        interval_level: the probability with which the prediction interval of a regressor encloses the true label.
        on_message: gets progress messages and warnings.
        force: replace an existing bundle.

    Raises:
        PackError: the estimator and the data do not fit together; the message says why and what to do.
    """
    given = unwrap_search(estimator)
    labels = None if target is None else to_series(target)
    estimator = wrap_model(given, labels)
    refittable = estimator is given  # a model of a library's own training function does not contain its parameters
    task = infer_task(estimator)
    bundle = Path(out or name)
    training = select_fitted_columns(estimator, to_frame(training))
    schema = build_schema(
        training,
        valid_ranges=valid_ranges or {},
        max_lengths=max_lengths or {},
        strict_categories=strict_categories,
        allowed_violations=allowed_violations or {},
        ignore_unknown=ignore_unknown,
    )
    redacted = redact_schema(schema, training, privacy or {})
    if redacted.has_private_features:
        _check_privacy(estimator, task, traffic)
    positions = _verification_rows(training)
    verification = training.iloc[positions]
    sample = verification[:SAMPLE_ROWS]
    as_frame = expects_frame(estimator, sample)
    if not as_frame and (times := [feature.name for feature in schema.features if feature.is_time]):
        raise PackError(f"column {times[0]} contains times: fit the estimator on a data frame, not on an array")
    task, classes, named_outputs = describe_outputs(estimator, task, sample, target, as_frame=as_frame)
    predict_sample = partial(make_predict_fn(estimator, task), sample if as_frame else to_array(sample))
    warn_of_parallelism(estimator, predict_sample, on_message)
    if task == "multi_output" and isinstance(target, pd.DataFrame):
        verify_target_order(predict_sample(), target.iloc[positions[:SAMPLE_ROWS]])
    target = check_target(target, task, classes)
    if allowed_violations:
        verify_allowed_violations(make_predict_fn(estimator, task), schema, to_rows(sample), as_frame=as_frame)
    interval = initial_rule(estimator, task, interval_level)
    packed_code = pack_code(code, requirements)
    artifact = dump_artifact(estimator, artifact_format, trusted_types=trusted_types, code=packed_code.archive)
    files = {f"model.{artifact_format}": artifact, **packed_code.files}
    traffic_file = None
    if traffic is not None:
        traffic = traffic.set_axis([str(name) for name in traffic.columns], axis="columns")
        traffic_file, content = encode_traffic(traffic, schema, None if target is None else str(target.name))
        files[traffic_file.file] = content
    libraries = find_libraries(estimator)
    onnx_file = None
    if onnx:
        onnx_file, files[ONNX_FILE] = _convert_to_onnx(estimator, task, schema, training, as_frame=as_frame)
    try:
        manifest = Manifest(
            name=name,
            version=version,
            task=task,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            artifact=Artifact.describe(f"model.{artifact_format}", artifact, format=artifact_format),
            libraries=installed_versions(libraries),
            estimator_libraries=libraries,
            fitted_with="frame" if as_frame else "array",
            classes=classes,
            outputs=named_outputs,
            features=redacted.features,
            on_unknown=schema.on_unknown,
            traffic=traffic_file,
            onnx=onnx_file,
            code=packed_code.code,
            requirements=packed_code.requirements,
            interval=interval,
            duplicate_probability=duplicate_probability(training),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PackError(f"cannot write the bundle: {key}: {validation_message(first['msg'])}") from None
    with TemporaryDirectory() as folder:
        candidate = write_bundle(Path(folder) / "candidate", manifest, files)
        # This process has just written the file, so it is trusted.
        model = load_bundle(candidate, trust_pickle=True, trust_code=True, trusted_types=trusted_types)
        outputs = _predict_training(model, verification)
        verify_outputs(estimator, task, verification, model, outputs)
        verify_example(model)
        if code:
            verify_in_new_process(candidate, trusted_types)
        verify_replaceable(bundle, force=force)  # before the cross-validation, which may take minutes
        held_out = find_held_out(
            estimator, model, training, target, traffic,
            seconds=cross_validation_seconds if refittable else None, on_message=on_message,
        )  # fmt: skip
        references = _output_references(outputs[:MAX_REFERENCE_ROWS], held_out, model, interval)
        importance = measure_importance(model, traffic, held_out, seconds=importance_seconds, on_message=on_message)
        manifest = manifest.model_copy(update={**references, "importance": importance})
    return write_bundle(bundle, manifest, files, force=force)


def _output_references(
    training_outputs: Sequence[ModelOutput],
    held_out: HeldOutPredictions | None,
    model: Model,
    interval: IntervalRule | None,
) -> dict[str, Any]:
    """Return the fields of the manifest that describe the outputs of the model."""
    outputs = training_outputs if held_out is None else held_out.outputs
    threshold = confidence_threshold(outputs, model.classes)
    source: Source = "training" if held_out is None else held_out.method
    of_output = None
    if model.task not in NAMED_OUTPUT_TASKS:
        of_output = build_output_reference(outputs, model.classes, source)
    return {
        "output_reference": of_output,
        "monitored_outputs": build_monitored_outputs(outputs, model.outputs, model.task, source),
        "held_out": None if held_out is None else summarize(held_out, threshold),
        "confidence_threshold": threshold,
        "interval": final_rule(interval, held_out),
    }


def _check_privacy(estimator: Any, task: Task, traffic: pd.DataFrame | None) -> None:  # noqa: ANN401  any estimator
    """Refuse to pack private features if the bundle or the outputs of the model would disclose them."""
    if task == "transformer":
        raise PackError(
            f"--privacy has no effect on the outputs of the {type(estimator).__name__}: they are computed from all "
            "features, and telemetry and prediction store contain them. Pack without --privacy, or a model that "
            "predicts a label or a value"
        )
    if traffic is not None:
        raise PackError(
            "--traffic stores rows unchanged in the bundle, which contradicts --privacy. Pack without --traffic, and "
            "name the file in `modeltrace traffic --data`"
        )


def _convert_to_onnx(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    schema: Schema,
    training: pd.DataFrame,
    *,
    as_frame: bool,
) -> tuple[OnnxFile, bytes]:
    rows = to_rows(training.iloc[sorted({*_sample(training, MAX_ONNX_ROWS), *_rows_with_missing(training)})])
    rows += [row for _, _, changed in violating_rows(schema, rows[:1]) for row in changed]
    return export_onnx(estimator, task, schema, rows, as_frame=as_frame)


def _sample(training: pd.DataFrame, max_rows: int) -> list[int]:
    """Return the positions of all rows, or of `max_rows` random ones, in order."""
    if len(training) <= max_rows:
        return [*range(len(training))]
    positions: list[int] = np.random.default_rng(0).choice(len(training), max_rows, replace=False).tolist()
    return sorted(positions)


def _rows_with_missing(training: pd.DataFrame) -> list[int]:
    """Return the position of one row with a missing value for each column that has one."""
    return [int(index) for name in training.columns for index in np.flatnonzero(training[name].isna())[:1]]


def _verification_rows(training: pd.DataFrame) -> list[int]:
    """Return the positions of the rows to verify: a sample, and for each column a row in which its value is missing."""
    sampled = _sample(training, MAX_REFERENCE_ROWS)
    return [*sampled, *sorted(set(_rows_with_missing(training)) - set(sampled))]


def _predict_training(model: Model, training: pd.DataFrame) -> list[ModelOutput]:
    """Predict training rows. The message of an error names possible causes: dates, or a dtype that was lost."""
    try:
        return predict_rows(model, training)
    except PackError as error:
        if dates := date_columns(training):
            raise PackError(f"{error}. Column {dates[0]} contains dates as text: {DATE_ADVICE}") from error
        if texts := [feature.name for feature in model.features if feature.is_text and feature.dtype != "category"]:
            raise PackError(
                f"{error}. If column {texts[0]} had the dtype category when the model was fitted, pack with a Parquet "
                "file: CSV does not keep that dtype"
            ) from error
        raise
