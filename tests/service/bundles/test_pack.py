"""What `pack` derives from an estimator and its data, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import DBSCAN
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, TunedThresholdClassifierCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.errors import PackError
from modeltrace.inference.model import ModelOutput
from tests.helpers.estimators import LABELS, VALUES, X, fit, iris_frame
from tests.helpers.tables import customers, predict_row


def encoder() -> Any:
    """Return an encoder of `people` for any estimator; a missing city is a category."""
    return make_column_transformer(
        (SimpleImputer(), ["age", "income"]),
        (OneHotEncoder(handle_unknown="ignore"), ["city"]),
        remainder="passthrough",
    )


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with features of every type."""
    data = customers()
    estimator = make_pipeline(encoder(), RandomForestClassifier(5, random_state=0))
    estimator.fit(data, data.age > 50)
    return pack(estimator, data, name="people", out=tmp_path_factory.mktemp("bundles") / "people")


def test_the_schema_is_derived_from_the_training_data(mixed: Path) -> None:
    """This applies to types, missing values, ranges and categories."""
    age, income, city, vip = read_manifest(mixed)[0].features

    assert [feature.type for feature in (age, income, city, vip)] == ["integer", "number", "category", "boolean"]
    assert [feature.nullable for feature in (age, income, city, vip)] == [False, True, True, False]
    assert city.categories == ("Bonn", "missing", "other")
    assert age.training_range == (customers().age.min(), customers().age.max())
    assert age.valid_range is None


def test_a_boolean_label_stays_boolean(mixed: Path) -> None:
    """A class has the JSON type that corresponds to its Python type."""
    output = predict_row(load_bundle(mixed), age=80, income=None, city=None, vip=True)

    assert output.label is True


def test_an_unseen_category_is_predicted(mixed: Path) -> None:
    """Categories are not enforced by default."""
    assert predict_row(load_bundle(mixed), age=20, income=1.0, city="Atlantis", vip=False).label is False


def test_columns_are_put_in_the_order_of_the_estimator(tmp_path: Path) -> None:
    """An estimator that was fitted with names gets its own order; other columns are dropped."""
    data = iris_frame()
    estimator = LogisticRegression(max_iter=1000).fit(data, LABELS)
    shuffled = data[data.columns[::-1]].assign(row_id=range(len(data)))

    bundle = pack(estimator, shuffled, name="iris", out=tmp_path / "iris")

    assert [feature.name for feature in read_manifest(bundle)[0].features] == list(data.columns)


def test_a_regressor_predicts_values(tmp_path: Path) -> None:
    """Its bundle has no classes, its outputs have neither label nor confidence."""
    model = load_bundle(pack(LinearRegression().fit(X, VALUES), iris_frame(), name="sepals", out=tmp_path / "sepals"))

    assert model.classes is None
    row = dict(zip(model.schema.names, X[0].tolist(), strict=True))
    assert predict_row(model, **row) == ModelOutput(value=pytest.approx(VALUES[0]))


@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV])
def test_the_best_estimator_of_a_search_is_packed(search: Any, tmp_path: Path) -> None:
    """The scorers and distributions of the search are not in the bundle."""
    parameters = {"max_depth": [1, 2]}
    extra = {"n_iter": 1} if search is RandomizedSearchCV else {}
    fitted = search(RandomForestClassifier(3, random_state=0), parameters, cv=2, scoring="f1_macro", **extra)
    fitted.fit(X, LABELS)

    model = load_bundle(pack(fitted, iris_frame(), name="best", out=tmp_path / "best"))

    row = dict(zip(model.schema.names, X[0].tolist(), strict=True))
    assert predict_row(model, **row).label == fitted.predict(X[:1])[0]


@pytest.mark.parametrize("method", ["auto", "predict_proba", "decision_function"])
def test_a_tuned_threshold_is_packed_as_a_fixed_one(method: str, tmp_path: Path) -> None:
    """The bundle decides in the same way, without the search for the threshold."""
    tuned = TunedThresholdClassifierCV(LogisticRegression(), scoring="recall", response_method=method, cv=2)
    tuned.fit(X, LABELS == "virginica")

    model = load_bundle(pack(tuned, iris_frame(), name="tuned", out=tmp_path / "tuned"))

    assert [output.label for output in model.predict(X)] == tuned.predict(X).tolist()
    assert tuned.predict(X).tolist() != tuned.estimator_.predict(X).tolist()


def test_an_unfitted_tuned_threshold_is_refused(tmp_path: Path) -> None:
    """An estimator that is not fitted has no threshold."""
    with pytest.raises(PackError, match="TunedThresholdClassifierCV is not fitted"):
        pack(TunedThresholdClassifierCV(LogisticRegression()), iris_frame(), name="x", out=tmp_path / "x")


def test_a_search_without_refit_is_refused(tmp_path: Path) -> None:
    """It has no best estimator."""
    search = GridSearchCV(RandomForestClassifier(2), {"max_depth": [1]}, cv=2, refit=False).fit(X, LABELS)

    with pytest.raises(PackError, match="refit=True"):
        pack(search, iris_frame(), name="x", out=tmp_path / "x")


