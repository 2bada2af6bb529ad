"""The estimators of the table in docs/models.md, and functions that fit them."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.cluster import Birch, BisectingKMeans
from sklearn.compose import ColumnTransformer
from sklearn.covariance import EllipticEnvelope
from sklearn.datasets import make_blobs
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401  the import enables
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier, SGDOneClassSVM
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, OneClassSVM
from sklearn.utils import all_estimators

from tests.helpers.estimator_case import EstimatorCase, Fitted
from tests.helpers.estimators import ARGUMENTS
from tests.helpers.library_cases import library_cases

ROWS = 240
_POINTS, CLUSTERS = make_blobs(ROWS, 4, centers=3, cluster_std=1.5, random_state=0)
TABLE = pd.DataFrame((_POINTS - _POINTS.min(axis=0) + 1).round(3), columns=["width", "height", "depth", "weight"])
KINDS = np.array(["bolt", "nut", "washer"])[CLUSTERS]
SIZES = TABLE.to_numpy() @ [0.5, 1.0, 0.25, 0.125] + 1
TWO_SIZES = pd.DataFrame({"area": SIZES, "mass": SIZES * 2 - TABLE["width"]})
TWO_LABELS = pd.DataFrame({"kind": KINDS, "grade": np.where(np.median(SIZES) < SIZES, "A", "B")})
FLAGS = np.stack([np.median(SIZES) < SIZES, TABLE["width"] > TABLE["width"].median()], axis=1).astype(int)
_WORDS = np.array(["bolt", "nut", "washer", "steel", "brass", "loose", "tight", "new", "worn", "short"])
TEXTS = pd.Series([" ".join(words) for words in np.random.default_rng(0).choice(_WORDS, (ROWS, 6))], name="note")
MOODS = np.where(TEXTS.str.contains("worn"), "replace", "keep")


# Estimators without a row: they are no models, or the table has a row for them under another name.
_OMITTED = {
    "ClassifierChain", "ColumnTransformer", "DictVectorizer", "FeatureHasher", "FeatureUnion", "HashingVectorizer",
    "KernelCenterer", "LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer", "MultiOutputClassifier",
    "MultiOutputRegressor", "PatchExtractor", "Pipeline", "RegressorChain", "SparseCoder", "TfidfTransformer",
}  # fmt: skip
_MORE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "Birch": {"n_clusters": 3},
    "PLSRegression": {"n_components": 1},
    "PLSSVD": {"n_components": 1},
    "RadiusNeighborsClassifier": {"radius": 50.0},
    "RadiusNeighborsRegressor": {"radius": 50.0},
    "RadiusNeighborsTransformer": {"radius": 1.0},
    "RandomTreesEmbedding": {"n_estimators": 5, "max_depth": 3},
}


def fit(estimator: Any, training: Any = TABLE, target: Any = None) -> Fitted:
    """Fit without the warnings that so little data causes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Fitted(estimator.fit(training, target), training, target)


def cases() -> dict[str, EstimatorCase]:
    """Return all cases by name, in the order of the table."""
    listed = [*_supervised(), *_texts(), *_detectors(), *_clusterers(), *_several_outputs(), *_transformers()]
    listed += library_cases()
    return {case.name: case for case in listed}


def _supervised() -> Iterator[EstimatorCase]:
    quick = {"LogisticRegression", "HistGradientBoostingClassifier", "RandomForestClassifier", "Ridge"}
    for group, kind in (("Classifiers", "classifier"), ("Regressors", "regressor")):
        target = KINDS if kind == "classifier" else SIZES
        for name, cls in all_estimators(type_filter=kind):
            if name in _OMITTED or name.startswith("MultiTask"):
                continue
            of_name = np.where(KINDS == "nut", "nut", "other") if name in BINARY else target
            of_name = of_name.astype(object) if name == "SelfTrainingClassifier" else of_name
            training = TABLE[["width"]] if name == "IsotonicRegression" else TABLE
            build = partial(_build, name, cls, kind)
            yield EstimatorCase(name, group, partial(_fit_built, build, training, of_name), quick=name in quick)


BINARY = ("FixedThresholdClassifier", "TunedThresholdClassifierCV")


def _build(name: str, cls: type, kind: str) -> Any:
    inner = LinearRegression() if kind == "regressor" else LogisticRegression()
    available = {"estimator": inner, "estimators": [("one", inner), ("two", inner)]}
    parameters = inspect.signature(cls).parameters.values()
    required = {
        p.name: available[p.name] for p in parameters if p.default is inspect.Parameter.empty and p.name in available
    }
    seed = {"random_state": 0} if "random_state" in inspect.signature(cls).parameters else {}
    return cls(**{**required, **seed, **ARGUMENTS.get(name, {}), **_MORE_ARGUMENTS.get(name, {})})


def _fit_built(build: Callable[[], Any], training: Any, target: Any) -> Fitted:
    return fit(build(), training, target)


