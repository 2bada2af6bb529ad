"""From a fitted estimator and its training data to a bundle, proven to answer the same before it is called done."""

import hashlib
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import pandas as pd
import skops.io
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from service.errors import PackError
from service.inference.bundle import (
    TRAFFIC,
    Artifact,
    Format,
    Manifest,
    installed_libraries,
    load_bundle,
    write_bundle,
)
from service.inference.features import to_matrix
from service.inference.model import Answer, Task, answering, native
from service.inference.reference import describe_column
from service.inference.schema import Schema
from service.inference.trusted import untrusted_types

PROVEN_ROWS = 50


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
    force: bool = False,
) -> Path:
    """Write a bundle.

    Args:
        estimator: a fitted scikit-learn classifier, regressor or Pipeline.
        training: the features it was fitted on, one column each.
        target: the labels it was fitted on; checked against the classes that it knows.
        name: what the model is called in telemetry.
        out: the bundle's folder.
        version: of the model.
        kind: the artifact's format; skops where its types allow, else joblib.
        traffic: held-out rows, with the target column if there is one, to replay later.
        valid_ranges: per feature, the lowest and highest value that a request may send.
        strict_categories: refuse categories that training did not have.
        force: replace a bundle that is there.

    Raises:
        PackError: the estimator and the data do not fit together; the message names what, and the way out.
    """
    task = _task(estimator)
    training = _as_fitted(estimator, training)
    if unknown := set(valid_ranges or {}) - set(training.columns):
        raise PackError(f"a valid range names {min(unknown)}, which is no feature")
    schema = Schema(
        features=tuple(
            describe_column(
                training[column],
                valid_range=(valid_ranges or {}).get(column),
                strict_categories=strict_categories,
            )
            for column in training.columns
        )
    )
    classes = tuple(native(label) for label in estimator.classes_) if task == "classifier" else None
    if classes is not None and target is not None:
        _check_labels(classes, target)
    artifact = _serialise(estimator, kind)
    manifest = Manifest(
        name=name,
        version=version,
        task=task,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        artifact=Artifact(
            file=f"model.{kind}", format=kind, sha256=hashlib.sha256(artifact).hexdigest(), size=len(artifact)
        ),
        libraries=installed_libraries(),
        fitted_with="array" if schema.numeric and not hasattr(estimator, "feature_names_in_") else "frame",
        classes=classes,
        target=None if target is None else str(target.name),
        features=schema,
    )
    with TemporaryDirectory() as folder:
        _prove(estimator, training, write_bundle(Path(folder) / "proof", manifest, artifact))
    bundle = write_bundle(out, manifest, artifact, force=force)
    if traffic is not None:
        traffic.to_parquet(bundle / TRAFFIC, index=False)
    return bundle


def _task(estimator: Any) -> Task:  # noqa: ANN401  any estimator
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise PackError(f"{type(estimator).__name__} is not fitted; fit it, then pack it") from None
    except TypeError:
        raise PackError(f"{type(estimator).__name__} is no scikit-learn estimator") from None
    if is_classifier(estimator):
        if isinstance(estimator.classes_, list):
            raise PackError("the classifier answers several outputs at once; pack one for each of them")
        return "classifier"
    if is_regressor(estimator):
        return "regressor"
    raise PackError(f"{type(estimator).__name__} is neither a classifier nor a regressor")


def _as_fitted(estimator: Any, training: pd.DataFrame) -> pd.DataFrame:  # noqa: ANN401  any estimator
    """The columns that the estimator was fitted on, in its order."""
    if not len(training):
        raise PackError("the training data has no rows")
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
    return training.rename(columns=str)


def _check_labels(classes: tuple[object, ...], target: "pd.Series") -> None:
    unknown = sorted({str(native(label)) for label in target.dropna().unique()} - {str(label) for label in classes})
    if unknown:
        known = ", ".join(str(label) for label in classes)
        raise PackError(f"the column {target.name} holds the class {unknown[0]}, the estimator knows {known}")


def _serialise(estimator: Any, kind: Format) -> bytes:  # noqa: ANN401  any estimator
    if kind == "joblib":
        sink = io.BytesIO()
        joblib.dump(estimator, sink)
        return sink.getvalue()
    way_out = "pack it with --format joblib and serve it with --trust-pickle"
    try:
        artifact: bytes = skops.io.dumps(estimator)
    except Exception as error:
        raise PackError(f"skops cannot write this estimator ({error}); {way_out}") from error
    if unknown := untrusted_types(artifact):
        raise PackError(f"the estimator holds types beyond scikit-learn's own: {', '.join(unknown)}; {way_out}")
    return artifact


def _prove(estimator: Any, training: pd.DataFrame, bundle: Path) -> None:  # noqa: ANN401  any estimator
    """Load what was written and compare its answers with the estimator's own."""
    model = load_bundle(bundle, trust_pickle=True)  # what was written here and now is trusted
    rows = [
        {str(name): _plain(value) for name, value in row.items()}
        for row in training.head(PROVEN_ROWS).to_dict(orient="records")
    ]
    packed = model.answer(to_matrix(rows, model.schema, as_frame=model.as_frame))
    frame = training.head(PROVEN_ROWS)
    own = answering(estimator, model.task)(frame if model.as_frame else frame.to_numpy(dtype=np.float64))
    for index, (one, other) in enumerate(zip(packed, own, strict=True)):
        if not _same(one, other):
            raise PackError(f"row {index}: the packed model answers {one}, the estimator {other}")


def _plain(value: Any) -> Any:  # noqa: ANN401  any cell
    """A cell as JSON would carry it."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return None
    return native(value)


def _same(one: Answer, other: Answer) -> bool:
    numbers = [[answer.confidence, answer.value] for answer in (one, other)]
    mine, theirs = np.array(numbers, dtype=np.float64)  # None becomes NaN
    close = np.isclose(mine, theirs, equal_nan=True)
    return one.label == other.label and bool(close.all())
