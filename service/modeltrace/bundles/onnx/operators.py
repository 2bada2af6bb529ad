"""Converters in double precision for estimators that skl2onnx converts in single precision: trees, boosting, imputers.

In single precision, rounding can move a scaled value to the other side of a threshold, and the prediction changes.
ONNX's tree ensemble sums in double precision and rounds the sum to single precision. All other operators of this module
use double precision.
"""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.numpy_helper import from_array
from skl2onnx.common._registration import get_converter
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

Converter = Callable[[Any, Any, Any], None]

ML = "ai.onnx.ml"
ML_VERSION = 3  # the first version with tree thresholds and weights in double precision


def float64_converters() -> dict[type, Converter]:
    """Return the converters for skl2onnx's parameter `custom_conversion_functions`."""
    trees = (DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor)
    forests = (ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor)
    histograms = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    return {
        **dict.fromkeys(trees, _converter(lambda tree: _Ensemble([_cart(tree.tree_, 0)], tree.tree_.value.shape[2]))),
        **dict.fromkeys(forests, _converter(_forest)),
        **dict.fromkeys((GradientBoostingClassifier, GradientBoostingRegressor), _converter(_boosting)),
        **dict.fromkeys(histograms, _converter(_histogram_boosting)),
        SimpleImputer: _convert_imputer,
        VotingClassifier: _convert_voting,
    }


@dataclass(frozen=True)
class _Tree:
    """A tree as parallel arrays over its nodes.

    `weights` has the shape (n_nodes, n_targets). Leaf i adds row i of it to the columns `targets` of the sum.
    """

    left: NDArray[Any]
    right: NDArray[Any]
    feature: NDArray[Any]
    threshold: NDArray[Any]
    missing_left: NDArray[Any]
    leaf: NDArray[np.bool_]
    weights: NDArray[Any]
    targets: range


@dataclass(frozen=True)
class _Ensemble:
    """Trees that are summed, and the operations that turn the sum into probabilities or values."""

    trees: list[_Tree]
    width: int
    divide_by: float = 1.0
    start: "NDArray[Any] | None" = None
    link: str = ""  # an ONNX operator, or Sigmoid2 (the sigmoid of twice the sum), or no operation
    single_inputs: bool = True  # whether scikit-learn rounds the inputs to single precision


def _cart(tree: Any, target: int, weight: float = 1.0) -> _Tree:  # noqa: ANN401  sklearn.tree._tree.Tree
    weights = weight * tree.value[:, 0, :]
    leaf = tree.children_left == -1
    targets, children = range(target, target + weights.shape[1]), (tree.children_left, tree.children_right)
    return _Tree(*children, tree.feature, tree.threshold, tree.missing_go_to_left, leaf, weights, targets)


def _forest(forest: Any) -> _Ensemble:  # noqa: ANN401  an estimator
    trees = [_cart(tree.tree_, 0) for tree in forest.estimators_]
    return _Ensemble(trees, trees[0].weights.shape[1], divide_by=len(trees))


def _boosting(boosting: Any) -> _Ensemble:  # noqa: ANN401  an estimator
    if not (boosting.init_ == "zero" or isinstance(boosting.init_, DummyClassifier | DummyRegressor)):
        raise NotImplementedError("gradient boosting with another estimator as `init`")
    links = {"HalfBinomialLoss": "Sigmoid", "ExponentialLoss": "Sigmoid2", "HalfMultinomialLoss": "Softmax"}
    loss = type(boosting._loss).__name__  # noqa: SLF001  not available otherwise
    if loss not in links and hasattr(boosting, "classes_"):
        raise NotImplementedError(f"gradient boosting with {loss}")
    stages = boosting.estimators_
    trees = [_cart(tree.tree_, k, boosting.learning_rate) for stage in stages for k, tree in enumerate(stage)]
    # The initial value is the same for every row.
    start = boosting._raw_predict_init(np.zeros((1, boosting.n_features_in_)))  # noqa: SLF001  see above
    return _Ensemble(trees, stages.shape[1], start=start, link=links.get(loss, ""))


