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
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.utils.validation import check_is_fitted

from service.errors import InferenceError, PackError
from service.inference.artifact import Format, dump_artifact
from service.inference.bundle import (
    Artifact,
    Manifest,
    OnnxFile,
    Traffic,
    installed_libraries,
    load_bundle,
    write_bundle,
)
from service.inference.concealed import conceal
from service.inference.conversion import convert
from service.inference.features import Matrix, to_matrix
from service.inference.model import Answer, Model, Task, answering, native
from service.inference.outcomes import MOST_ANSWERED, confidence_threshold, reference_of
from service.inference.reference import describe_column
from service.inference.repeats import coincidence
from service.inference.schema import Rule, Schema
from service.inference.tolerance import LetThrough, check_let_through, let_through, prove_let_through, spoilt
from service.inference.validate import Values

TRAFFIC_FILE = "traffic.parquet"
ONNX_FILE = "model.onnx"
PROVEN_ROWS = 50
# Rows on which two engines must agree.
COMPARED_ROWS = 10_000


def pack(
    estimator: Any,  # noqa: ANN401  any estimator
    training: pd.DataFrame,
    target: "pd.Series | None" = None,
    *,
    name: str,
    out: Path,
    version: str = "1.0.0",
    kind: Format = "skops",
    traffic: pd.DataFrame | None = None,
    valid_ranges: Mapping[str, tuple[float, float]] | None = None,
    strict_categories: bool = False,
    tolerate: LetThrough | None = None,
    ignore_unknown: bool = False,
    privacy: Mapping[str, Rule] | None = None,
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
        kind: the artifact's format; skops where its types allow, else joblib.
        traffic: held-out rows, with the target's column if there is one, to replay later.
        valid_ranges: per feature, the lowest and highest value that a request may send.
        strict_categories: refuse categories that training did not have.
        tolerate: per feature, which violations of the schema are counted and answered all the same; no reason
            named means all that can occur. The model must take them, which is proven.
        privacy: per feature, what may be told of its values (`service.inference.privacy`); if not named, all.
        ignore_unknown: let through features that the model does not have, counted; it never sees them.
        trusted_types: dotted names of types beyond scikit-learn's own that the service will be told to trust, too.
        onnx: keep the model for ONNX Runtime beside it, proven to answer the same on the training data.
        force: replace a bundle that is there.

    Raises:
        PackError: the estimator and the data do not fit together; the message names what, and the way out.
    """
    estimator = _deciding(estimator)
    task = _task(estimator)
    training = _as_fitted(estimator, training)
    schema = _schema(
        training,
        valid_ranges or {},
        strict_categories=strict_categories,
        tolerated=tolerate or {},
        ignore_unknown=ignore_unknown,
    )
    classes = tuple(native(label) for label in estimator.classes_) if task == "classifier" else None
    if classes is not None and target is not None:
        _check_labels(classes, target)
    described = conceal(schema, training, privacy or {})
    if described.private and traffic is not None:
        raise PackError(
            "held-out rows are kept as they are, and --privacy says that values must not be: leave --traffic out, and "
            "name the file to `modeltrace traffic --data`"
        )
    sample = _sample(training)
    as_frame = _takes_frames(estimator, sample)
    if tolerate:
        prove_let_through(answering(estimator, task), schema, _rows(sample), as_frame=as_frame)
    artifact = dump_artifact(estimator, kind, trusted_types=trusted_types)
    files = {f"model.{kind}": artifact}
    held_out = None
    if traffic is not None:
        target_name = None if target is None else str(target.name)
        held_out, files[TRAFFIC_FILE] = _held_out(traffic, schema, target_name)
    converted = None
    if onnx:
        converted, files[ONNX_FILE] = _convert(estimator, task, schema, training, as_frame=as_frame)
    try:
        manifest = Manifest(
            name=name,
            version=version,
            task=task,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            artifact=Artifact(**_describe(f"model.{kind}", artifact), format=kind),
            libraries=installed_libraries(),
            fitted_with="frame" if as_frame else "array",
            classes=classes,
            features=described.features,
            on_unknown=schema.on_unknown,
            traffic=held_out,
            onnx=converted,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise PackError(f"the bundle's {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    with TemporaryDirectory() as folder:
        proof = write_bundle(Path(folder) / "proof", manifest, files)
        # What was written here and now is trusted.
        model = load_bundle(proof, trust_pickle=True, trusted_types=trusted_types)
        _prove(estimator, sample, model)
        manifest = manifest.model_copy(update=_outcomes(model, training, traffic))
    return write_bundle(out, manifest, files, force=force)


def _deciding(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    """The best estimator of a search, a tuned threshold as a fixed one; any other estimator itself."""
    if isinstance(estimator, TunedThresholdClassifierCV) and hasattr(estimator, "best_threshold_"):
        fixed = FixedThresholdClassifier(
            estimator.estimator,
            threshold=float(estimator.best_threshold_),
            pos_label=estimator._curve_scorer._get_pos_label(),  # noqa: SLF001  kept nowhere else
            response_method=estimator.response_method,
        )
        # What fit() would keep, without fitting anew.
        fixed.estimator_ = estimator.estimator_
        return fixed
    if not hasattr(estimator, "cv_results_") or not hasattr(estimator, "refit"):
        return estimator
    if not hasattr(estimator, "best_estimator_"):
        raise PackError(f"the {type(estimator).__name__} kept no best estimator; fit it with refit=True")
    return _deciding(estimator.best_estimator_)


def _task(estimator: Any) -> Task:  # noqa: ANN401  any estimator
    kind = type(estimator).__name__
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise PackError(f"the {kind} is not fitted; fit it, then pack it") from None
    except TypeError:
        raise PackError(f"{kind} is no scikit-learn estimator") from None
    if is_classifier(estimator):
        if not hasattr(estimator, "classes_") or isinstance(estimator.classes_, list):
            raise PackError(f"the {kind} answers several outputs at once; pack one model for each of them")
        return "classifier"
    if is_regressor(estimator):
        return "regressor"
    raise PackError(f"the {kind} is neither a classifier nor a regressor")


def _as_fitted(estimator: Any, training: pd.DataFrame) -> pd.DataFrame:  # noqa: ANN401  any estimator
    """The columns that the estimator was fitted on, in its order, with names that JSON can have."""
    if not len(training):
        raise PackError("the training data has no rows")
    training = training.rename(columns=str)
    if not training.columns.is_unique:
        raise PackError(f"two columns are called {training.columns[training.columns.duplicated()][0]}")
    known = getattr(estimator, "feature_names_in_", None)
    if known is not None:
        if missing := [column for column in known if column not in training.columns]:
            raise PackError(f"the training data lacks the column {missing[0]}, which the estimator was fitted on")
        return training[list(known)]
    expected = getattr(estimator, "n_features_in_", len(training.columns))
    if expected != len(training.columns):
        raise PackError(
            f"the estimator was fitted on {expected} columns, the training data has {len(training.columns)} "
            "(is the label's column named with --target?)"
        )
    return training


def _schema(
    training: pd.DataFrame,
    valid_ranges: Mapping[str, tuple[float, float]],
    *,
    strict_categories: bool,
    tolerated: LetThrough,
    ignore_unknown: bool,
) -> Schema:
    check_let_through(tolerated, training)
    if unknown := set(valid_ranges) - set(training.columns):
        raise PackError(f"a valid range names {min(unknown)}, which is no feature")
    for name, (low, high) in valid_ranges.items():
        if not low <= high:
            raise PackError(f"the valid range of {name} ends before it begins")
    features = []
    for name in training.columns:
        # What is to be counted has to be known; of a number the strictness says nothing.
        strict = strict_categories or (name in tolerated and (not tolerated[name] or "category" in tolerated[name]))
        feature = describe_column(training[name], valid_range=valid_ranges.get(name), strict_categories=strict)
        features.append(let_through(feature, tolerated[name]) if name in tolerated else feature)
    return Schema(features=tuple(features), on_unknown="count" if ignore_unknown else "reject")


def _check_labels(classes: Sequence[object], target: "pd.Series") -> None:
    unknown = sorted({str(native(label)) for label in target.dropna().unique()} - {str(label) for label in classes})
    if unknown:
        known = ", ".join(str(label) for label in classes)
        raise PackError(f"the column {target.name} holds the class {unknown[0]}, the estimator knows {known}")


def _held_out(traffic: pd.DataFrame, schema: Schema, target: str | None) -> tuple[Traffic, bytes]:
    traffic = traffic.rename(columns=str)
    if missing := [name for name in schema.names if name not in traffic.columns]:
        raise PackError(f"the traffic lacks the column {missing[0]}")
    if not len(traffic):
        raise PackError("the traffic has no rows")
    columns = [*schema.names, *([target] if target is not None and target in traffic.columns else [])]
    content = traffic[columns].to_parquet(index=False)
    return Traffic(file=TRAFFIC_FILE, rows=len(traffic), target=target if target in columns else None), content


def _describe(file: str, content: bytes) -> dict[str, Any]:
    return {"file": file, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def _convert(
    estimator: Any,  # noqa: ANN401  any estimator
    task: Task,
    schema: Schema,
    training: pd.DataFrame,
    *,
    as_frame: bool,
) -> tuple[OnnxFile, bytes]:
    number = min(COMPARED_ROWS, len(training))
    drawn = np.random.default_rng(0).choice(len(training), number, replace=False)
    rows = _rows(training.iloc[sorted({*drawn.tolist(), *_gaps(training)})])
    rows += [row for _, _, changed in spoilt(schema, rows[:1]) for row in changed]
    done = convert(estimator, task, schema, rows, as_frame=as_frame)
    file = OnnxFile(
        **_describe(ONNX_FILE, done.raw),
        opset=done.opset,
        precision=done.precision,
        proven_rows=done.rows,
        largest_difference=done.largest_difference,
    )
    return file, done.raw


def _gaps(training: pd.DataFrame) -> list[int]:
    """For each column a row where it is missing."""
    return [int(index) for name in training.columns for index in np.flatnonzero(training[name].isna())[:1]]


def _sample(training: pd.DataFrame) -> pd.DataFrame:
    """The rows that are proven: the first ones, and for each column one where it is missing."""
    return training.iloc[sorted({*range(min(PROVEN_ROWS, len(training))), *_gaps(training)})]


def _takes_frames(estimator: Any, sample: pd.DataFrame) -> bool:  # noqa: ANN401  any estimator
    """Whether it was fitted with column names; where it does not say, whether it refuses an array."""
    if hasattr(estimator, "feature_names_in_"):
        return True
    try:
        estimator.predict(_as_array(sample))
    except Exception:  # noqa: BLE001  whatever it raises, an array is not what it takes
        return True
    return False


def _as_array(sample: pd.DataFrame) -> Matrix:
    numeric = all(pd.api.types.is_numeric_dtype(dtype) for dtype in sample.dtypes)
    return sample.to_numpy(dtype=np.float64 if numeric else object, na_value=np.nan)


def _prove(estimator: Any, sample: pd.DataFrame, model: Model) -> None:  # noqa: ANN401  any estimator
    """Ask what was written as a request would, and compare with what the estimator itself says."""
    packed = _ask(model, sample)
    matrix = sample if model.as_frame else _as_array(sample)
    said = np.asarray(estimator.predict(matrix))
    if said.size != len(sample):
        raise PackError(f"the {type(estimator).__name__} answers several outputs at once; pack one model for each")
    for index, (answer, own) in enumerate(zip(packed, said.ravel(), strict=True)):
        if not _same(answer, own):
            raise PackError(
                f"row {sample.index[index]} of the training data: the packed model answers "
                f"{answer.label if answer.value is None else answer.value}, the estimator itself {own}"
            )


def _ask(model: Model, table: pd.DataFrame) -> list[Answer]:
    try:
        return model.answer(to_matrix(_rows(table), model.schema, as_frame=model.as_frame))
    except InferenceError as error:
        raise PackError(f"the packed model cannot answer rows of the training data: {_cause(error)}") from error


def _outcomes(model: Model, training: pd.DataFrame, traffic: pd.DataFrame | None) -> dict[str, object]:
    """What the model answers to the data it was fitted on, and to rows held out, as the manifest has it."""
    equal = coincidence(training)
    if len(training) > MOST_ANSWERED:
        training = training.iloc[np.sort(np.random.default_rng(0).choice(len(training), MOST_ANSWERED, replace=False))]
    seen, unseen = _ask(model, training), []
    if traffic is not None:
        with suppress(PackError):  # rows that a request could not bring either
            unseen = _ask(model, traffic.rename(columns=str)[list(model.schema.names)][:MOST_ANSWERED])
    return {
        "answers": reference_of(seen, unseen, model.classes),
        "confidence_threshold": confidence_threshold(seen, unseen, model.classes),
        "coincidence": equal,
    }


def _cause(error: InferenceError) -> str:
    return str(error) if error.__cause__ is None else f"{type(error.__cause__).__name__}: {error.__cause__}"


def _rows(table: pd.DataFrame) -> list[Values]:
    """Rows as requests would bring them."""
    return [tuple(map(_plain, values)) for values in table.itertuples(index=False, name=None)]


def _plain(value: Any) -> Any:  # noqa: ANN401  any cell
    """A cell as JSON would carry it."""
    return None if pd.isna(value) else native(value)


def _same(answer: Answer, own: Any) -> bool:  # noqa: ANN401  a label or a value
    return answer.label == native(own) if answer.value is None else bool(np.isclose(answer.value, float(own)))
