"""A model of MLflow's flavor `python_function` as an estimator. Only this module of the service imports MLflow."""

import io
import os
import shutil
import weakref
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NoReturn
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Tags, TargetTags

from modeltrace.bundles.mlflow_folder import DTYPES
from modeltrace.bundles.registry.mlflow_client import QUIET
from modeltrace.errors import InferenceError, PackError
from modeltrace.inference.model import Label, to_json_label
from modeltrace.printable import first_line


class PyfuncModel:
    """A model that `mlflow.pyfunc` loads, as a classifier or regressor of scikit-learn that is fitted already.

    A pickle of it contains the files of the model. They are written to a temporary folder again when it is loaded.
    """

    def __init__(self, folder: Path, columns: dict[str, str]) -> None:
        """Load the model in a folder; `columns` are the columns of its signature and their types.

        Raises:
            PackError: the folder contains links or other files that are not regular, or MLflow cannot load the model.
        """
        self._columns = columns
        self._archive = _to_zip(folder)
        self.classes_: NDArray[Any] | None = None
        try:
            self._load()
        except Exception as error:
            raise PackError(f"{folder}: MLflow cannot load the model: {type(error).__name__}: {error}") from error

    def prepare(self, training: pd.DataFrame, labels: "pd.Series | None") -> pd.DataFrame:
        """Determine the classes, and return the columns of the signature with its types.

        The model is a regressor if it predicts floats. Otherwise, its classes are the labels and what it predicts for
        the training data.

        Raises:
            PackError: a column is missing or has values of another type, or the model fails.
        """
        if missing := [name for name in self._columns if name not in training.columns]:
            raise PackError(f"the training data has no column {missing[0]}, which the signature of the model has")
        try:
            converted = self._convert(training)
            predicted = self.predict(converted)
        except Exception as error:
            raise PackError(
                f"the model fails on the training data: {type(error).__name__}: {first_line(error)}"
            ) from error
        if predicted.dtype.kind == "f":
            return converted
        classes: dict[Label, None] = dict.fromkeys(map(to_json_label, predicted))
        kind = type(next(iter(classes)))
        if labels is not None:
            known = map(to_json_label, labels.dropna().unique())
            classes |= dict.fromkeys(label for label in known if type(label) is kind)
        self.classes_ = np.array(sorted(classes), dtype=predicted.dtype if kind is not str else object)
        return converted

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """The names of the columns."""
        return np.array([*self._columns], dtype=object)

    @property
    def n_features_in_(self) -> int:
        """The number of columns."""
        return len(self._columns)

    def fit(self, _data: object, _labels: object = None) -> NoReturn:
        """Raise TypeError: MLflow has no function that fits the model again."""
        raise TypeError("a pyfunc of MLflow cannot be fitted again")

    def predict(self, data: pd.DataFrame) -> NDArray[Any]:
        """Return the model's output for each row.

        Raises:
            InferenceError: the output has another shape than one value for each row.
        """
        output = np.asarray(self._model.predict(self._convert(data)))
        if output.ndim == 2 and output.shape[1] == 1:
            output = output[:, 0]
        if output.shape != (len(data),):
            raise InferenceError(
                f"the model returned the shape {output.shape} for {len(data)} rows, not one value for each"
            )
        return output

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> NoReturn:
        self.fit(None)

    def __sklearn_tags__(self) -> Tags:
        kind = "regressor" if self.classes_ is None else "classifier"
        return Tags(estimator_type=kind, target_tags=TargetTags(required=False))

    def __getstate__(self) -> dict[str, Any]:
        return {"columns": self._columns, "archive": self._archive, "classes": self.classes_}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._columns, self._archive, self.classes_ = state["columns"], state["archive"], state["classes"]
        self._load()

    def _load(self) -> None:
        """Write the files of the model to a temporary folder, which is deleted with this object, and load them."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow import pyfunc  # noqa: PLC0415  MLflow reads the variables when it is imported

        folder = mkdtemp(prefix="modeltrace-pyfunc-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        with ZipFile(io.BytesIO(self._archive)) as archive:
            archive.extractall(folder)
        self._model = pyfunc.load_model(folder, suppress_warnings=True)

    def _convert(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return the columns with the types of the signature. A column with missing values keeps its type."""
        table = data[[*self._columns]]
        dtypes = {name: DTYPES[kind] for name, kind in self._columns.items()}
        wanted = {
            name: dtype for name, dtype in dtypes.items() if dtype and not (dtype[0] in "bi" and table[name].hasnans)
        }
        return table.astype(wanted)


def _to_zip(folder: Path) -> bytes:
    """Return the files of a folder as a ZIP file, which is the same for the same files."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise PackError(f"{path} is not a regular file. A model of MLflow may contain only folders and files")
            if path.is_file():
                archive.writestr(ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes(), ZIP_DEFLATED)
    return buffer.getvalue()