def _histogram_boosting(boosting: Any) -> _Ensemble:  # noqa: ANN401  an estimator
    links = {
        "HalfBinomialLoss": "Sigmoid",
        "HalfMultinomialLoss": "Softmax",
        "HalfPoissonLoss": "Exp",
        "HalfGammaLoss": "Exp",
        "HalfSquaredError": "",
        "AbsoluteError": "",
        "PinballLoss": "",
    }
    loss = type(boosting._loss).__name__  # noqa: SLF001  not available otherwise
    if loss not in links:
        raise NotImplementedError(f"histogram boosting with {loss}")
    trees = []
    for stage in boosting._predictors:  # noqa: SLF001  not available otherwise
        for k, predictor in enumerate(stage):
            nodes = predictor.nodes
            if nodes["is_categorical"].any():
                raise NotImplementedError("histogram boosting with categorical features")
            weights = nodes["value"][:, np.newaxis]
            trees.append(
                _Tree(
                    left=nodes["left"],
                    right=nodes["right"],
                    feature=nodes["feature_idx"],
                    threshold=nodes["num_threshold"],
                    missing_left=nodes["missing_go_to_left"],
                    leaf=nodes["is_leaf"] != 0,
                    weights=weights,
                    targets=range(k, k + 1),
                )
            )
    width = len(boosting._predictors[0])  # noqa: SLF001  see above
    start = boosting._baseline_prediction  # noqa: SLF001  see above
    return _Ensemble(trees, width, start=start, link=links[loss], single_inputs=False)


def _converter(to_ensemble: Callable[[Any], _Ensemble]) -> Converter:
    def convert(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401  skl2onnx's
        estimator = operator.raw_operator
        ensemble = to_ensemble(estimator)
        add = _GraphBuilder(scope, container)
        rows = operator.inputs[0].full_name
        if ensemble.single_inputs:
            rows = add("Cast", [rows], to=TensorProto.FLOAT)
        rows = add("Cast", [rows], to=TensorProto.DOUBLE)
        total = add("TreeEnsembleRegressor", [rows], op_domain=ML, op_version=ML_VERSION, **_attributes(ensemble))
        outputs = add("Cast", [total], to=TensorProto.DOUBLE)
        if ensemble.divide_by != 1:
            outputs = add("Div", [outputs, add.constant([ensemble.divide_by])])
        if ensemble.start is not None:
            outputs = add("Add", [outputs, add.constant(ensemble.start)])
        outputs = add.link(ensemble.link, outputs)
        if not hasattr(estimator, "classes_"):
            add.output(outputs, operator.outputs[0])
            return
        # For two classes, the ensemble computes only the probability of the second class.
        if ensemble.width == 1 and len(estimator.classes_) == 2:
            first = add("Sub", [add.constant([1.0]), outputs])
            outputs = add("Concat", [first, outputs], axis=1)
        best = add("ArgMax", [outputs], axis=1, keepdims=0)
        add.output(add("Gather", [add.classes(estimator.classes_), best]), operator.outputs[0])
        # skl2onnx declares the probabilities of some estimators as single precision.
        operator.outputs[1].set_type(DoubleTensorType([None, len(estimator.classes_)]))
        add.output(outputs, operator.outputs[1])

    return convert


class _GraphBuilder:
    """Adds operators to a graph; each call adds one and returns the name of its output."""

    def __init__(self, scope: Any, container: Any) -> None:  # noqa: ANN401  skl2onnx's
        self._scope = scope
        self._container = container

    def __call__(self, kind: str, inputs: list[str], *, op_domain: str = "", op_version: int = 13, **more: Any) -> str:  # noqa: ANN401  attributes
        result = self._scope.get_unique_variable_name(kind.lower())
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, inputs, [result], op_domain=op_domain, op_version=op_version, name=name, **more)
        return str(result)

    def link(self, kind: str, inputs: str) -> str:
        """Add the operator that turns a sum into probabilities or values."""
        if not kind:
            return inputs
        if kind == "Sigmoid2":
            return self("Sigmoid", [self("Mul", [inputs, self.constant([2.0])])])
        return self(kind, [inputs], axis=1) if kind == "Softmax" else self(kind, [inputs])

    def output(self, result: str, output: Any) -> None:  # noqa: ANN401  skl2onnx's variable
        """Make a result an output of the estimator."""
        name = self._scope.get_unique_operator_name("Identity")
        self._container.add_node("Identity", [result], [output.full_name], op_version=13, name=name)

    def constant(self, values: Any) -> str:  # noqa: ANN401  array-like
        """Add an array of doubles."""
        return self._initializer(TensorProto.DOUBLE, np.asarray(values, dtype=np.float64))

    def classes(self, classes: NDArray[Any]) -> str:
        """Add the class labels as strings or integers."""
        if classes.dtype.kind in "OUS":
            return self._initializer(TensorProto.STRING, np.array([str(label).encode() for label in classes]))
        return self._initializer(TensorProto.INT64, classes.astype(np.int64))

    def _initializer(self, kind: int, array: NDArray[Any]) -> str:
        name = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(array.shape), array.ravel().tolist())
        return str(name)


