"""Replace the parts of an estimator that skops cannot store by proxies, and build them again."""

from copy import deepcopy
from typing import Any

from modeltrace.bundles.proxies.native_models import NativeModel, is_native, native_model
from modeltrace.bundles.proxies.pandas_data import PandasData, is_pandas, pandas_data
from modeltrace.bundles.tree_validation import walk_objects

PROXY_TYPES = (NativeModel, PandasData)


def replace_parts(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    """Return an estimator with proxies for its native models and its pandas objects.

    An estimator without such parts is returned itself; otherwise it is copied.

    Raises:
        PackError: a native model cannot be stored in the format of its library.
    """
    parts = [part for part in walk_objects(estimator) if is_native(part) or is_pandas(part)]
    proxies = [native_model(part) if is_native(part) else pandas_data(part) for part in parts]
    return _substitute(estimator, parts, proxies)


def restore_parts(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    """Return an estimator in which each proxy is replaced by the object that it stands for.

    Raises:
        BundleError: a proxy is invalid.
    """
    parts = [part for part in walk_objects(estimator) if isinstance(part, PROXY_TYPES)]
    return _substitute(estimator, parts, [part.restore() for part in parts])


def _substitute(root: Any, parts: list[Any], substitutes: list[Any]) -> Any:  # noqa: ANN401  any object
    """Copy an object graph, with a substitute in the place of each part."""
    if not parts:
        return root
    # deepcopy takes an object that its memo contains as copied already.
    return deepcopy(root, {id(part): substitute for part, substitute in zip(parts, substitutes, strict=True)})
