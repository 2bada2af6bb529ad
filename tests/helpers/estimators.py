"""Every estimator of scikit-learn, fitted on a little real data, with the arguments that each needs."""

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import feature_selection
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import FeatureAgglomeration
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
)
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401  the import enables
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from sklearn.impute import IterativeImputer, MissingIndicator
from sklearn.linear_model import LinearRegression, LogisticRegression, TweedieRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

IRIS = load_iris()
X = IRIS.data[::3]
LABELS = IRIS.target_names[IRIS.target[::3]]
TWO_LABELS = np.where(LABELS == "setosa", "setosa", "other")
VALUES = X[:, 0] + 1.0
Fitted = tuple[Any, Any]  # an estimator, and the data that it was fitted on

BINARY = ("FixedThresholdClassifier",)

# Estimators that cannot be served or saved with skops, and the reason.
UNSUPPORTED = {
    "Birch": "skops does not support it",
    "BisectingKMeans": "holds a compiled function that does not check its input, so it is not on the reviewed list",
    "ClassifierChain": "several outputs",
    "DictVectorizer": "accepts dicts, not rows",
    "FeatureHasher": "accepts dicts, not rows",
    "HashingVectorizer": "accepts texts, not rows",
    "IsotonicRegression": "accepts one column, not rows",
    "KernelCenterer": "accepts a kernel matrix, not rows",
    "LabelBinarizer": "accepts labels, not rows",
    "LabelEncoder": "accepts labels, not rows",
    "MultiLabelBinarizer": "accepts labels, not rows",
    "MultiOutputClassifier": "several outputs",
    "MultiOutputRegressor": "several outputs",
    "MultiTaskElasticNet": "several outputs",
    "MultiTaskElasticNetCV": "several outputs",
    "MultiTaskLasso": "several outputs",
    "MultiTaskLassoCV": "several outputs",
    "MissingIndicator": "without missing values it returns no columns to fit on; see the variant",
    "PLSSVD": "several outputs",
    "PatchExtractor": "accepts images, not rows",
    "RegressorChain": "several outputs",
    "SparseCoder": "accepts signals that fit its dictionary, not rows",
    "TunedThresholdClassifierCV": "holds its scorer, which calls a method by a name from the file; see test_pack",
    "TSNE": "cannot transform new rows",
}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "AdditiveChi2Sampler": {"sample_steps": 2},
    "CCA": {"n_components": 1},
    "ColumnTransformer": {"transformers": [("scale", StandardScaler(), [0, 1])]},
    "FeatureUnion": {"transformer_list": [("scale", StandardScaler())]},
    "GaussianRandomProjection": {"n_components": 2},
    "GridSearchCV": {"param_grid": {}, "cv": 2},
    "HistGradientBoostingClassifier": {"max_iter": 3},
    "HistGradientBoostingRegressor": {"max_iter": 3},
    "HalvingGridSearchCV": {"param_grid": {}, "cv": 2, "min_resources": 30},
    "HalvingRandomSearchCV": {"param_distributions": {}, "cv": 2, "min_resources": 30},
    "LogisticRegressionCV": {"Cs": 2, "cv": 2, "use_legacy_attributes": False},
    "PLSCanonical": {"n_components": 1},
    "Pipeline": {"steps": [("scale", StandardScaler()), ("decide", LogisticRegression())]},
    "RFECV": {"cv": 2},
    "RadiusNeighborsClassifier": {"radius": 5.0},
    "RandomizedSearchCV": {"param_distributions": {}, "cv": 2, "n_iter": 1},
    "SelfTrainingClassifier": {"estimator": LogisticRegression()},
    "SequentialFeatureSelector": {"cv": 2},
    "SparseRandomProjection": {"n_components": 2},
    "QuantileTransformer": {"n_quantiles": 10},
}


def every_predictor() -> dict[str, Callable[[], Fitted]]:
    """Return a factory of each classifier, regressor and transformer, by name."""
    factories: dict[str, Callable[[], Fitted]] = {}
    for kind in ("transformer", "regressor", "classifier"):
        factories |= {name: partial(fit_estimator, name, cls, kind) for name, cls in all_estimators(type_filter=kind)}
    return {name: make for name, make in factories.items() if name not in UNSUPPORTED}


def fit_estimator(name: str, cls: type, kind: str) -> Fitted:
    """Fit one of scikit-learn's estimators on data of its kind."""
    arguments = {**_required(cls, kind), **ARGUMENTS.get(name, {})}
    if "random_state" in inspect.signature(cls).parameters:
        arguments["random_state"] = 0
    estimator = cls(**arguments)
    if kind == "transformer":
        return fit(make_pipeline(estimator, LogisticRegression()), LABELS)
    if kind == "regressor":
        return fit(estimator, VALUES)
    targets = {"SelfTrainingClassifier": LABELS.astype(object)} | dict.fromkeys(BINARY, TWO_LABELS)
    return fit(estimator, targets.get(name, LABELS))


