"""Data and models that cannot be packed: the message is one line that names the column or part and the remedy."""

import builtins
import pickle
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import zscore
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modeltrace.bundles.artifact import load_artifact
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.libraries import check_libraries, find_libraries
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.bundles.pack_files import pack_files
from modeltrace.bundles.training_frame import date_columns, identifier_columns
from modeltrace.bundles.verify_outputs import verify_probabilities
from modeltrace.errors import BundleError, IncompatibleBundleError, PackError

ROWS = 40
LABELS = np.array(["a", "b"] * (ROWS // 2))
HALF = ROWS // 2


def packed(column: Any, folder: Path, labels: Any = LABELS, classes: Any = LABELS, **options: Any) -> Path:
    """Pack a model that ignores its input, with this column and a number."""
    frame = column if isinstance(column, pd.DataFrame) else pd.DataFrame({"z": np.arange(ROWS) * 1.0, "c": column})
    estimator = DummyClassifier().fit(np.zeros((len(classes), 1)), classes)
    estimator.n_features_in_ = frame.shape[1]
    return pack(estimator, frame, pd.Series(labels, name="t"), name="x", out=folder / "b", **options)


def frame(*names: Any) -> pd.DataFrame:
    """Return a table of numbers with these column names."""
    return pd.DataFrame(np.zeros((ROWS, len(names))), columns=pd.Index(names, dtype=object, tupleize_cols=False))


MIXTURE = "column c .*but several types: convert all values to one type"
NO_DATE = "column c .*a request cannot send such dates and times.*convert them to the dtype datetime64"
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "complex": (lambda: np.arange(ROWS) * 1j, "column c .*two columns, the real and the imaginary parts"),
    "period": (lambda: pd.period_range("2020", periods=ROWS, freq="D"), NO_DATE),
    "date": (lambda: [date(2020, 1, 1)] * ROWS, NO_DATE),
    "categories of dates": (lambda: pd.Categorical(pd.date_range("2020", periods=ROWS)), NO_DATE),
    "interval": (lambda: pd.arrays.IntervalArray.from_breaks(range(ROWS + 1)), r"column c .*\.astype\(str\)"),
    "list": (lambda: [[1]] * ROWS, "column c .*create one column per element"),
    "dict": (lambda: [{"a": 1}] * ROWS, "column c .*create one column per key"),
    "bytes": (lambda: [b"x"] * ROWS, "column c .*decode them"),
    "categories of bytes": (lambda: pd.Categorical([b"x", b"y"] * HALF), "column c .*decode them"),
    "function": (lambda: [len] * ROWS, "column c .*convert it to one of them"),
    "mixed": (lambda: [1, "a"] * HALF, MIXTURE),
    "numbers and booleans": (lambda: [True, 2] * HALF, MIXTURE),
    "mixed categories": (lambda: pd.Categorical([1, "a"] * HALF), MIXTURE),
    "no Unicode": (lambda: pd.Series(["\ud800", "a"] * HALF, dtype=object), "column c .*not valid Unicode"),
    "huge Decimal": (lambda: [Decimal("1e400")] * ROWS, "column c.* infinite"),
    "unsigned": (lambda: np.full(ROWS, 2**64 - 1, dtype="uint64"), "column c, row 0 .*remove the column"),
    "levels beyond": (lambda: pd.Categorical([1.0, np.inf] * HALF), "column c, row 1 of the categories"),
    "nothing": (lambda: [pd.NA] * ROWS, "column c: every value is missing"),
    "no name": (lambda: frame("", "b"), "column 1 of the training data has no name; rename the column"),
    "long name": (lambda: frame("n" * 257, "b"), "has 257 characters, 256 are allowed; rename the column"),
    "control in a name": (
        lambda: frame("a\x1b[31m", "b"),
        r"'a\\x1b\[31m' contains a control character; rename the column",
    ),
    "newline in a name": (lambda: frame("a\nb", "b"), r"'a\\nb' contains a control character"),
    "C1 in a name": (lambda: frame("a\x9b", "b"), r"'a\\x9b' contains a control character"),
    "surrogate in a name": (lambda: frame("\ud800", "b"), "not valid Unicode; rename the column"),
    "name twice": (lambda: frame(1, "1"), "two columns of the training data have the name 1"),
    "several levels": (
        lambda: pd.DataFrame(np.zeros((ROWS, 2)), columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])),
        r"MultiIndex\)\. Give each column one name",
    ),
    "year 1": (lambda: np.array(["0001-01-01"] * ROWS, "M8[s]"), "column c, row 0 .*times of the years 1678 to 2261"),
    "year 20000": (lambda: np.array(["20000-01-01"] * ROWS, "M8[s]"), "column c, row 0 .* 20000-01-01"),
    "year 2262": (lambda: pd.to_datetime(["2262-04-01"] * ROWS, utc=True), "column c, row 0 .* 2262-04-01"),
    "long duration": (lambda: np.full(ROWS, 2**40, "m8[s]"), "column c, row 0 .*durations of up to 106,000 days"),
    "no columns": (lambda: pd.DataFrame(index=range(ROWS)), "has no columns"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_columns_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    """The message names the column and the remedy, and nothing is written."""
    make, message = REFUSED[case]

    with pytest.raises(PackError, match=message) as refused:
        packed(make(), tmp_path)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


ACCEPTED: dict[str, tuple[Callable[[], Any], tuple[str, str]]] = {
    "Decimal": (lambda: [Decimal("1.5"), None] * HALF, ("number", "float64")),
    "Arrow Decimal": (lambda: pd.array([Decimal(1)] * ROWS, pd.ArrowDtype(pa.decimal128(9, 2))), ("number", "float64")),
    "objects": (lambda: pd.Series([1, 2.5] * HALF, dtype=object), ("number", "float64")),
    "NumPy booleans": (lambda: pd.Series([np.True_, np.False_] * HALF, dtype=object), ("boolean", "object")),
    "sparse": (lambda: pd.arrays.SparseArray([0.0, 1.0] * HALF), ("number", "float64")),
    "sparse booleans": (lambda: pd.arrays.SparseArray([True, False] * HALF), ("boolean", "bool")),
    "Arrow integers": (lambda: pd.array([1, None] * HALF, "int64[pyarrow]"), ("integer", "float64")),
    "extended precision": (lambda: np.arange(ROWS, dtype="longdouble"), ("number", "float64")),
    "half precision": (lambda: np.arange(ROWS, dtype="float16"), ("number", "float64")),
    "intervals as categories": (lambda: pd.cut(np.arange(ROWS), 3), ("category", "category")),
    "None and NaN": (lambda: ["a", None, np.nan, "b"] * (HALF // 2), ("category", "str")),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_convertible_columns_are_packed(case: str, tmp_path: Path) -> None:
    """An object, sparse or Arrow column becomes the plain column that scikit-learn makes of it."""
    make, (kind, dtype) = ACCEPTED[case]

    feature = read_manifest(packed(make(), tmp_path))[0].features[1]

    assert (feature.type, feature.dtype) == (kind, dtype)


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ([0, 1] * HALF, np.array([0.0, 1.0] * HALF)),
        ([0, 1] * HALF, pd.array([0, 1, None, 1] * (HALF // 2), dtype="Int64")),
        ([0.0, 1.0] * HALF, np.array([0, 1] * HALF)),
        ([False, True] * HALF, pd.array([False, True, None, True] * (HALF // 2), dtype="boolean")),
        (["0", "1"] * HALF, np.array([0, 1] * HALF)),
    ],
)
def test_labels_that_are_equal_are_one_class(classes: Any, labels: Any, tmp_path: Path) -> None:
    """1 and 1.0 are one class: in training, in a file with a gap, and in /feedback."""
    assert packed(np.arange(ROWS) * 1.0, tmp_path, labels, classes).is_dir()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([2.0, 1.0] * HALF, "the column t contains the label 2.0, but the classes of the estimator are 0, 1"),
        ([True, False] * HALF, "the column t contains the label False"),
        ([[1]] * ROWS, "the column t contains lists or dicts"),
    ],
)
def test_other_labels_are_refused(labels: Any, message: str, tmp_path: Path) -> None:
    """1 and true are different classes."""
    with pytest.raises(PackError, match=message):
        packed(np.arange(ROWS) * 1.0, tmp_path, labels, [0, 1] * HALF)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([object()] * ROWS, "--traffic: the rows cannot be written to the bundle: .*column c"),
        ([1, "a"] * HALF, "--traffic: the rows cannot be written to the bundle"),
    ],
)
def test_held_out_rows_that_parquet_cannot_store_are_refused(column: Any, message: str, tmp_path: Path) -> None:
    """They are stored as a Parquet file."""
    traffic = pd.DataFrame({"z": np.zeros(ROWS), "c": column})

    with pytest.raises(PackError, match=message):
        packed(np.arange(ROWS) * 1.0, tmp_path, traffic=traffic)


def test_outputs_beyond_the_range_of_labels_are_refused(tmp_path: Path) -> None:
    """Metrics of such a regressor would overflow; the message names the first row."""
    data = pd.DataFrame({"a": np.arange(50.0)})

    with pytest.raises(PackError, match=r"row 0 of .*predicts .*, beyond .*Scale the target"):
        pack(LinearRegression().fit(data, data["a"] * 1e100), data, name="x", out=tmp_path / "b")


class _Odd(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier with these labels and probabilities for any rows."""

    def __init__(self, labels: Any, probabilities: Any) -> None:
        self.labels, self.probabilities = labels, probabilities
        self.classes_ = np.array(["a", "b"])

    def predict(self, _: Any) -> Any:
        """Return the labels."""
        return self.labels

    def predict_proba(self, _: Any) -> Any:
        """Return the probabilities."""
        return self.probabilities


EVEN = np.full((ROWS, 2), 0.5)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (LABELS, EVEN[:, :1], r"returns the shape \(40, 1\) for 40 rows, but it has 2 classes"),
        (LABELS, EVEN[:, 0], r"returns the shape \(40,\) for 40 rows"),
        (LABELS, EVEN * 14, "predict_proba of the _Odd returns 7 for the class a, which is not a probability"),
        (LABELS, EVEN - 1, "returns -0.5 for the class a"),
        (LABELS, EVEN * np.inf, "returns inf for the class a"),
        (LABELS[1:], EVEN, "predict of the _Odd returns 39 labels for 40 rows"),
    ],
    ids=["one column", "one dimension", "above 1", "below 0", "infinite", "too few labels"],
)
def test_outputs_that_are_no_probabilities_are_refused(labels: Any, probabilities: Any, message: str) -> None:
    """The service could not answer requests for probabilities, or would record them as a confidence."""
    with pytest.raises(PackError, match=message):
        verify_probabilities(_Odd(labels, probabilities), ("a", "b"), np.zeros((ROWS, 1)))


@pytest.mark.parametrize("probabilities", [EVEN, EVEN * (1 + 1e-9), EVEN * np.nan], ids=["even", "rounded", "missing"])
def test_probabilities_may_be_rounded_or_missing(probabilities: Any) -> None:
    """NaN is recorded as a missing confidence."""
    verify_probabilities(_Odd(LABELS, probabilities), ("a", "b"), np.zeros((ROWS, 1)))


def test_a_first_step_that_accepts_dicts_is_refused(tmp_path: Path) -> None:
    """The message names the step and contains the remedy."""
    estimator = make_pipeline(make_pipeline(DictVectorizer()), LogisticRegression()).fit([{"a": 1.0}] * ROWS, LABELS)

    with pytest.raises(PackError, match=r"first step is DictVectorizer, which accepts dicts.*Use a ColumnTransformer"):
        pack(estimator, pd.DataFrame({"a": [1.0] * ROWS}), name="x", out=tmp_path / "b")


def test_a_text_vectorizer_for_a_named_column_is_packed(tmp_path: Path) -> None:
    """A vectorizer in a ColumnTransformer gets its column as a series if the name is a string and not a list."""
    texts = pd.DataFrame({"review": ["good one", "bad one"] * HALF})
    vectorizer = ColumnTransformer([("text", TfidfVectorizer(), "review")])
    estimator = make_pipeline(vectorizer, LogisticRegression()).fit(texts, LABELS)

    assert load_bundle(pack(estimator, texts, name="x", out=tmp_path / "b")).features[0].type == "category"


class WithoutWidth(ClassifierMixin, BaseEstimator):
    """Has 0 as its number of features, like a CatBoost model that was loaded from a file."""

    n_features_in_ = 0
    feature_names_in_: Any = ()

    def fit(self, data: Any, labels: Any) -> "WithoutWidth":
        """Store the classes and feature names."""
        self.classes_, self.feature_names_ = np.unique(labels), [str(name) for name in data]
        return self

    def predict(self, data: Any) -> Any:
        """Return the first class for each row."""
        return self.classes_[np.zeros(len(data), dtype=int)]


def test_a_model_that_does_not_know_its_width_is_packed(tmp_path: Path) -> None:
    """0 is not a number of columns; the columns and their order follow from the feature names."""
    data = pd.DataFrame({"a": np.zeros(ROWS), "b": np.ones(ROWS)})
    estimator = WithoutWidth().fit(data, LABELS)

    bundle = pack(estimator, data[["b", "a"]].assign(extra=1.0), name="x", out=tmp_path / "b", artifact_format="joblib")

    assert load_bundle(bundle, trust_pickle=True).schema.names == ("a", "b")


def pickled(module: str, name: str) -> bytes:
    """Return a pickle that refers to a function of a module."""
    return b"\x80\x04c" + f"{module}\n{name}\n".encode() + b"."


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (pickled("code_of_mine", "work"), "the module code_of_mine: install it, or, .*--code"),
        (pickled("catboost.no_such_module", "work"), r"install it \(pip install 'modeltrace\[catboost\]'\), or"),
        (pickled("__main__", "no_such_function"), "`__main__`.*Move it into a module .*--code"),
        (pickled("json", "no_such_function"), "installed module does not have.*--code"),
    ],
)
def test_missing_code_is_named(raw: bytes, message: str) -> None:
    """A pickle contains no code, so its code has to be importable when it is loaded."""
    with pytest.raises(BundleError, match=message):
        load_artifact(raw, "joblib", source="m.joblib", trust_pickle=True)


def test_a_model_that_cannot_be_pickled_is_refused(tmp_path: Path) -> None:
    """A lambda has no importable name."""
    estimator = make_pipeline(FunctionTransformer(lambda data: data), LogisticRegression())
    data = pd.DataFrame({"a": np.arange(ROWS) * 1.0})

    with pytest.raises(PackError, match=r"cannot pickle this .*top level of a module"):
        pack(estimator.fit(data, LABELS), data, name="x", out=tmp_path / "b", artifact_format="joblib")


def files(folder: Path, data: pd.DataFrame, estimator: Any) -> dict[str, Any]:
    """Return arguments of `pack_files` for a model and its data in files."""
    folder.mkdir(exist_ok=True)
    joblib.dump(estimator, folder / "m.joblib")
    data.to_csv(folder / "d.csv", index=False)
    return {
        "model_file": folder / "m.joblib",
        "data": folder / "d.csv",
        "pack": partial(pack, name="x", out=folder / "b"),
        "targets": ("t",),
        "traffic": None,
        "trust_pickle": True,
        "trusted_types": (),
    }


def test_dates_in_a_file_become_categories_only_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that accepts dates as text is packed with a note; another model is refused with the remedy."""
    days = [f"2024-{1 + row % 12:02d}-{1 + row % 28:02d}" for row in range(ROWS)]
    data = pd.DataFrame({"when": days, "z": np.arange(ROWS) * 1.0, "t": LABELS})
    accepted = DummyClassifier().fit(np.zeros((ROWS, 2)), LABELS)

    pack_files(**files(tmp_path / "accepted", data, accepted))
    assert "Note: column when contains dates as text" in capsys.readouterr().out

    refused = LogisticRegression().fit(data[["z"]].assign(when=1.0)[["when", "z"]], LABELS)
    with pytest.raises(PackError, match=r"Column when contains dates as text: .*convert them to the dtype datetime64"):
        pack_files(**files(tmp_path / "refused", data, refused))


def test_the_targets_of_a_file_name_the_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are no features, and an unknown one is refused."""
    data = pd.DataFrame({"z": np.arange(ROWS) * 1.0, "t": np.arange(ROWS) * 2.0, "u": np.arange(ROWS) * 3.0})
    arguments = files(tmp_path / "x", data, LinearRegression().fit(data[["z"]], data[["t", "u"]]))

    pack_files(**{**arguments, "targets": ("t", "u")})
    model = load_bundle(tmp_path / "x" / "b", trust_pickle=True)
    assert ([output.name for output in model.outputs], model.schema.names) == (["t", "u"], ("z",))
    assert "multi_output: t, u" in capsys.readouterr().out
    with pytest.raises(PackError, match=r"--target v: .* has no such column. Its columns are z, t, u"):
        pack_files(**{**arguments, "targets": ("t", "v")})


@pytest.mark.parametrize(
    ("texts", "dates"),
    [
        (["2024-01-31", "2024-02-01T10:00:00Z"], True),
        (["31.1.2024", "1/31/24", "31 Jan 2024", "Jan 31, 2024", None], True),
        (["1.10.3", "2.0.1"], False),
        (["2024-13-45", "2024-01-01"], False),
        (["2024", "2025"], False),
        (["Bonn", "2024-01-31"], False),
    ],
)
def test_columns_of_dates_are_detected(texts: list[str | None], dates: bool) -> None:
    """All texts of the column must be dates; versions and years are not."""
    assert date_columns(pd.DataFrame({"c": texts})) == (["c"] if dates else [])


def test_an_exception_of_the_estimator_is_one_line(tmp_path: Path) -> None:
    """Unexpected exceptions give no traceback either."""
    data = pd.DataFrame({"z": np.arange(ROWS) * 1.0, "t": LABELS})
    arguments = files(tmp_path / "x", data, DummyClassifier().fit(np.zeros((ROWS, 1)), LABELS))

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("first line\nsecond line")

    with pytest.raises(PackError, match=r"cannot pack .*: ZeroDivisionError: first line$"):
        pack_files(**{**arguments, "pack": broken})


def test_libraries_of_the_estimator_are_recorded(tmp_path: Path) -> None:
    """model.json contains the version of each library that a part of the model comes from."""
    manifest = read_manifest(packed(np.arange(ROWS) * 1.0, tmp_path))[0]

    assert "scikit-learn" in manifest.estimator_libraries
    assert all(manifest.libraries[name] == version(name) for name in manifest.estimator_libraries)


def test_libraries_are_found_by_types_bases_and_functions() -> None:
    """A user-defined class depends on the libraries of its base classes; code outside libraries has no version."""
    libraries = find_libraries(make_pipeline(FunctionTransformer(zscore), WithoutWidth()))

    assert {"scikit-learn", "scipy"} <= set(libraries)
    assert find_libraries(pickle.dumps) == ()
    assert find_libraries(builtins.print) == ()


@pytest.mark.parametrize(
    ("recorded", "used", "message"),
    [
        ({"scikit-learn": "0.1"}, (), r"made with scikit-learn 0\.1, but"),
        ({"joblib": "0.1.2"}, ("joblib",), r"made with joblib 0\.1\.2, but"),
        (
            {"xgboost-of-nowhere": "2.1.0"},
            ("xgboost-of-nowhere",),
            r"not installed.*'xgboost-of-nowhere==2\.1\.0'",
        ),
        ({"numpy": "1.0.0"}, ("numpy",), r"made with numpy 1\.0\.0"),
    ],
)
def test_a_bundle_of_other_libraries_is_refused(recorded: dict[str, str], used: tuple[str, ...], message: str) -> None:
    """This applies to another minor version, another major version of NumPy or pandas, and a missing library."""
    here = {"scikit-learn": version("scikit-learn")}

    with pytest.raises(IncompatibleBundleError, match=message):
        check_libraries("the bundle", {**here, **recorded}, used)


def test_another_minor_version_of_numpy_is_accepted() -> None:
    """Any version of a library that the model does not contain is accepted, too."""
    major = version("numpy").split(".")[0]
    recorded = {"scikit-learn": version("scikit-learn"), "numpy": f"{major}.999.0", "pandas": "0.1", "skl2onnx": "0.1"}

    check_libraries("the bundle", recorded, ("scikit-learn", "numpy"))


def test_identifiers_are_named() -> None:
    """Nearly unique texts and consecutive integers are identifiers; measured values and few rows are not."""
    rng = np.random.default_rng(0)
    columns = {
        "customer": [f"c{index:05d}" for index in range(300)],
        "row": np.arange(1000, 1300),
        "amount": rng.integers(0, 10**9, 300),
        "name": rng.choice(["a", "b", "c"], 300),
        "height": rng.normal(size=300),
    }

    assert identifier_columns(pd.DataFrame(columns)) == ["customer", "row"]
    assert identifier_columns(pd.DataFrame(columns).head(40)) == []
