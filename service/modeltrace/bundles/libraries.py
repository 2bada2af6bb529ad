"""Record the versions of the libraries that predictions depend on, and compare them when a bundle is loaded."""

import platform
import sys
from collections.abc import Iterable, Mapping
from typing import Final

from modeltrace.bundles.artifact import minor_version
from modeltrace.bundles.library_packages import distribution_name, install_command, installed_version
from modeltrace.bundles.tree_validation import walk_objects
from modeltrace.errors import IncompatibleBundleError

# Recorded for every bundle.
RECORDED_LIBRARIES: Final = ("scikit-learn", "numpy", "scipy", "pandas", "skops", "skl2onnx", "onnxruntime")
# Only the major version of these libraries has to match. Their minor versions do not change how arrays and tables are
# stored.
_MAJOR_VERSION_ONLY: Final = frozenset({"numpy", "pandas"})


def installed_versions(names: Iterable[str] = ()) -> dict[str, str]:
    """Return the installed versions of Python, of `RECORDED_LIBRARIES` and of the libraries in `names`."""
    versions = {"python": platform.python_version()}
    for name in dict.fromkeys((*RECORDED_LIBRARIES, *names)):
        if (installed := installed_version(name)) is not None:
            versions[name] = installed
    return versions


def find_libraries(estimator: object) -> tuple[str, ...]:
    """Return the distributions of all types and functions in the object graph of a fitted estimator.

    Code that does not belong to an installed distribution (a script, a module on PYTHONPATH) has no version and is not
    included.
    """
    modules: set[str] = set()
    for part in walk_objects(estimator):
        kinds = type(part).__mro__
        modules.update(str(getattr(kind, "__module__", "")).partition(".")[0] for kind in kinds)
        if callable(part):
            modules.add(str(getattr(part, "__module__", "")).partition(".")[0])
    modules -= {"", "__main__", "None", "modeltrace", *sys.stdlib_module_names}
    return tuple(sorted({name for module in modules if (name := distribution_name(module)) is not None}))


def check_libraries(bundle: object, recorded_versions: Mapping[str, str], estimator_libraries: Iterable[str]) -> None:
    """Compare the recorded versions of scikit-learn and `estimator_libraries` with the installed ones.

    Raises:
        IncompatibleBundleError: a library is missing, or its minor version (numpy, pandas: major version) differs.
    """
    for name in dict.fromkeys(("scikit-learn", *estimator_libraries)):
        recorded = recorded_versions.get(name, "unknown")
        if (installed := installed_version(name)) is None:
            raise IncompatibleBundleError(
                f"{bundle} needs {name} {recorded}, which is not installed. Install it with: "
                f"{install_command(name, recorded)}"
            )
        depth = 1 if name in _MAJOR_VERSION_ONLY else 2
        if minor_version(recorded)[:depth] != minor_version(installed)[:depth]:
            raise IncompatibleBundleError(
                f"{bundle} was made with {name} {recorded}, but {installed} is installed, which may predict otherwise. "
                f"Pack the model again here, or install {name} {recorded}"
            )
