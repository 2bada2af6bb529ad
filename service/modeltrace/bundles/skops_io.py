"""skops.io, imported without all of scikit-learn. Every other module takes it from here.

When skops is imported, it calls `all_estimators` of scikit-learn to find the names of the estimators that it trusts.
That imports every module of scikit-learn, which takes more than a second of every start. The names depend only on the
installed version, so `modeltrace.bundles.estimator_names` lists them, and skops gets them from there. skops checks and
builds as it always does: the same names are trusted in the same places. With other versions than those of the list,
skops finds the names by itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import scipy.special  # noqa: F401  skops searches sys.modules in import order; SciPy must come first
import sklearn.utils

from modeltrace.bundles.estimator_names import NAMES, VERSIONS


def _listed_estimators() -> Sequence[tuple[str, type]]:
    """What `all_estimators` returns, with empty classes: skops reads their names and keeps nothing else."""
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


# At module level: the import lock makes sure that only one thread replaces all_estimators.
with _replace_all_estimators():
    import skops.io as skops_io

__all__ = ["skops_io"]
