"""Estimators of imbalanced-learn and category_encoders are packed without pickle and predict the same."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import category_encoders
import numpy as np
import pandas as pd
import pytest
import skops.io
from imblearn.base import FunctionSampler
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from sklearn.linear_model import LogisticRegression

from modeltrace.bundles.artifact import dump_artifact, load_artifact
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.bundles.proxies.pandas_data import PandasArray, PandasData, is_pandas, pandas_data
from modeltrace.bundles.trusted_extensions import EXTENSION_TYPES
from modeltrace.errors import BundleError, PackError
from tests.helpers.extension_models import TEXTS, cases, training_data, unbalanced
from tests.helpers.native_models import FittedCase

CASES = cases()
Prepared = Callable[[str], tuple[FittedCase, bytes]]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """Return a fitted case and its artifact by name; each is created once."""

    @cache
    def prepare(name: str) -> tuple[FittedCase, bytes]:
        case = CASES[name]()
        return case, dump_artifact(case.estimator, "skops")

    return prepare


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_an_estimator_predicts_the_same_after_loading(name: str, prepared: Prepared) -> None:
    """This includes rows with a text that the training data did not have, and with a missing one."""
    (estimator, data, _), raw = prepared(name)
    rows = data.copy()
    if "category_encoders" in name:
        rows.loc[0, "city"], rows.loc[1, "plan"] = "Trier", None

    loaded = load_artifact(raw, "skops", source=name)

    np.testing.assert_array_equal(loaded.predict(rows), estimator.predict(rows))
    np.testing.assert_allclose(loaded.predict_proba(rows), estimator.predict_proba(rows), rtol=1e-9)


@pytest.mark.slow
def test_no_reviewed_name_is_stale(prepared: Prepared) -> None:
    """Each reviewed name is needed by one of the cases."""
    needed = {name for case in CASES for name in skops.io.get_untrusted_types(data=prepared(case)[1])}

    assert needed >= EXTENSION_TYPES


def test_a_sampler_cannot_be_converted_to_onnx(tmp_path: Path) -> None:
    """The message names the type that the converter does not know, as a sentence."""
    data = training_data().drop(columns=TEXTS)
    labels = unbalanced(training_data())
    estimator = make_pipeline(SMOTE(random_state=0), LogisticRegression()).fit(data, labels)
    with pytest.raises(PackError, match=r"skl2onnx cannot convert imblearn\.\S+\.SMOTE; pack it without --onnx"):
        pack(estimator, data, labels, name="m", out=tmp_path / "m", onnx=True, cross_validation_seconds=0)


@pytest.mark.parametrize("kind", ["encoder", "sampler", "both"])
def test_a_pipeline_is_packed_and_loaded_without_trust(kind: str, tmp_path: Path) -> None:
    """model.json has the versions of the libraries, and the packed model predicts 200 rows as the estimator does."""
    data = training_data() if kind != "sampler" else training_data().drop(columns=TEXTS)
    labels = unbalanced(training_data())
    encoder, sampler = category_encoders.TargetEncoder(cols=TEXTS), SMOTE(random_state=0)
    steps = {"encoder": [encoder], "sampler": [sampler], "both": [encoder, sampler]}[kind]
    estimator = make_pipeline(*steps, LogisticRegression()).fit(data, labels)
    bundle = pack(estimator, data, labels, name="m", out=tmp_path / "m", cross_validation_seconds=0)

    outputs = load_bundle(bundle).predict(data[:200])

    manifest = read_manifest(bundle)[0]
    libraries = {"encoder": {"category_encoders"}, "sampler": {"imbalanced-learn"}}.get(
        kind, {"category_encoders", "imbalanced-learn"}
    )
    assert libraries <= set(manifest.estimator_libraries) <= set(manifest.libraries)
    assert [output.label for output in outputs] == estimator.predict(data[:200]).tolist()


def test_types_that_call_functions_by_name_are_refused() -> None:
    """`FunctionSampler` calls any function, `HashingEncoder` a function of hashlib."""
    data = training_data()
    sampler = make_pipeline(FunctionSampler(), LogisticRegression()).fit(data[["income"]], unbalanced(data))
    encoder = make_pipeline(category_encoders.HashingEncoder(cols=TEXTS, max_process=1), LogisticRegression())

    with pytest.raises(PackError, match=r"not trusted: imblearn\.base\.FunctionSampler\."):
        dump_artifact(sampler, "skops")
    with pytest.raises(PackError, match=r"not trusted: category_encoders\.hashing\.HashingEncoder\."):
        dump_artifact(encoder.fit(data, unbalanced(data)), "skops")


TABLES = {
    "series": pd.Series([1.5, None, 3.0], name="x"),
    "series of texts": pd.Series(["a", None, "c"], index=["x", "y", "z"], name=("a", 1)),
    "series of objects": pd.Series(["a", 1, None], index=[3, 1, 2], dtype=object),
    "index with mixed keys": pd.Series([1, 2, 3], index=pd.Index(["a", 4, np.nan], dtype=object)),
    "booleans": pd.Series([True, False]),
    "float32": pd.Series(np.array([1, 2], dtype=np.float32)),
    "nullable": pd.Series([1, None], dtype="Int64"),
    "times": pd.Series(pd.to_datetime(["2026-01-01", "2026-01-02"])),
    "frame": pd.DataFrame({"a": [1, 2], "b": ["x", None], 3: [1.5, 2.5]}, index=pd.Index(["r", "s"], name="row")),
    "equal column names": pd.DataFrame([[1, "x"], [2, "y"]], columns=["a", "a"]),
    "empty frame": pd.DataFrame(index=pd.Index([1, 2])),
    "index": pd.Index(["a", "b"], name="i"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_the_same_after_loading(name: str) -> None:
    """A proxy has values, dtypes, index and names of a series, frame or index of pandas."""
    table = TABLES[name]
    assert is_pandas(table)

    loaded = skops.io.loads(
        skops.io.dumps(pandas_data(table)),
        trusted=[f"{PandasData.__module__}.{kind}" for kind in ("PandasData", "PandasArray")],
    ).restore()

    match table:
        case pd.Series():
            pd.testing.assert_series_equal(loaded, table, check_index_type=False)
        case pd.DataFrame():
            pd.testing.assert_frame_equal(loaded, table, check_index_type=False, check_column_type=False)
        case _:
            pd.testing.assert_index_equal(loaded, table)


@pytest.mark.parametrize("values", [[print], [np.array([print], dtype=object)], print])
def test_a_forged_table_is_refused(values: object) -> None:
    """A table contains only plain values."""
    forged = PandasData("index", [PandasArray(values, "object")], [], [None])

    with pytest.raises(BundleError, match="invalid table"):
        forged.restore()


def test_levels_are_not_replaced() -> None:
    """A proxy has no levels of categories and no levels of an index."""
    assert not is_pandas(pd.Series(["a", "b"], dtype="category"))
    assert not is_pandas(pd.DataFrame({"a": pd.Categorical(["x"])}))
    assert not is_pandas(pd.Series([1], index=pd.MultiIndex.from_tuples([("a", 1)])))
