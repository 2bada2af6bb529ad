"""Read the description of a model that MLflow has saved into a folder, without importing MLflow."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pandas as pd
import yaml

from modeltrace.bundles.library_packages import install_command
from modeltrace.bundles.registry.publish import MLMODEL_FILE, estimator_file
from modeltrace.errors import PackError, UntrustedModelError
from modeltrace.imports import import_object
from modeltrace.printable import first_line

# The types of a column in a signature, and the dtype that MLflow accepts for it; `None` accepts every dtype of texts.
DTYPES: Final[Mapping[str, str | None]] = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": None,
}


def find_estimator(folder: Path) -> tuple[Path, str] | None:
    """Return the file of a scikit-learn estimator and the suffix that `pack` expects; `None` if there is only a pyfunc.

    Raises:
        PackError: the folder contains no model of MLflow, or one of another flavor.
    """
    flavors = _read_description(folder)["flavors"]
    if "sklearn" in flavors:
        file, suffix = estimator_file(folder / MLMODEL_FILE, str(folder))
        return folder / file, suffix
    if "python_function" not in flavors:
        raise PackError(f"{folder}: {MLMODEL_FILE} has neither the flavor sklearn nor python_function")
    return None


def read_pyfunc(folder: Path, *, trust_pickle: bool) -> Any:  # noqa: ANN401  its module imports MLflow
    """Return a `modeltrace.bundles.pyfunc_model.PyfuncModel`.

    Raises:
        UntrustedModelError: pickles are not trusted. A pyfunc contains pickles or code.
        PackError: the model has no signature with the columns and their types, or MLflow is not installed.
    """
    columns = _read_columns(folder)
    if not trust_pickle:
        raise UntrustedModelError(
            f"{folder} is a pyfunc of MLflow, which can run any code when it is loaded. "
            "If you made it yourself, allow it with --trust-pickle or MODELTRACE_TRUST_PICKLE=true"
        )
    if find_spec("mlflow") is None:
        raise PackError(f"{folder} needs MLflow. Install it with: {install_command('mlflow')}")
    return import_object("modeltrace.bundles.pyfunc_model:PyfuncModel")(folder, columns)


def read_input_example(folder: Path) -> pd.DataFrame:
    """Return the input example that MLflow has saved with a model.

    Raises:
        PackError: the folder has no input example, or it is not a data frame.
    """
    info = _read_description(folder).get("saved_input_example_info")
    remedy = "Name the training data with --data, or save the model with log_model(…, input_example=data)"
    if not isinstance(info, dict):
        raise PackError(f"{folder} has no input example. {remedy}")
    name = info.get("artifact_path")
    if info.get("type") != "dataframe" or info.get("pandas_orient") != "split" or name != Path(str(name)).name:
        raise PackError(f"{folder}: the input example is not a data frame with names of columns. {remedy}")
    try:
        table = json.loads((folder / name).read_bytes())
        return pd.DataFrame(table["data"], columns=table["columns"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PackError(f"{folder / name}: the input example cannot be read ({first_line(error)}). {remedy}") from None


def _read_description(folder: Path) -> Mapping[str, Any]:
    try:
        description = yaml.safe_load((folder / MLMODEL_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackError(
            f"{folder} contains no file {MLMODEL_FILE}, so it is not a model that MLflow has saved"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PackError(f"{folder / MLMODEL_FILE} cannot be read: {error}") from None
    if not isinstance(description, dict) or not isinstance(description.get("flavors"), dict):
        raise PackError(f"{folder / MLMODEL_FILE} does not describe a model of MLflow: it has no flavors")
    return description


def _read_columns(folder: Path) -> dict[str, str]:
    """Return the type of each column in the signature of a model, in order."""
    file, advice = folder / MLMODEL_FILE, "log_model(…, signature=infer_signature(data, predictions))"
    signature = _read_description(folder).get("signature")
    inputs = signature.get("inputs") if isinstance(signature, dict) else None
    if inputs is None:
        raise PackError(
            f"{file} has no signature, so the features of the model are unknown. Save it with one: {advice}"
        )
    try:
        columns = [(column.get("name"), column.get("type")) for column in json.loads(inputs)]
    except (ValueError, TypeError, AttributeError):
        raise PackError(f"{file}: the inputs of the signature cannot be read: {inputs!r}") from None
    for position, (name, kind) in enumerate(columns):
        if not isinstance(name, str):
            raise PackError(
                f"{file}: input {position + 1} of the signature is a {kind} without a name. The signature must name "
                f"the columns of a data frame: {advice}"
            )
        if kind not in DTYPES:
            raise PackError(f"{file}: the column {name} has the type {kind}; supported are {', '.join(DTYPES)}")
    if not columns:
        raise PackError(f"{file}: the signature has no inputs")
    return dict(columns)