@pytest.mark.parametrize("dtype", ["str", "object", "category"])
@pytest.mark.parametrize("missing", [None, np.nan])
def test_text_columns_of_every_dtype_predict_as_before(dtype: str, missing: Any, tmp_path: Path) -> None:
    """A missing value in a request becomes the same object as in training."""
    data = customers().drop(columns="income")
    data["city"] = pd.Series([missing if pd.isna(city) else city for city in data.city], dtype=object)
    data["city"] = data.city.astype(dtype)
    estimator = make_pipeline(make_column_transformer((OneHotEncoder(), ["city"])), LogisticRegression())
    target = np.where(data.city.isna(), "gap", "known")
    estimator.fit(data, target)

    model = load_bundle(pack(estimator, data, name="text", out=tmp_path / "text"))

    assert predict_row(model, age=1, city=None, vip=True).label == "gap"
    assert predict_row(model, age=1, city="Bonn", vip=True).label == "known"


def test_the_string_dtype_is_restored(tmp_path: Path) -> None:
    """The nullable string dtype, which scikit-learn accepts without missing values, is passed to the model again."""
    data = customers()[["city"]].dropna().astype("string")
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(data, data.city.to_numpy(dtype=object))

    bundle = pack(estimator, data, name="string", out=tmp_path / "string")

    assert read_manifest(bundle)[0].features[0].dtype == "string"
    assert predict_row(load_bundle(bundle), city="Bonn").label == "Bonn"


def test_categories_of_histogram_boosting_are_kept(tmp_path: Path) -> None:
    """An estimator that reads the dtype `category` receives it again; an unknown category counts as missing."""
    data = customers().astype({"city": "category"})
    estimator = HistGradientBoostingClassifier(max_iter=2).fit(data, data.age > 50)

    model = load_bundle(pack(estimator, data, name="boost", out=tmp_path / "boost"))

    unknown, missing = (predict_row(model, age=80, income=1.0, city=city, vip=True) for city in ("Atlantis", None))
    assert unknown == missing


def test_missing_booleans_are_allowed_where_training_had_them(tmp_path: Path) -> None:
    """The nullable boolean dtype is restored."""
    data = customers()[["age", "vip"]].astype({"vip": "boolean"})
    data.loc[::5, "vip"] = pd.NA
    estimator = HistGradientBoostingClassifier(max_iter=2).fit(data, data.age > 50)

    model = load_bundle(pack(estimator, data, name="vip", out=tmp_path / "vip"))

    assert predict_row(model, age=80, vip=None).label is True


def test_an_estimator_fitted_on_an_object_array_receives_one(tmp_path: Path) -> None:
    """Without names and with text, rows become an array of objects."""
    data = customers()[["age", "city"]].dropna()
    estimator = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    estimator.fit(data.to_numpy(dtype=object), data.city)

    model = load_bundle(pack(estimator, data, name="objects", out=tmp_path / "objects"))

    assert model.as_frame is False
    assert predict_row(model, age=40, city="Bonn").label == "Bonn"


def test_a_step_that_takes_columns_by_name_gets_a_frame(tmp_path: Path) -> None:
    """If the first step stores no names but rejects arrays, it gets a DataFrame."""
    steps = make_pipeline(FunctionTransformer(pd.DataFrame.abs), LogisticRegression(max_iter=1000))
    steps.fit(iris_frame(), LABELS)
    del steps[0].feature_names_in_

    model = load_bundle(
        pack(steps, iris_frame(), name="named", out=tmp_path / "named", artifact_format="joblib"), trust_pickle=True
    )

    assert model.as_frame is True


def test_valid_ranges_and_strict_categories_are_stored(tmp_path: Path) -> None:
    """Validation enforces them."""
    data = customers()
    estimator = make_pipeline(encoder(), LogisticRegression(max_iter=1000)).fit(data, data.vip)

    bundle = pack(estimator, data, name="p", out=tmp_path / "p", valid_ranges={"age": (0, 120)}, strict_categories=True)

    age, _, city, _ = read_manifest(bundle)[0].features
    assert age.valid_range == (0, 120)
    assert city.enforce_categories is True


def test_traffic_contains_only_features_and_target(tmp_path: Path) -> None:
    """Other columns are not stored in the bundle."""
    data = iris_frame()
    held_out = data.assign(species=LABELS, customer="secret")

    bundle = pack(
        fit(LogisticRegression(), LABELS)[0],
        data,
        pd.Series(LABELS, name="species"),
        name="iris",
        out=tmp_path / "iris",
        traffic=held_out,
    )

    assert list(pd.read_parquet(bundle / "traffic.parquet").columns) == [*data.columns, "species"]
    traffic = read_manifest(bundle)[0].traffic
    assert traffic is not None
    assert (traffic.rows, traffic.target) == (len(data), "species")


