"""Import `skops.io` without importing all of scikit-learn. All other modules import it from here.

At import, skops calls scikit-learn's `all_estimators` to find the names of the estimators that it trusts. This imports
every module of scikit-learn and delays each start by more than a second. The names depend only on the installed
versions. `modeltrace.bundles.estimator_names` therefore lists them for certain versions, and this module passes the
list to skops. skops then trusts the same names as without the list, and still checks the types itself. If other
versions are installed, the list is not used, and skops finds the names itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import scipy.special  # noqa: F401  skops searches sys.modules in import order; SciPy must come first
import sklearn.utils

from modeltrace.bundles.estimator_names import NAMES, VERSIONS


def _listed_estimators() -> Sequence[tuple[str, type]]:
    """Return the same names as `all_estimators`, each with an empty class, because skops reads only the names."""
    names = [name.rpartition(".") for name in NAMES]
    return [(name, type(name, (), {"__module__": module})) for module, _, name in names]


@contextmanager
def _replace_all_estimators() -> Iterator[None]:
    if any(version(library) != listed for library, listed in VERSIONS.items()):
        yield
        return
    original = sklearn.utils.all_estimators
    sklearn.utils.all_estimators = _listed_estimators
    try:
        yield
    finally:
        sklearn.utils.all_estimators = original


# At module level, because the import lock ensures that only one thread replaces all_estimators.
with _replace_all_estimators():
    import skops.io as skops_io

__all__ = ["skops_io"]
