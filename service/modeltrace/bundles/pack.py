"""From a fitted estimator and its training data to a bundle, proven to answer the same before it is called done."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from modeltrace.bundles.artifact import ArtifactFormat, dump_artifact
from modeltrace.bundles.bundle import load_bundle, write_bundle
from modeltrace.bundles.columns import describe_column
from modeltrace.bundles.estimator import expects_frame, infer_task, select_fitted_columns, unwrap_search
from modeltrace.bundles.libraries import find_libraries, installed_versions
from modeltrace.bundles.manifest import Artifact, Manifest, OnnxFile, TrafficFile
from modeltrace.bundles.onnx.export import export_onnx
from modeltrace.bundles.output_reference import MAX_REFERENCE_ROWS, build_output_reference, confidence_threshold
from modeltrace.bundles.repeated_rows import duplicate_probability
from modeltrace.bundles.schema_redaction import redact_schema
from modeltrace.bundles.training_frame import DATE_ADVICE, convert_columns, date_columns
from modeltrace.bundles.verify_outputs import first_line, predict_rows, to_rows, verify_example, verify_outputs
from modeltrace.errors import PackError
from modeltrace.inference.allowed_violations import (
    AllowedViolations,
    allow_violations,
    check_allowed_violations,
    verify_allowed_violations,
    violating_rows,
)
from modeltrace.inference.model import Model, ModelOutput, Task, class_key, make_predict_fn, to_json_label
from modeltrace.inference.schema import PrivacyRule, Schema
from modeltrace.printable import validation_message

TRAFFIC_FILE = "traffic.parquet"
ONNX_FILE = "model.onnx"
SAMPLE_ROWS = 50
# Rows on which two engines must agree.
MAX_ONNX_ROWS = 10_000


def pack(
    estimator: Any,  # noqa: ANN401  any estimator
    training: pd.DataFrame,
    target: "pd.Series | None" = None,
    *,
    name: str,
    out: Path,
    version: str = "1.0.0",
    artifact_format: ArtifactFormat = "skops",
    traffic: pd.DataFrame | None = None,
    valid_ranges: Mapping[str, tuple[float, float]] | None = None,
    strict_categories: bool = False,
    max_lengths: Mapping[str, int] | None = None,
    allowed_violations: AllowedViolations | None = None,
    ignore_unknown: bool = False,
    privacy: Mapping[str, PrivacyRule] | None = None,
    trusted_types: Sequence[str] = (),
    onnx: bool = False,
    force: bool = False,
) -> Path:
    """Write a bundle.

    Of a search (`GridSearchCV` and its kind) only the best estimator is packed, of a tuned threshold only the
    threshold: the rest is not needed to answer.

    Args:
        estimator: a fitted scikit-learn classifier, regressor or Pipeline.
        training: the features it was fitted on, one column each.
        target: the labels it was fitted on; checked against the classes that it knows.
        name: what the model is called in telemetry.
        out: the bundle's folder.
        version: of the model.
        artifact_format: the artifact's format; skops where its types allow, else joblib.
        traffic: held-out rows, with the target's column if there is one, to replay later.
        valid_ranges: per feature, the lowest and highest value that a request may send.
        strict_categories: refuse categories that training did not have.
        max_lengths: per feature of text, the characters that one may have; else four times the longest, 256 or more.
        allowed_violations: per feature, which violations of the schema are counted and answered all the same; no
            reason named means all that can occur. The model must take them, which is proven.
        privacy: per feature, what may be told of its values (`modeltrace.inference.privacy`); if not named, all.
        ignore_unknown: let through features that the model does not have, counted; it never sees them.
        trusted_types: dotted names of types beyond scikit-learn's own that the service will be told to trust, too.
        onnx: keep the model for ONNX Runtime beside it, proven to answer the same on the training data.
        force: replace a bundle that is there.

    Raises:
        PackError: the estimator and the data do not fit together; the message names what, and the way out.
    """
    estimator = unwrap_search(estimator)
    task = infer_task(estimator)
    training = select_fitted_columns(estimator, training)
    schema = _build_schema(
        training,
        valid_ranges or {},
        max_lengths or {},
        strict_categories=strict_categories,
        allowed_violations=allowed_violations or {},
        ignore_unknown=ignore_unknown,
    )
    classes = tuple(to_json_label(label) for label in estimator.classes_) if task == "classifier" else None
    if classes is not None and target is not None:
        _check_labels(classes, target)
    described = redact_schema(schema, training, privacy or {})
    if described.has_private_features and traffic is not None:
        raise PackError(
            "held-out rows are kept as they are, and --privacy says that values must not be: leave --traffic out, and "
            "name the file to `modeltrace traffic --data`"
        )
    asked = training.iloc[_verification_rows(training)]
    sample = asked[:SAMPLE_ROWS]
    as_frame = expects_frame(estimator, sample)
    if allowed_violations:
        verify_allowed_violations(make_predict_fn(estimator, task), schema, to_rows(sample), as_frame=as_frame)
    artifact = dump_artifact(estimator, artifact_format, trusted_types=trusted_types)
    files = {f"model.{artifact_format}": artifact}
    held_out = None
    if traffic is not None:
        target_name = None if target is None else str(target.name)
        held_out, files[TRAFFIC_FILE] = _write_traffic(traffic, schema, target_name)
    used = find_libraries(estimator)
    converted = None
    if onnx:
        converted, files[ONNX_FILE] = _convert_to_onnx(estimator, task, schema, training, as_frame=as_frame)
    try:
        manifest = Manifest(
            name=name,
            version=version,
            task=task,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            artifact=Artifact(**_file_entry(f"model.{artifact_format}", artifact), format=artifact_format),
            libraries=installed_versions(used),
            estimator_libraries=used,
            fitted_with="frame" if as_frame else "array",
            classes=classes,
            features=described.features,
            on_unknown=schema.on_unknown,
            traffic=held_out,
            onnx=converted,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackError(f"the bundle's {where}: {validation_message(first['msg'])}") from None
    with TemporaryDirectory() as folder:
        proof = write_bundle(Path(folder) / "proof", manifest, files)
        # What was written here and now is trusted.
        model = load_bundle(proof, trust_pickle=True, trusted_types=trusted_types)
        seen = _predict_training(model, asked)
        verify_outputs(estimator, task, asked, model, seen)
        verify_example(model)
        outcomes = {
            **_reference_fields(model, seen[:MAX_REFERENCE_ROWS], traffic),
            "duplicate_probability": duplicate_probability(training),
        }
        manifest = manifest.model_copy(update=outcomes)
    return write_bundle(out, manifest, files, force=force)


def _build_schema(
    training: pd.DataFrame,
    valid_ranges: Mapping[str, tuple[float, float]],
    max_lengths: Mapping[str, int],
    *,
    strict_categories: bool,
    allowed_violations: AllowedViolations,
    ignore_unknown: bool,
) -> Schema:
    check_allowed_violations(allowed_violations, training)
    if unknown := set(valid_ranges) - set(training.columns):
        raise PackError(f"a valid range names {min(unknown)}, which is no feature")
    if unknown := set(max_lengths) - set(training.columns):
        raise PackError(f"--max-length names {min(unknown)}, which is no feature")
    for name, (low, high) in valid_ranges.items():
        if not low <= high:
            raise PackError(f"the valid range of {name} ends before it begins")
    features = []
    for name in training.columns:
        # What is to be counted has to be known; of a number the strictness says nothing.
        strict = strict_categories or (
            name in allowed_violations and (not allowed_violations[name] or "category" in allowed_violations[name])
        )
        try:
            feature = describe_column(
                training[name],
                valid_range=valid_ranges.get(name),
                strict_categories=strict,
                max_length=max_lengths.get(name),
            )
        except PackError:
            raise
        except UnicodeEncodeError:
            raise PackError(f"column {name} holds text that is no valid Unicode; repair it and fit again") from None
        except Exception as error:
            raise PackError(
                f"column {name} ({training[name].dtype}) cannot be described: {type(error).__name__}: "
                f"{first_line(error)}; turn it into numbers, booleans or text before fitting"
            ) from error
        features.append(allow_violations(feature, allowed_violations[name]) if name in allowed_violations else feature)
    return Schema(features=tuple(features), on_unknown="count" if ignore_unknown else "reject")


def _check_labels(classes: Sequence[object], target: "pd.Series") -> None:
    known_keys, known_texts = set(map(class_key, classes)), set(map(str, classes))
    try:
        labels = [to_json_label(label) for label in target.dropna().unique()]
    except TypeError:
        raise PackError(f"the column {target.name} holds lists or dicts, which are no labels") from None
    # A file has texts where the classes are texts of digits, and the other way round.
    unknown = sorted(str(one) for one in labels if class_key(one) not in known_keys and str(one) not in known_texts)
    if unknown:
        known = ", ".join(str(label) for label in classes)
        raise PackError(f"the column {target.name} holds the class {unknown[0]}, the estimator knows {known}")


def _write_traffic(traffic: pd.DataFrame, schema: Schema, target: str | None) -> tuple[TrafficFile, bytes]:
    traffic = traffic.set_axis([str(name) for name in traffic.columns], axis="columns")
    if not traffic.columns.is_unique:
        raise PackError(f"two columns of the traffic are called {traffic.columns[traffic.columns.duplicated()][0]}")
    if missing := [name for name in schema.names if name not in traffic.columns]:
        raise PackError(f"the traffic lacks the column {missing[0]}")
    if not len(traffic):
        raise PackError("the traffic has no rows")
    columns = [*schema.names, *([target] if target is not None and target in traffic.columns else [])]
    try:
        content = traffic[columns].to_parquet(index=False)
    except Exception as error:
        raise PackError(
            f"the traffic cannot be kept as Parquet: {type(error).__name__}: {first_line(error)}"
        ) from error
    target = target if target in columns else None
    return TrafficFile(file=TRAFFIC_FILE, rows=len(traffic), target=target, size=len(content)), content


def _file_entry(file: str, content: bytes) -> dict[str, Any]:
    return {"file": file, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def _convert_to_onnx(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    schema: Schema,
    training: pd.DataFrame,
    *,
    as_frame: bool,
) -> tuple[OnnxFile, bytes]:
    number = min(MAX_ONNX_ROWS, len(training))
    drawn = np.random.default_rng(0).choice(len(training), number, replace=False)
    rows = to_rows(training.iloc[sorted({*drawn.tolist(), *_rows_with_missing(training)})])
    rows += [row for _, _, changed in violating_rows(schema, rows[:1]) for row in changed]
    done = export_onnx(estimator, task, schema, rows, as_frame=as_frame)
    file = OnnxFile(
        **_file_entry(ONNX_FILE, done.raw),
        opset=done.opset,
        precision=done.precision,
        verified_rows=done.n_rows,
        max_difference=done.max_difference,
    )
    return file, done.raw


def _rows_with_missing(training: pd.DataFrame) -> list[int]:
    """For each column a row where it is missing."""
    return [int(index) for name in training.columns for index in np.flatnonzero(training[name].isna())[:1]]


def _verification_rows(training: pd.DataFrame) -> list[int]:
    """The rows that the model is asked for: all, or enough of them and for each column one where it is missing."""
    if len(training) <= MAX_REFERENCE_ROWS:
        return [*range(len(training))]
    drawn = np.sort(np.random.default_rng(0).choice(len(training), MAX_REFERENCE_ROWS, replace=False)).tolist()
    return [*drawn, *sorted(set(_rows_with_missing(training)) - set(drawn))]


def _predict_training(model: Model, asked: pd.DataFrame) -> list[ModelOutput]:
    try:
        return predict_rows(model, asked)
    except PackError as error:
        if dates := date_columns(asked):
            raise PackError(f"{error}. Column {dates[0]} holds dates as text: {DATE_ADVICE}") from error
        if texts := [feature.name for feature in model.features if feature.is_text and feature.dtype != "category"]:
            raise PackError(
                f"{error}. If {texts[0]} was of the dtype category when the model was fitted: Parquet keeps that, and "
                "CSV does not"
            ) from error
        raise


def _reference_fields(model: Model, seen: Sequence[ModelOutput], traffic: pd.DataFrame | None) -> dict[str, object]:
    """What the model answers to the data it was fitted on, and to rows held out, as the manifest has it."""
    unseen: list[ModelOutput] = []
    if traffic is not None:
        with suppress(PackError):  # rows that a request could not bring either
            held_out = traffic.set_axis([str(name) for name in traffic.columns], axis="columns")
            unseen = predict_rows(model, convert_columns(held_out[list(model.schema.names)])[:MAX_REFERENCE_ROWS])
    return {
        "output_reference": build_output_reference(seen, unseen, model.classes),
        "confidence_threshold": confidence_threshold(seen, unseen, model.classes),
    }
