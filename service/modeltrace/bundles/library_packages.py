"""The distributions that libraries are installed from: their names, versions and extras."""

from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from typing import Final

# Distribution names that differ from the import name; other names are looked up in the installed metadata.
_NAMES: Final[Mapping[str, str]] = {"sklearn": "scikit-learn", "imblearn": "imbalanced-learn"}
# Distributions that install the same module as another one, which is the one that a manifest names.
_ALTERNATIVES: Final[Mapping[str, str]] = {"xgboost": "xgboost-cpu", "mlflow": "mlflow-skinny"}
# The libraries that an extra of Modeltrace installs, which has the same name.
EXTRAS: Final = frozenset({"xgboost", "lightgbm", "catboost", "mlflow"})


def installed_version(name: str) -> str | None:
    """Return the installed version of a distribution, or of its alternative; `None` if neither is installed."""
    try:
        return installed_distribution(name).version
    except PackageNotFoundError:
        return None


def installed_distribution(name: str) -> Distribution:
    """Return the metadata of an installed distribution, or of its alternative.

    Raises:
        PackageNotFoundError: neither is installed.
    """
    try:
        return distribution(name)
    except PackageNotFoundError:
        if name not in _ALTERNATIVES:
            raise
        return distribution(_ALTERNATIVES[name])


def distribution_name(module: str) -> str | None:
    """Return the distribution that installed a module, or `None` if there is none or there are several."""
    name = _NAMES.get(module, module)
    if installed_version(name) is not None:
        return name
    distributions = set(packages_distributions().get(module, ()))
    return distributions.pop() if len(distributions) == 1 else None


def install_command(name: str, release: str | None = None) -> str:
    """Return the command that installs a library, with the extra of Modeltrace if there is one."""
    extra = f"'modeltrace[{name}]'" if name in EXTRAS else None
    requirement = name if release is None else f"'{name}=={release}'"
    return " ".join(["pip install", *filter(None, [extra, None if extra and release is None else requirement])])
