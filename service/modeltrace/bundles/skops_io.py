"""Import `skops.io` without importing all of scikit-learn. All other modules import it from here.

At import, skops calls scikit-learn's `all_estimators` to find the names of the estimators that it trusts. That imports
every module of scikit-learn, which delays each start by more than a second. The names depend only on the installed
versions, so `modeltrace.bundles.estimator_names` lists them and this module passes them to skops. skops still checks
the types itself, and trusts the same names. If other versions are installed than the list was made for, skops finds
the names itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import scipy.special  # noqa: F401  skops searches sys.modules in import order; SciPy must come first
import sklearn.utils

from modeltrace.bundles.estimator_names import NAMES, VERSIONS


def _listed_estimators() -> Sequence[tuple[str, type]]:
    """Return the same names as `all_estimators`, with empty classes: skops reads only the names."""
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