class LeastProbable(ClassifierMixin, BaseEstimator):
    """Predicts the least probable class, contrary to its probabilities."""

    def fit(self, data: Any, target: Any) -> "LeastProbable":
        """Fit a logistic regression."""
        self.inner_ = LogisticRegression(max_iter=1000).fit(data, target)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, data: Any) -> Any:
        """Return the probabilities of the logistic regression."""
        return self.inner_.predict_proba(data)

    def predict(self, data: Any) -> Any:
        """Return the least probable class."""
        return self.classes_[self.predict_proba(data).argmin(axis=1)]


def test_a_user_defined_estimator_decides_itself(tmp_path: Path) -> None:
    """The label is the result of predict(), the confidence is the probability of that label."""
    estimator = LeastProbable().fit(X, LABELS)
    bundle = pack(estimator, iris_frame(), name="contrary", out=tmp_path / "contrary", artifact_format="joblib")
    model = load_bundle(bundle, trust_pickle=True)

    output = predict_row(model, **dict(zip(model.schema.names, X[0].tolist(), strict=True)))

    assert output.label == estimator.predict(X[:1])[0] != "setosa"
    assert output.confidence == pytest.approx(estimator.predict_proba(X[:1]).min())


def unpackable(case: str) -> tuple[Any, pd.DataFrame, pd.Series | None]:
    """Return estimators and data that cannot be packed."""
    good, data = fit(LogisticRegression(), LABELS)[0], iris_frame()
    cases: dict[str, Callable[[], tuple[Any, pd.DataFrame, pd.Series | None]]] = {
        "not fitted": lambda: (LogisticRegression(), data, None),
        "no estimator": lambda: ("a string", data, None),
        "only its own rows": lambda: (DBSCAN().fit(X), data, None),
        "outliers of its own rows": lambda: (LocalOutlierFactor().fit(X), data, None),
        "too many outputs": lambda: (PolynomialFeatures(11).fit(X), data, None),
        "no rows": lambda: (good, data.iloc[:0], None),
        "missing column": lambda: (
            LogisticRegression(max_iter=1000).fit(data, LABELS),
            data.drop(columns="petal_width"),
            None,
        ),
        "other width": lambda: (good, data.assign(label=1.0), None),
        "twice": lambda: (good, pd.concat([data.iloc[:, :3], data.iloc[:, :1]], axis=1), None),
        "unknown class": lambda: (good, data, pd.Series(["tulip", *LABELS[1:]], name="species")),
        "dates": lambda: (good, data.assign(petal_width=pd.Timestamp("2026-01-01").date()), None),
        "nested": lambda: (good, data.assign(petal_width=[[1]] * len(data)), None),
        "all missing": lambda: (good, data.assign(petal_width=np.nan), None),
        "infinite": lambda: (good, data.assign(petal_width=np.inf), None),
        "mixed categories": lambda: (good, data.assign(petal_width=pd.Categorical([1, "a"] * (len(data) // 2))), None),
        "texts": lambda: (good, data.assign(petal_width="wide"), None),
    }
    return cases[case]()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("not fitted", "LogisticRegression is not fitted"),
        ("no estimator", "not a scikit-learn estimator"),
        ("only its own rows", "DBSCAN can neither predict nor transform new rows"),
        ("outliers of its own rows", r"LocalOutlierFactor can neither .*LocalOutlierFactor\(novelty=True\)"),
        ("too many outputs", r"returns 1,365 values for each row, 1,024 are allowed\. End with .*PCA"),
        ("no rows", "no rows"),
        ("missing column", "has no column petal_width"),
        ("other width", r"4 columns, but the training data has 5.*--target"),
        ("twice", "two columns of the training data have the name sepal_length"),
        ("unknown class", "column species contains the label tulip"),
        ("dates", "petal_width .*neither numbers, booleans nor text"),
        ("nested", "petal_width .*neither numbers, booleans nor text"),
        ("all missing", "petal_width: every value is missing"),
        ("infinite", "column petal_width, row 0 .*: the value is infinite"),
        ("mixed categories", "petal_width .*neither numbers, booleans nor text, but several types"),
        ("texts", "the packed model fails on the training data"),
    ],
)
def test_unpackable_models_and_data_are_refused(case: str, message: str, tmp_path: Path) -> None:
    """The message says why, and nothing is written."""
    estimator, data, target = unpackable(case)

    with pytest.raises(PackError, match=message):
        pack(estimator, data, target, name="x", out=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"valid_ranges": {"girth": (0, 1)}}, "--range girth: .*no feature of that name"),
        ({"valid_ranges": {"petal_width": (2, 1)}}, "lowest value is greater than the highest"),
        ({"valid_ranges": {"petal_width": (500, 501)}}, "no value of the training data"),
        ({"traffic": pd.DataFrame({"a": [1]})}, "--traffic: the column sepal_length is missing"),
        ({"traffic": iris_frame().iloc[:0]}, "--traffic: the file has no rows"),
        ({"version": "v" * 65}, "version"),
    ],
)
def test_invalid_options_are_refused(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    """They are refused before anything is written."""
    with pytest.raises(PackError, match=message):
        pack(fit(LogisticRegression(), LABELS)[0], iris_frame(), **{"name": "x", "out": tmp_path / "x", **more})
    assert list(tmp_path.iterdir()) == []
