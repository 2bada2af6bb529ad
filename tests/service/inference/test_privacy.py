"""What is told of a value under each rule, and what a bundle says of private features."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.columns import describe_column
from modeltrace.bundles.pack import pack
from modeltrace.bundles.schema_redaction import redact_schema
from modeltrace.errors import InferenceError, MalformedRequestError, PackError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.privacy import Redactor, redact_exception
from modeltrace.inference.schema import Feature, Schema
from modeltrace.inference.validate import RowValidator, validate_row
from modeltrace.keys import derive_privacy_key
from modeltrace.monitoring.bins import FeatureBins
from tests.helpers.strategies import json_values
from tests.helpers.tables import customers_without_gaps, forest_pipeline, schema_of

KEY = derive_privacy_key(b"a key that only the tests use")
DATA = customers_without_gaps()
PLAIN = schema_of(DATA)
BUCKETS, DROPS = (
    redact_schema(PLAIN, DATA, rules)
    for rules in (dict.fromkeys(DATA.columns, "bucket"), {"age": "drop", "city": "drop"})
)
NUMBERS = st.none() | st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)
TEXTS = st.none() | st.sampled_from(["Bonn", "other", "missing", "Atlantis"]) | st.text(max_size=5)


def concealed_schema(data: pd.DataFrame, **rules: Any) -> Schema:
    """The schema of training data under rules."""
    return redact_schema(schema_of(data), data, rules)


def told(schema: Schema, *row: Any, key: bytes = KEY) -> tuple[Any, ...]:
    """What is told of a row."""
    return Redactor(schema, key).redact_inputs(row)


def test_equal_values_are_told_alike_and_others_are_not() -> None:
    """However a number was written; two features do not look alike, nor two services with keys of their own."""
    schema = concealed_schema(customers_without_gaps(), age="hash", income="hash", city="hash", vip="hash")

    first = told(schema, 1, 1, "1", "yes")
    assert first == told(schema, 1.0, 1.0, "1", "yes")
    assert len(set(first)) == 4
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in first)
    assert not set(first) & set(told(schema, 1, 1, "1", "yes", key=derive_privacy_key(b"another key than that")))
    assert not set(first) & set(told(schema, 2, 2, "2", "no"))
    assert told(schema, None, None, None, None) == (None, None, None, None)


@given(NUMBERS, NUMBERS, TEXTS, st.none() | st.booleans())
def test_a_bucket_is_the_bin_that_is_counted(age: Any, income: Any, city: Any, vip: Any) -> None:
    """What is told of a value is where metrics count it; a missing one is told as missing."""
    bins, row = FeatureBins(BUCKETS), (age, income, city, vip)

    counted = [bins.bin_names[place][1] for place in bins.digitize([row], bins.numeric_values([row]))[0]]

    assert list(told(BUCKETS, *row)) == [
        None if value is None else one for value, one in zip(row, counted, strict=True)
    ]


@given(NUMBERS, NUMBERS, TEXTS, st.booleans())
def test_what_is_dropped_is_not_mentioned(age: Any, income: Any, city: Any, vip: Any) -> None:
    """Neither value nor name; what is plain is told as it is."""
    assert DROPS.recorded_names == ("income", "vip")
    assert told(DROPS, age, income, city, vip) == (income, vip)


@given(st.dictionaries(st.sampled_from(["age", "income", "city", "vip"]), json_values | st.just("geheim 4711")))
def test_a_refusal_never_has_a_value(row: dict[str, Any]) -> None:
    """Whatever is wrong with whatever value, the words about it are the same for any other."""
    said = [violation.message for violation in validate_row(row, PLAIN)]

    assert not [message for message in said if "geheim" in message or "4711" in message]
    changed = {name: f"{value} 4711" if isinstance(value, str) else value for name, value in row.items()}
    assert [violation.message for violation in validate_row(changed, PLAIN)] == said


@pytest.mark.parametrize("rule", ["hash", "bucket", "drop"])
def test_a_private_number_is_described_without_a_value(rule: Any) -> None:
    """No extremes, no mean; bounds and example are rounded, and shares are those of the data between these bounds."""
    values = np.random.default_rng(1).normal(50_000, 12_345.678, 999)
    data = pd.DataFrame({"x": values})

    (feature,) = concealed_schema(data, x=rule).features

    assert (feature.training_range, feature.reference.mean) == (None, None)
    assert not set(feature.reference.edges or ()) & set(values.tolist())
    assert feature.example not in values
    bins = FeatureBins(Schema(features=(feature,)))
    counts = np.bincount(bins.digitize([(v,) for v in values], values[:, None])[:, 0], minlength=len(bins.bin_names))
    np.testing.assert_allclose(counts / 999, list(feature.reference.shares.values()))
    assert len(feature.reference.shares) == 12


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1) | st.lists(st.floats(-1e38, 1e38), min_size=1))
def test_any_number_can_be_private(values: list[float]) -> None:
    """Constant, tiny, huge: there is a description whose example is in order."""
    data = pd.DataFrame({"x": values})
    schema = concealed_schema(data, x="hash")

    assert RowValidator(schema).validate({"x": schema.features[0].example}) == (schema.features[0].example,)
    assert sum(schema.features[0].reference.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("rule", ["hash", "drop"])
def test_a_private_category_is_described_without_a_name(rule: Any) -> None:
    """Its bins are what is missing and what is not; so are those of a boolean."""
    data = customers_without_gaps().assign(city="Bonn")
    data.loc[:29, "city"] = None
    _, _, city, vip = concealed_schema(data, city=rule, vip=rule).features

    assert city.categories is None
    assert city.reference.shares == {"missing": 0.25, "other": 0.75}
    assert vip.reference.shares == {"missing": 0.0, "other": 1.0}
    assert city.example not in set(data.city)


def test_a_bucket_of_a_category_names_the_frequent_ones() -> None:
    """A rare one may be that of one person."""
    data = pd.DataFrame({"city": [f"city {n}" for n in range(20)] * 5 + ["a hamlet"]})
    (feature,) = concealed_schema(data, city="bucket").features

    assert "a hamlet" not in (feature.categories or ())
    assert told(Schema(features=(feature,)), "a hamlet") == ("other",)


@pytest.mark.parametrize(
    "change",
    [
        {"privacy": "hash"},
        {"privacy": "drop", "categories": None, "training_range": (0, 1)},
        {"privacy": "hash", "categories": None},
        {"privacy": "mask"},
    ],
)
def test_a_rule_that_the_rest_contradicts_is_refused(change: dict[str, Any]) -> None:
    """A bundle that was changed by hand does not say in one place what it hides in another."""
    city = describe_column(pd.Series(["Bonn", "Trier"] * 3, name="city"))

    with pytest.raises(ValueError, match="privacy"):
        Feature(**{**city.model_dump(), **change})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"privacy": {"size": "hash"}}, "--privacy size: .*no feature of that name"),
        ({"privacy": {"city": "hash"}, "strict_categories": True}, "--privacy city=hash: .* categories .* enforced"),
        ({"privacy": {"city": "drop"}, "allowed_violations": {"city": ("category",)}}, "city=bucket"),
        ({"privacy": {"age": "bucket"}, "traffic": customers_without_gaps()}, "--traffic stores rows unchanged"),
    ],
)
def test_packing_refuses_what_would_tell_values(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    """The message says what to leave out."""
    data = customers_without_gaps()

    with pytest.raises(PackError, match=message):
        pack(forest_pipeline().fit(data, data.vip), data, name="x", out=tmp_path / "x", **more)
    assert list(tmp_path.iterdir()) == []


def test_a_column_of_categories_cannot_go_without_their_names(tmp_path: Path) -> None:
    """Such a model is given the names with every row."""
    data = customers_without_gaps().astype({"city": "category"})

    with pytest.raises(PackError, match="its column has the dtype category"):
        pack(forest_pipeline().fit(data, data.vip), data, name="x", out=tmp_path / "x", privacy={"city": "hash"})


def test_a_model_that_knows_its_texts_only_needs_an_example_of_them(tmp_path: Path) -> None:
    """A running service would refuse its bundle: no text of training may stand in it, and no other is answered."""
    texts = DATA[["city"]]
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(texts, DATA["vip"])
    with pytest.raises(PackError, match=r"--privacy city=hash: .*handle_unknown='ignore'.*--privacy city=bucket"):
        pack(model, texts, name="x", out=tmp_path / "hash", privacy={"city": "hash"})
    pack(model, texts, name="x", out=tmp_path / "bucket", privacy={"city": "bucket"})


def test_a_private_bundle_answers_as_a_plain_one(tmp_path: Path) -> None:
    """Rules are for what is told: the model is given the same."""
    data = customers_without_gaps()
    estimator = forest_pipeline().fit(data, data.age > 50)
    rules: Any = {"age": "bucket", "income": "hash", "city": "drop", "vip": "hash"}
    bundles = [
        pack(estimator, data, name="x", out=tmp_path / name, privacy=rule) for name, rule in (("a", {}), ("b", rules))
    ]

    plain, private = map(load_bundle, bundles)
    assert not plain.schema.has_private_features
    assert {f.name: f.privacy for f in private.schema.features} == rules
    row = {"age": 61, "income": 3.5, "city": "Bonn", "vip": True}
    matrices = [RowValidator(model.schema).validate(row) for model in (plain, private)]
    assert matrices[0] == matrices[1]
    answers = [model.predict(to_matrix([matrices[0]], model.schema, as_frame=True)) for model in (plain, private)]
    assert answers[0] == answers[1]


def raised(error: Exception, cause: BaseException | None = None) -> Exception:
    """The exception, once it was raised."""
    try:
        raise error from cause
    except Exception as caught:  # noqa: BLE001  whatever it is
        return caught


def test_an_exception_keeps_its_name_and_its_stack() -> None:
    """And so does what caused it; neither keeps a word."""
    try:
        OneHotEncoder().fit([["a"]]).transform([["geheim"]])
    except ValueError as error:
        cause = error
    told = redact_exception(raised(KeyError("geheim"), cause))

    assert (type(told).__name__, type(told.__cause__).__name__) == ("KeyError", "ValueError")
    assert "withheld" in str(told)
    assert "geheim" not in f"{told!r} {told.__cause__!r} {told.__context__!r}"
    assert told.__traceback__ is not None
    assert redact_exception(told) is told


def test_our_own_words_stay() -> None:
    """They never have a value; the same kinds from an estimator's code are not ours."""
    refusal = MalformedRequestError("the body is not JSON")
    assert redact_exception(refusal) is refusal
    assert (
        str(redact_exception(InferenceError("the model failed with ValueError"))) == "the model failed with ValueError"
    )
    theirs = redact_exception(raised(InferenceError("geheim")))
    assert isinstance(theirs, InferenceError)
    assert "geheim" not in str(theirs)
