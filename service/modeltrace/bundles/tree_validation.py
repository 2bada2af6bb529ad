"""Decision trees from a file, checked before anything is asked of them.

scikit-learn follows a tree's node indices without looking whether they lie inside it, so a forged tree can crash the
process or read what is beside it. skops therefore trusts no tree. Those that pass here are trees as training makes
them: every child comes after its parent and inside the tree, every feature is one that the tree was given.

Other compiled parts (k-d trees, support vectors) are not looked into: who made a bundle is for `--expect-sha256`.
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

# What holds no part of an estimator: values, and code, from which the whole program could be reached.
_ATOMIC_TYPES = (str, bytes, int, float, NoneType, type, ModuleType)


def validate_trees(estimator: object) -> None:
    """Look through everything that an estimator holds.

    Raises:
        BundleError: there is a tree that no training produces.
    """
    for part in walk_objects(estimator):
        if isinstance(part, Tree):
            inner = part.children_left != TREE_LEAF
            for children in (part.children_left, part.children_right):
                _check_nodes(inner, children, part.feature, part.n_features)
        elif isinstance(part, BaseDecisionTree) and hasattr(part, "tree_"):
            if part.tree_.n_features != part.n_features_in_:
                raise _invalid_tree()
        elif isinstance(part, BaseForest | BaseGradientBoosting) and hasattr(part, "estimators_"):
            # They look at the width of the rows once, not again for each of their trees.
            if any(tree.tree_.n_features != part.n_features_in_ for tree in np.ravel(part.estimators_)):
                raise _invalid_tree()
        elif isinstance(part, BaseHistGradientBoosting) and hasattr(part, "_predictors"):
            for predictor in (p for iteration in part._predictors for p in iteration):  # noqa: SLF001  kept nowhere else
                _check_predictor(predictor, part._n_features)  # noqa: SLF001  kept nowhere else


def _check_predictor(predictor: TreePredictor, n_features: int) -> None:
    nodes = predictor.nodes
    inner = nodes["is_leaf"] == 0
    for children in (nodes["left"], nodes["right"]):
        _check_nodes(inner, children, nodes["feature_idx"], n_features)
    sets = nodes["bitset_idx"][inner & (nodes["is_categorical"] != 0)]
    if (sets >= min(len(predictor.raw_left_cat_bitsets), len(predictor.binned_left_cat_bitsets))).any():
        raise _invalid_tree()


def _check_nodes(inner: NDArray[np.bool_], children: NDArray[Any], features: NDArray[Any], n_features: int) -> None:
    parents = np.flatnonzero(inner)
    after, within = children[inner] > parents, children[inner] < len(inner)
    known = (features[inner] >= 0) & (features[inner] < n_features)
    if not len(inner) or not (after & within & known).all():
        raise _invalid_tree()


def _invalid_tree() -> BundleError:
    return BundleError("the model holds a decision tree that no training produces: altered, or damaged; it is not used")


def walk_objects(root: object) -> Iterator[object]:
    """Everything reachable through attributes, containers, partials and arrays of objects, once."""
    waiting, seen = [root], set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, _ATOMIC_TYPES) or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            waiting.extend(part)
        elif isinstance(part, np.ndarray):
            waiting.extend(part.ravel().tolist() if part.dtype == object else ())
        elif isinstance(part, partial):
            waiting.extend((part.func, part.args, part.keywords))
        else:
            waiting.extend(getattr(part, "__dict__", {}).values())
