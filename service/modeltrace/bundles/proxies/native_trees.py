"""Validate the trees of XGBoost and LightGBM before they predict.

Neither library checks the indices of nodes and features when it loads a model, so a forged model could read memory out
of bounds, as described in `modeltrace.bundles.tree_validation`.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modeltrace.bundles.tree_validation import invalid_tree


def validate_xgboost(model: bytes) -> None:
    """Validate a model in the JSON format of XGBoost, as XGBoost writes a model that it has loaded.

    Raises:
        BundleError: a tree does not have the structure that training produces.
    """
    learner = json.loads(model)["learner"]
    sizes = learner["learner_model_param"]
    n_features, n_outputs = int(sizes["num_feature"]), max(int(sizes["num_class"]), int(sizes["num_target"]), 1)
    booster = learner["gradient_booster"]
    booster = booster.get("gbtree", booster)["model"]  # the booster `dart` contains trees and their weights
    if "weights" in booster:
        _check(len(booster["weights"]) == (n_features + 1) * n_outputs)
        return
    trees = booster["trees"]
    groups = np.array(booster["tree_info"], dtype=np.int64)
    _check(len(groups) == len(trees) and bool(((groups >= 0) & (groups < n_outputs)).all()))
    for tree in trees:
        left, right, features = (
            np.array(tree[key], dtype=np.int64) for key in ("left_children", "right_children", "split_indices")
        )
        inner = left != -1
        children = np.concatenate([left[inner], right[inner]])
        _check(len(left) == len(right) == len(features) == len(tree["split_conditions"]) > 0)
        # No node has two parents and the first has none, so no path from the first node has a cycle.
        in_range = bool(((children > 0) & (children < len(left))).all())
        _check(in_range and len(np.unique(children)) == len(children))
        _check(_in_range(features[inner], n_features))
        ends = np.array(tree["categories_segments"], dtype=np.int64) + np.array(
            tree["categories_sizes"], dtype=np.int64
        )
        _check(
            _in_range(ends, len(tree["categories"]) + 1) and _in_range(np.array(tree["categories_nodes"]), len(left))
        )


def validate_lightgbm(model: str) -> str:
    """Validate a model in the text format of LightGBM, and return the text to load.

    The text has no `tree_sizes`, with which LightGBM would search the trees at other positions.

    Raises:
        BundleError: a tree does not have the structure that training produces, or the text has another form than
            LightGBM writes.
    """
    trees, end, rest = model.partition("\nend of trees\n")
    first, *blocks = trees.split("\nTree=")
    _check(bool(end) and "\nTree=" not in rest)
    header = _entries(line for line in first.splitlines() if "=" in line)
    n_features, n_outputs = int(header["max_feature_idx"]) + 1, int(header["num_tree_per_iteration"])
    classes = re.search(r"num_class:([0-9]+)", header.get("objective", ""))
    _check(n_outputs >= 1 and int(header["num_class"]) == n_outputs == int(classes[1] if classes else n_outputs))
    for block in blocks:
        number, *lines = block.strip("\n").splitlines()
        _check(number.isdecimal() and all("=" in line for line in lines))
        _check_lightgbm_tree(_entries(lines), n_features)
    return re.sub(r"^tree_sizes=.*\n", "", model, count=1, flags=re.MULTILINE)


def _check_lightgbm_tree(tree: dict[str, str], n_features: int) -> None:
    n_leaves, n_sets = int(tree["num_leaves"]), int(tree["num_cat"])
    _check(n_leaves >= 1 and len(tree["leaf_value"].split()) == n_leaves)
    if tree.get("is_linear", "0") != "0":
        features = _integers(tree, "leaf_features")
        _check(_in_range(features, n_features) and _integers(tree, "num_features").sum() == len(features))
        _check(len(_integers(tree, "num_features")) == n_leaves and len(tree["leaf_coeff"].split()) == len(features))
    if n_leaves == 1:
        return
    parents = np.arange(n_leaves - 1)
    for key in ("left_child", "right_child"):
        children = _integers(tree, key)
        _check(len(children) == len(parents))
        # Leaf 0 is written as -1, leaf 1 as -2.
        is_leaf = (children < 0) & (children >= -n_leaves)
        _check(bool((((children > parents) & (children < n_leaves - 1)) | is_leaf).all()))
    split_features, kinds = _integers(tree, "split_feature"), _integers(tree, "decision_type")
    _check(len(split_features) == len(kinds) == len(parents) and _in_range(split_features, n_features))
    is_set = (kinds & 1) == 1
    if n_sets:
        sets, bounds = np.array(tree["threshold"].split(), dtype=np.float64)[is_set], _integers(tree, "cat_boundaries")
        _check(_in_range(sets, n_sets) and len(bounds) == n_sets + 1 and bounds[0] == 0)
        _check(bool((np.diff(bounds) >= 0).all()) and bounds[-1] <= len(tree["cat_threshold"].split()))
    else:
        _check(not is_set.any())


def _entries(lines: Iterable[str]) -> dict[str, str]:
    """Parse lines with `key=value`. No key may occur twice, because it is not known which value LightGBM uses."""
    pairs = [line.partition("=")[::2] for line in lines]
    entries = dict(pairs)
    _check(len(entries) == len(pairs))
    return entries


def _integers(tree: dict[str, str], key: str) -> NDArray[np.int64]:
    return np.array(tree[key].split(), dtype=np.int64)


def _in_range(indices: NDArray[Any], length: int) -> bool:
    return bool(((indices >= 0) & (indices < length)).all())


def _check(valid: bool) -> None:  # noqa: FBT001  the condition
    if not valid:
        raise invalid_tree()