def _attributes(ensemble: _Ensemble) -> dict[str, Any]:
    """Return the attributes of ONNX's operator TreeEnsembleRegressor."""
    trees = ensemble.trees

    def integers(per_node: Callable[[_Tree], Iterable[Any]]) -> list[int]:
        return [int(value) for tree in trees for value in per_node(tree)]

    def doubles(per_node: Callable[[_Tree], NDArray[Any]]) -> TensorProto:
        return from_array(np.concatenate([per_node(tree).ravel() for tree in trees]).astype(np.float64))

    sizes = [len(tree.leaf) for tree in trees]
    leaves = [np.flatnonzero(tree.leaf) for tree in trees]
    widths = [len(tree.targets) for tree in trees]
    return {
        "n_targets": ensemble.width,
        "nodes_treeids": np.repeat(np.arange(len(trees)), sizes).tolist(),
        "nodes_nodeids": integers(lambda tree: range(len(tree.leaf))),
        "nodes_modes": ["LEAF" if leaf else "BRANCH_LEQ" for tree in trees for leaf in tree.leaf],
        "nodes_featureids": integers(lambda tree: np.where(tree.leaf, 0, tree.feature)),
        "nodes_truenodeids": integers(lambda tree: np.where(tree.leaf, 0, tree.left)),
        "nodes_falsenodeids": integers(lambda tree: np.where(tree.leaf, 0, tree.right)),
        "nodes_missing_value_tracks_true": integers(lambda tree: np.where(tree.leaf, 0, tree.missing_left)),
        "nodes_values_as_tensor": doubles(lambda tree: np.where(tree.leaf, 0.0, tree.threshold)),
        "target_treeids": [index for index, nodes in enumerate(leaves) for _ in range(len(nodes) * widths[index])],
        "target_nodeids": [
            int(node) for nodes, width in zip(leaves, widths, strict=True) for node in np.repeat(nodes, width)
        ],
        "target_ids": [k for tree, nodes in zip(trees, leaves, strict=True) for _ in nodes for k in tree.targets],
        "target_weights_as_tensor": doubles(lambda tree: tree.weights[tree.leaf]),
    }


def _convert_voting(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401  skl2onnx's
    """Convert with skl2onnx's converter, which does not support `flatten_transform`. Only transform() needs it."""
    operator.raw_operator = copy(operator.raw_operator)
    operator.raw_operator.flatten_transform = False
    get_converter(operator.type)(scope, operator, container)


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401  skl2onnx's
    imputer = operator.raw_operator
    if not isinstance(operator.inputs[0].type, DoubleTensorType):
        get_converter(operator.type)(scope, operator, container)
        return
    statistics = np.asarray(imputer.statistics_, dtype=np.float64)
    if imputer.add_indicator or np.isnan(statistics).any() or not np.isnan(imputer.missing_values):
        raise NotImplementedError("an imputer with another placeholder than NaN, an empty column or an indicator")
    add = _GraphBuilder(scope, container)
    rows = operator.inputs[0].full_name
    add.output(add("Where", [add("IsNaN", [rows]), add.constant(statistics), rows]), operator.outputs[0])
