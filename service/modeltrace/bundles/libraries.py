"""Versions of the libraries that an estimator's answers depend on: recorded when it is packed, compared when loaded."""

import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Final

from modeltrace.bundles.artifact import minor_version
from modeltrace.bundles.tree_validation import walk_objects
from modeltrace.errors import IncompatibleBundleError

# Recorded for every bundle.
RECORDED_LIBRARIES: Final = ("scikit-learn", "numpy", "scipy", "pandas", "skops", "skl2onnx", "onnxruntime")
# Packages that are installed under another name than they are imported by; others are looked up.
_DISTRIBUTION_NAMES: Final = {"sklearn": "scikit-learn", "imblearn": "imbalanced-learn"}
# They hold an estimator's numbers and tables; what they compute and write changes with the major version only.
_MAJOR_VERSION_ONLY: Final = frozenset({"numpy", "pandas"})


def installed_versions(names: Iterable[str] = ()) -> dict[str, str]:
    """Return the installed versions of Python, of `RECORDED_LIBRARIES` and of the libraries in `names`."""
    versions = {"python": platform.python_version()}
    for name in dict.fromkeys((*RECORDED_LIBRARIES, *names)):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def find_libraries(estimator: object) -> tuple[str, ...]:
    """The installed packages whose types and functions a fitted estimator is made of, found in its object graph.

    Code that is in no installed package (a script, a module on PYTHONPATH) has no version and is left out.
    """
    modules: set[str] = set()
    for part in walk_objects(estimator):
        kinds = type(part).__mro__
        modules.update(str(getattr(kind, "__module__", "")).partition(".")[0] for kind in kinds)
        if callable(part):
            modules.add(str(getattr(part, "__module__", "")).partition(".")[0])
    modules -= {"", "__main__", "None", *sys.stdlib_module_names}
    return tuple(sorted({name for module in modules if (name := _distribution_name(module)) is not None}))


def check_libraries(bundle: object, recorded_versions: Mapping[str, str], estimator_libraries: Iterable[str]) -> None:
    """Compare the recorded versions of scikit-learn and of all `used` libraries with those that are installed.

    Raises:
        IncompatibleBundleError: one is of another minor version (major, of numpy and pandas), or not installed.
    """
    for name in dict.fromkeys(("scikit-learn", *estimator_libraries)):
        recorded = recorded_versions.get(name, "unknown")
        try:
            here = version(name)
        except PackageNotFoundError:
            raise IncompatibleBundleError(
                f"{bundle} needs {name} {recorded}, which is not installed here. Install it: pip install "
                f"'{name}=={recorded}'"
            ) from None
        depth = 1 if name in _MAJOR_VERSION_ONLY else 2
        if minor_version(recorded)[:depth] != minor_version(here)[:depth]:
            raise IncompatibleBundleError(
                f"{bundle} was made with {name} {recorded}, here is {here}: answers could differ. "
                f"Pack the model anew here, or install {name} {recorded}"
            )


def _distribution_name(module: str) -> str | None:
    """The package that a module was installed by, by its own name; `None` for none, or a namespace of several."""
    name = _DISTRIBUTION_NAMES.get(module, module)
    try:
        version(name)
    except PackageNotFoundError:
        found = set(packages_distributions().get(module, ()))
        return found.pop() if len(found) == 1 else None
    return name
