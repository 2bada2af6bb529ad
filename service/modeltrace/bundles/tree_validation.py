"""Validate decision trees from a file before they are used.

scikit-learn does not check whether the node indices of a tree are in bounds. A forged tree could therefore crash the
process or read other memory, and skops does not trust trees. This module accepts only trees with the structure that
training produces: each child is in the tree and has a higher index than its parent, and each feature index is below the
number of features.

Other compiled parts (k-d trees, support vectors) are not validated. Pin bundles from others with `--expect-sha256`.
"""

from collections.abc import Iterator
from functools import partial
from types import ModuleType, NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import TREE_LEAF, Tree

from modeltrace.errors import BundleError

# Types that are not searched: values without parts, and code, because code refers to the whole program.
_ATOMIC_TYPES = (str, bytes, int, float, NoneType, type, ModuleType)


def validate_trees(estimator: object) -> None:
    """Validate every decision tree in an estimator.

    Raises:
        BundleError: a tree does not have the structure that training produces.
    """
    for part in walk_objects(estimator):
        if isinstance(part, Tree):
            inner = part.children_left != TREE_LEAF
            for children in (part.children_left, part.children_right):
                _check_nodes(inner, children, part.feature, part.n_features)
        elif isinstance(part, BaseDecisionTree) and hasattr(part, "tree_"):
            if part.tree_.n_features != part.n_features_in_:
                raise invalid_tree()
        elif isinstance(part, BaseForest | BaseGradientBoosting) and hasattr(part, "estimators_"):
            # An ensemble checks the number of features of its input; its trees do not check it again.
            if any(tree.tree_.n_features != part.n_features_in_ for tree in np.ravel(part.estimators_)):
                raise invalid_tree()
        elif isinstance(part, BaseHistGradientBoosting) and hasattr(part, "_predictors"):
            for predictor in (p for iteration in part._predictors for p in iteration):  # noqa: SLF001  scikit-learn has no public attribute
                _check_predictor(predictor, part._n_features)  # noqa: SLF001  scikit-learn has no public attribute


def _check_predictor(predictor: TreePredictor, n_features: int) -> None:
    nodes = predictor.nodes
    inner = nodes["is_leaf"] == 0
    for children in (nodes["left"], nodes["right"]):
        _check_nodes(inner, children, nodes["feature_idx"], n_features)
    sets = nodes["bitset_idx"][inner & (nodes["is_categorical"] != 0)]
    if (sets >= min(len(predictor.raw_left_cat_bitsets), len(predictor.binned_left_cat_bitsets))).any():
        raise invalid_tree()


def _check_nodes(inner: NDArray[np.bool_], children: NDArray[Any], features: NDArray[Any], n_features: int) -> None:
    parents = np.flatnonzero(inner)
    valid_children = (children[inner] > parents) & (children[inner] < len(inner))
    valid_features = (features[inner] >= 0) & (features[inner] < n_features)
    if not len(inner) or not (valid_children & valid_features).all():
        raise invalid_tree()


def invalid_tree() -> BundleError:
    """Return the error for a tree that training cannot produce."""
    return BundleError(
        "the model contains an invalid decision tree: the file was altered or is damaged, and is not used"
    )


def walk_objects(root: object) -> Iterator[object]:
    """Yield every object that is reachable through attributes, containers, partials and object arrays, once."""
    stack, seen = [root], set()
    while stack:
        part = stack.pop()
        if isinstance(part, _ATOMIC_TYPES) or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            stack.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            stack.extend(part)
        elif isinstance(part, np.ndarray):
            stack.extend(part.ravel().tolist() if part.dtype == object else ())
        elif isinstance(part, partial):
            stack.extend((part.func, part.args, part.keywords))
        else:
            stack.extend(getattr(part, "__dict__", {}).values())
