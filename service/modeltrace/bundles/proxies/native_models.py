"""Proxies for the estimators of XGBoost, LightGBM and CatBoost: parameters, and the model in the library's format."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from modeltrace.bundles.library_packages import install_command
from modeltrace.bundles.proxies.plain import is_plain
from modeltrace.errors import BundleError, PackError
from modeltrace.printable import first_line

# The module with the estimators of each library, and the suffixes of the files that its `save_model` writes.
_LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "xgboost.sklearn": (".ubj", ".json"),
    "lightgbm.sklearn": (".txt",),
    "catboost.core": (".cbm",),
}
NATIVE_TYPES: Final = frozenset(
    {
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRegressor",
        "xgboost.sklearn.XGBRFClassifier",
        "xgboost.sklearn.XGBRFRegressor",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "catboost.core.CatBoostClassifier",
        "catboost.core.CatBoostRegressor",
    }
)
NATIVE_SUFFIXES: Final = tuple(suffix for suffixes in _LIBRARIES.values() for suffix in suffixes)


@dataclass
class NativeModel:
    """A model in the format of its library. `parameters` are plain values; `content` is `None` before `fit`."""

    type_name: str
    parameters: dict[str, Any]
    content: bytes | None

    def restore(self) -> object:
        """Build the estimator.

        Raises:
            BundleError: the type is not in the list, a parameter is not plain, or the model contains an invalid tree.
        """
        is_valid = self.type_name in NATIVE_TYPES and type(self.parameters) is dict and is_plain(self.parameters)
        if not is_valid or not isinstance(self.content, bytes | None):
            raise BundleError(f"the model contains an invalid estimator of the type {self.type_name}")
        module, _, name = self.type_name.rpartition(".")
        estimator: object = _import_format(module).load(
            getattr(import_module(module), name), self.parameters, self.content
        )
        return estimator


def is_native(part: object) -> bool:
    """Return whether an object is an estimator of one of the libraries. Its subclasses are not."""
    return _type_name(part) in NATIVE_TYPES


def native_model(estimator: Any) -> NativeModel:  # noqa: ANN401  an estimator of one of the libraries
    """Return the proxy of an estimator.

    Raises:
        PackError: its objective is a Python function, which the format of the library does not contain.
    """
    for name in ("objective", "loss_function"):
        if not is_plain(estimator.get_params(deep=False).get(name)):
            raise PackError(
                f"the {name} of the {type(estimator).__name__} is a Python function, which the library's own format "
                "cannot contain; pack it with --format joblib and serve it with MODELTRACE_TRUST_PICKLE=true"
            )
    parameters, content = _import_format(type(estimator).__module__).dump(estimator)
    return NativeModel(_type_name(estimator), parameters, content)


def read_native_file(path: Path, content: bytes) -> Any:  # noqa: ANN401  a model of one of the libraries
    """Return the model of a file that the `save_model` of a library wrote.

    Args:
        path: the file. Its suffix is one of `NATIVE_SUFFIXES`.
        content: its content.

    Raises:
        PackError: the library is not installed, or cannot read the file.
    """
    module = next(module for module, suffixes in _LIBRARIES.items() if path.suffix in suffixes)
    name = module.partition(".")[0]
    try:
        return _import_format(module).read(content)
    except ModuleNotFoundError as error:
        raise PackError(f"{path} needs {error.name}. Install it with: {install_command(name)}") from None
    except Exception as error:
        raise PackError(
            f"{path} is not a model that {name} has saved: {type(error).__name__}: {first_line(error)}"
        ) from error


def wrap_model(model: Any, labels: Any) -> Any:  # noqa: ANN401  any model; a series or None
    """Return an estimator for a model of a library's own training function, and any other object unchanged.

    Args:
        model: an `xgboost.Booster`, a `lightgbm.Booster`, a `catboost.CatBoost`, or another object.
        labels: the labels of the training data. LightGBM does not store the names of classes.
    """
    if _type_name(model) not in ("xgboost.core.Booster", "lightgbm.basic.Booster", "catboost.core.CatBoost"):
        return model
    return _import_format(type(model).__module__).wrap(model, labels)


def _import_format(module: str) -> ModuleType:
    """Import the functions for the format of a library, and so the library."""
    return import_module(f"{__package__}.{module.partition('.')[0]}_format")


def _type_name(part: object) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"