def _required(cls: type, kind: str) -> dict[str, Any]:
    inner = LinearRegression() if kind == "regressor" else LogisticRegression()
    available = {"estimator": inner, "estimators": [("one", inner), ("two", inner)]}
    parameters = inspect.signature(cls).parameters.values()
    return {
        p.name: available[p.name] for p in parameters if p.default is inspect.Parameter.empty and p.name in available
    }


def fit(estimator: Any, target: Any, data: Any = X) -> Fitted:
    """Fit without the warnings that so little data causes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(data, target)
    return estimator, data


def variants() -> dict[str, Callable[[], Fitted]]:
    """Return factories of estimators whose settings give them other contents than the defaults do."""
    factories: dict[str, Callable[[], Fitted]] = {
        "Tweedie, log": lambda: fit(TweedieRegressor(power=1.5, link="log"), VALUES),
        "Tweedie, identity": lambda: fit(TweedieRegressor(power=0, link="identity"), VALUES),
        "MLP, SGD": lambda: fit(MLPClassifier(solver="sgd", max_iter=5), LABELS),
        "histogram boosting, categories": lambda: fit(
            HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]), LABELS, np.round(X)
        ),
        "histogram boosting, category dtype": lambda: fit(
            HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype"), LABELS, with_categories()
        ),
        "iterative imputer": lambda: fit(
            make_pipeline(IterativeImputer(max_iter=2), LogisticRegression()), LABELS, with_gaps()
        ),
        "missing indicator": lambda: fit(make_pipeline(MissingIndicator(), LogisticRegression()), LABELS, with_gaps()),
        "a tree on frames": lambda: fit(DecisionTreeClassifier(), LABELS, pd.DataFrame(X, columns=list("abcd"))),
    }
    for kernel in (
        kernels.RBF() + kernels.WhiteKernel(),
        kernels.Matern() * kernels.ConstantKernel(),
        kernels.RationalQuadratic(),
        kernels.DotProduct() ** 2,
        kernels.PairwiseKernel(),
    ):
        factories[f"kernel {kernel}"] = partial(fit, GaussianProcessRegressor(kernel, alpha=0.5), VALUES)
    periodic = GaussianProcessRegressor(kernels.ExpSineSquared(), alpha=0.5)
    factories["kernel for one column"] = partial(fit, periodic, VALUES, X[:, :1])
    for metric in ("manhattan", "chebyshev", "hamming", "canberra", "braycurtis", "minkowski"):
        neighbours = KNeighborsClassifier(metric=metric, algorithm="ball_tree", p=3)
        factories[f"metric {metric}"] = partial(fit, neighbours, LABELS)
    for metric, more in (("seuclidean", {"V": X.var(0)}), ("mahalanobis", {"VI": np.linalg.inv(np.cov(X.T))})):
        neighbours = KNeighborsClassifier(metric=metric, algorithm="ball_tree", metric_params=more)
        factories[f"metric {metric}"] = partial(fit, neighbours, LABELS)
    haversine = KNeighborsClassifier(metric="haversine", algorithm="ball_tree")
    factories["metric haversine"] = partial(fit, haversine, LABELS, X[:, :2])
    for method in ("sigmoid", "temperature", "isotonic"):
        factories[f"calibration {method}"] = partial(
            fit, CalibratedClassifierCV(LinearSVC(), method=method, cv=2), LABELS
        )
    for score in ("f_classif", "f_regression", "r_regression", "chi2", "mutual_info_classif", "mutual_info_regression"):
        selection = feature_selection.SelectKBest(getattr(feature_selection, score), k=2)
        factories[f"selection by {score}"] = partial(
            fit, make_pipeline(selection, LogisticRegression()), VALUES.mean() < VALUES
        )
    for pool in (np.max, np.min, np.median, np.mean):
        agglomeration = make_pipeline(FeatureAgglomeration(2, pooling_func=pool), LogisticRegression())
        factories[f"pooling by {pool.__name__}"] = partial(fit, agglomeration, LABELS)
    return factories


def with_gaps() -> NDArray[np.float64]:
    """Return the data with missing values in one column."""
    gaps = X.copy()
    gaps[::7, 1] = np.nan
    return gaps


def with_categories() -> pd.DataFrame:
    """Return the data as a frame with one column of categories."""
    frame = pd.DataFrame(X, columns=list("abcd"))
    return frame.assign(c=pd.Categorical(np.where(frame.c > 3, "long", "short")))


def iris_frame() -> pd.DataFrame:
    """Return the data as a frame."""
    return pd.DataFrame(X, columns=["sepal_length", "sepal_width", "petal_length", "petal_width"])
