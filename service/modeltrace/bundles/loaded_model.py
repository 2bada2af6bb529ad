"""Predict in this process with the model of a bundle: `modeltrace.load(path).predict(X)`."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.training_frame import to_frame
from modeltrace.errors import InvalidFeaturesError, ModeltraceError
from modeltrace.inference.model import Engine, Label, Model, ModelOutput
from modeltrace.inference.predict_rows import score
from modeltrace.inference.schema import Feature
from modeltrace.inference.tasks import Task
from modeltrace.tables.values import converter

# Rows that are validated and predicted at a time.
CHUNK_ROWS = 65_536


class InvalidRowsError(ModeltraceError):
    """Rows violate the feature schema. `errors` has the error of each such row, by its position."""

    def __init__(self, errors: Mapping[int, InvalidFeaturesError], rows: int) -> None:
        position, first = next(iter(errors.items()))
        super().__init__(
            f"{len(errors):,} of {rows:,} rows violate the feature schema; row {position}: {first}. `predict_table` "
            "predicts the other rows"
        )
        self.errors = errors


class LoadedModel:
    """The model of a bundle. Its predictions are those of the service; nothing is recorded."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._converters = [(feature.name, converter(feature, "parquet")) for feature in model.features]

    def __repr__(self) -> str:
        return f"<{self.name} {self.version}: {self.task} of {', '.join(self._model.schema.names)}>"

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._model.name

    @property
    def version(self) -> str:
        """The version of the model."""
        return self._model.version

    @property
    def task(self) -> Task:
        """The task, for example `classifier` or `regressor`."""
        return self._model.task

    @property
    def classes(self) -> tuple[Label, ...] | None:
        """The classes of a classifier, or the labels of an outlier detector or a clusterer."""
        return self._model.classes

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the named outputs; empty for classifiers and regressors with one output."""
        return self._model.output_names

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features, in the order of the columns of an array."""
        return self._model.features

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803, ANN401  scikit-learn's name; any table
        """Return the label or the value of each row, or its named outputs if it has neither.

        Args:
            X: a data frame (pandas, polars, Arrow), a list of mappings by feature name, or an array of the shape
                (n_rows, n_features) with the features in order. Other columns are ignored.

        Returns:
            An array of the shape (n_rows,); for an estimator with several outputs and for a transformer, of the shape
            (n_rows, n_outputs).

        Raises:
            InvalidRowsError: rows violate the feature schema.
            InferenceError: the model failed.
        """
        outputs = self._predict_valid(X)
        if self._model.classes is None and self._model.outputs:
            same_type = len({type(value) for row in outputs[:1] for value in row.outputs or ()}) < 2
            array = np.array([row.outputs for row in outputs], dtype=None if same_type else object)
            return array.reshape(len(outputs), len(self._model.outputs))
        return np.array([row.label if row.value is None else row.value for row in outputs])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803, ANN401  see `predict`
        """Return the probability of each class for each row.

        Returns:
            An array of the shape (n_rows, n_classes), with the classes in the order of `classes`.

        Raises:
            InvalidRowsError: rows violate the feature schema.
            InferenceError: the model failed.
            ModeltraceError: the model has no probabilities.
        """
        if not self._model.has_probabilities:
            raise ModeltraceError(f"{self.name} {self.version} has no probabilities")
        outputs = self._predict_valid(X, details=True)
        return np.array([output.probabilities for output in outputs]).reshape(len(outputs), len(self.classes or ()))

    def predict_interval(self, X: Any) -> NDArray[np.float64]:  # noqa: N803, ANN401  see `predict`
        """Return the prediction interval of a regressor for each row.

        Returns:
            An array of the shape (n_rows, 2): lower and upper bound.

        Raises:
            InvalidRowsError: rows violate the feature schema.
            InferenceError: the model failed.
            ModeltraceError: the bundle has no prediction intervals.
        """
        if self._model.interval is None:
            raise ModeltraceError(f"{self.name} {self.version} has no prediction intervals")
        outputs = self._predict_valid(X, details=True)
        return np.array([output.interval for output in outputs], dtype=np.float64).reshape(len(outputs), 2)

    def predict_table(self, X: Any) -> pd.DataFrame:  # noqa: N803, ANN401  see `predict`
        """Return a table with one row for each row of `X`, and its index.

        The columns are `label` and `confidence` (classifier) or `value` (regressor), `output_NAME` for each named
        output, and `error`: why a row that violates the feature schema has no prediction.

        Raises:
            InferenceError: the model failed.
        """
        table = _to_table(X, self._model)
        rows = self._predict(table)
        outputs = [row if isinstance(row, ModelOutput) else ModelOutput() for row in rows]
        columns: dict[str, list[Any]] = {}
        if self.task == "regressor":
            columns["value"] = [row.value for row in outputs]
        if self.classes is not None:
            columns["label"] = [row.label for row in outputs]
        if self._model.can_have_probabilities:
            columns["confidence"] = [row.confidence for row in outputs]
        for index, output in enumerate(self._model.outputs):
            columns[f"output_{output.name}"] = [row.outputs and row.outputs[index] for row in outputs]
        labels = {"label", *(f"output_{output.name}" for output in self._model.outputs if output.classes)}
        numbers = {name: pd.array(values, dtype="float64") for name, values in columns.items() if name not in labels}
        error = [None if isinstance(row, ModelOutput) else str(row) for row in rows]
        return pd.DataFrame(
            {**columns, **numbers, "error": pd.Series(error, dtype=object, index=table.index)}, table.index
        )

    def _predict_valid(self, X: Any, *, details: bool = False) -> list[ModelOutput]:  # noqa: N803, ANN401  see `predict`
        """Predict rows; raise `InvalidRowsError` if one of them violates the schema."""
        outputs = self._predict(_to_table(X, self._model), details=details)
        if errors := {index: row for index, row in enumerate(outputs) if isinstance(row, InvalidFeaturesError)}:
            raise InvalidRowsError(errors, len(outputs))
        return [row for row in outputs if isinstance(row, ModelOutput)]

    def _predict(self, table: pd.DataFrame, *, details: bool = False) -> list[ModelOutput | InvalidFeaturesError]:
        outputs: list[ModelOutput | InvalidFeaturesError] = []
        for start in range(0, len(table), CHUNK_ROWS):
            outputs += score(self._model, self._to_rows(table.iloc[start : start + CHUNK_ROWS]), details=details)
        return outputs

    def _to_rows(self, table: pd.DataFrame) -> list[dict[str, object]]:
        columns = []
        for name, convert in self._converters:
            column = table[name].astype(object)
            columns.append(map(convert, column.where(column.notna(), None).tolist()))
        names = self._model.schema.names
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def load(
    source: str | Path,
    *,
    engine: Engine = "sklearn",
    trust_pickle: bool = False,
    trust_code: bool = False,
    trusted_types: Sequence[str] = (),
    expect_sha256: str | None = None,
) -> LoadedModel:
    """Verify a bundle and load its model.

    Args:
        source: the folder of a bundle, or another source, as for `modeltrace serve`: a folder of bundles,
            `FOLDER@VERSION` or `models:/NAME@ALIAS`.
        engine: the library that computes predictions.
        trust_pickle: allow joblib, which can run any code.
        trust_code: import the modules that the bundle contains.
        trusted_types: dotted names of types that skops may build, in addition to the reviewed ones.
        expect_sha256: the SHA-256 that `model.json` must have.

    Raises:
        SettingsError: the source is malformed, or the engine is not installed.
        BundleError: there is no such bundle, or it cannot be used.

    Example:
        >>> modeltrace.load("churn").predict(customers)  # doctest: +SKIP
    """
    with Catalog(logging.getLogger("modeltrace.registry").warning) as catalog:
        bundle = catalog.resolve(str(source))
    model = load_bundle(
        bundle.path,
        engine=engine,
        expect_sha256=expect_sha256 or bundle.sha256,
        trust_pickle=trust_pickle,
        trust_code=trust_code,
        trusted_types=trusted_types,
    )
    return LoadedModel(model)


def _to_table(X: Any, model: Model) -> pd.DataFrame:  # noqa: N803, ANN401  see `LoadedModel.predict`
    """Return a data frame whose columns have the names of the features.

    Raises:
        ModeltraceError: a feature has no column.
    """
    names = model.schema.names
    table = to_frame(X)
    if table.columns.equals(pd.RangeIndex(len(names))):  # an array has no names
        table = table.set_axis(names, axis="columns")
    table = table.set_axis([str(name) for name in table.columns], axis="columns")
    if absent := [name for name in names if name not in table.columns]:
        raise ModeltraceError(f"the table lacks the feature{'s' * (len(absent) > 1)} {', '.join(absent)}")
    return table