def _texts() -> Iterator[EstimatorCase]:
    case = partial(EstimatorCase, group="Texts")
    yield case("TfidfVectorizer, LogisticRegression", fit=lambda: fit(
        make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS, MOODS), quick=True)  # fmt: skip
    yield case("HashingVectorizer, SGDClassifier", fit=lambda: fit(
        make_pipeline(HashingVectorizer(n_features=256), SGDClassifier(random_state=0)), TEXTS, MOODS))  # fmt: skip
    yield case("CountVectorizer, MultinomialNB", fit=lambda: fit(
        make_pipeline(CountVectorizer(), MultinomialNB()), TEXTS, MOODS))  # fmt: skip
    yield case("CountVectorizer, Ridge", fit=lambda: fit(make_pipeline(CountVectorizer(), Ridge()), TEXTS, SIZES))
    yield case("FeatureUnion of two vectorizers, LinearSVC", fit=lambda: fit(
        make_pipeline(make_union(TfidfVectorizer(), CountVectorizer(analyzer="char")), LinearSVC(random_state=0)),
        TEXTS, MOODS))  # fmt: skip
    mixed = TABLE.assign(note=TEXTS)
    columns = [("text", TfidfVectorizer(), "note"), ("numbers", StandardScaler(), ["width", "height"])]
    yield case("ColumnTransformer with TfidfVectorizer, LogisticRegression", fit=lambda: fit(
        make_pipeline(ColumnTransformer(columns), LogisticRegression()), mixed, MOODS))  # fmt: skip


def _detectors() -> Iterator[EstimatorCase]:
    case = partial(EstimatorCase, group="Outlier detectors")
    yield case("EllipticEnvelope", fit=lambda: fit(EllipticEnvelope(random_state=0)))
    yield case("IsolationForest", fit=lambda: fit(IsolationForest(n_estimators=20, random_state=0)), quick=True)
    yield case("LocalOutlierFactor(novelty=True)", fit=lambda: fit(LocalOutlierFactor(novelty=True)))
    yield case("OneClassSVM", fit=lambda: fit(OneClassSVM()))
    yield case("SGDOneClassSVM", fit=lambda: fit(make_pipeline(StandardScaler(), SGDOneClassSVM(random_state=0))))


def _clusterers() -> Iterator[EstimatorCase]:
    case = partial(EstimatorCase, group="Clusterers")
    names = ("AffinityPropagation", "KMeans", "MeanShift", "MiniBatchKMeans")
    for name, cls in all_estimators(type_filter="cluster"):
        if name in names:
            yield case(name, fit=partial(_fit_built, partial(_build, name, cls, "cluster"), TABLE, None),
                       quick=name == "KMeans")  # fmt: skip
    yield case("Birch", fit=lambda: fit(Birch(n_clusters=3)), artifact_format="joblib")
    yield case("BisectingKMeans", fit=lambda: fit(BisectingKMeans(3, random_state=0)), artifact_format="joblib")
    yield case("GaussianMixture", fit=lambda: fit(GaussianMixture(3, random_state=0)), quick=True)
    yield case("BayesianGaussianMixture", fit=lambda: fit(BayesianGaussianMixture(n_components=3, random_state=0)))


def _several_outputs() -> Iterator[EstimatorCase]:
    case = partial(EstimatorCase, group="Several outputs")
    for name, cls in all_estimators(type_filter="regressor"):
        if name.startswith("MultiTask"):
            yield case(name, fit=partial(_fit_built, partial(_build, name, cls, "regressor"), TABLE, TWO_SIZES))
    yield case("LinearRegression, two targets", fit=lambda: fit(LinearRegression(), TABLE, TWO_SIZES), quick=True)
    yield case("RandomForestRegressor, two targets", fit=lambda: fit(
        RandomForestRegressor(10, random_state=0), TABLE, TWO_SIZES))  # fmt: skip
    yield case("MultiOutputRegressor", fit=lambda: fit(MultiOutputRegressor(Ridge()), TABLE, TWO_SIZES))
    yield case("RegressorChain", fit=lambda: fit(RegressorChain(Ridge()), TABLE, TWO_SIZES.to_numpy()))
    yield case("RandomForestClassifier, two targets", fit=lambda: fit(
        RandomForestClassifier(10, random_state=0), TABLE, FLAGS))  # fmt: skip
    yield case("KNeighborsClassifier, two targets", fit=lambda: fit(
        KNeighborsClassifier(), TABLE, TWO_LABELS.to_numpy(dtype=object)))  # fmt: skip
    yield case("MultiOutputClassifier", fit=lambda: fit(
        MultiOutputClassifier(LogisticRegression()), TABLE, TWO_LABELS), quick=True)  # fmt: skip
    yield case("ClassifierChain", fit=lambda: fit(ClassifierChain(LogisticRegression()), TABLE, FLAGS))


def _transformers() -> Iterator[EstimatorCase]:
    case = partial(EstimatorCase, group="Transformers")
    yield case("TfidfVectorizer, TruncatedSVD", fit=lambda: fit(
        make_pipeline(TfidfVectorizer(), TruncatedSVD(4, random_state=0)), TEXTS), quick=True)  # fmt: skip
    for name, cls in all_estimators(type_filter="transformer"):
        estimator = None if name in _OMITTED else _build(name, cls, "transformer")
        accepted = estimator is not None and not is_classifier(estimator) and not is_regressor(estimator)
        if accepted and not hasattr(cls, "predict") and hasattr(cls, "transform"):
            target = (SIZES if name.startswith("PLS") else KINDS) if _needs_target(name) else None
            training = TABLE.where(TABLE.min() < TABLE) if name == "MissingIndicator" else TABLE
            yield case(name, fit=partial(_fit_built, partial(_build, name, cls, "transformer"), training, target),
                       quick=name in ("PCA", "SparsePCA"))  # fmt: skip


def _needs_target(name: str) -> bool:
    return name.startswith(("Select", "Generic", "RFE", "Sequential", "Neighborhood", "TargetEncoder", "PLS"))
