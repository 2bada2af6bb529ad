"""Redaction of values by each privacy rule, and the description of private features in a bundle."""

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
from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.pack import pack
from modeltrace.bundles.schema_redaction import redact_schema
from modeltrace.errors import InferenceError, MalformedRequestError, PackError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.privacy import Redactor, redact_exception
from modeltrace.inference.schema import Feature, Schema
from modeltrace.inference.validate import RowValidator, validate_row
from modeltrace.keys import derive_privacy_key
from modeltrace.monitoring.binning import FeatureBins
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
    """Return the schema of training data with privacy rules."""
    return redact_schema(schema_of(data), data, rules)


def redact(schema: Schema, *row: Any, key: bytes = KEY) -> tuple[Any, ...]:
    """Return the recorded inputs of a row."""
    return Redactor(schema, key).redact_inputs(row)


def test_equal_values_have_equal_hashes() -> None:
    """Hashes do not depend on how a number is written, but on the feature and on the service's key."""
    schema = concealed_schema(customers_without_gaps(), age="hash", income="hash", city="hash", vip="hash")

    first = redact(schema, 1, 1, "1", "yes")
    assert first == redact(schema, 1.0, 1.0, "1", "yes")
    assert len(set(first)) == 4
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in first)
    assert not set(first) & set(redact(schema, 1, 1, "1", "yes", key=derive_privacy_key(b"another key than that")))
    assert not set(first) & set(redact(schema, 2, 2, "2", "no"))
    assert redact(schema, None, None, None, None) == (None, None, None, None)


@given(NUMBERS, NUMBERS, TEXTS, st.none() | st.booleans())
def test_a_bucket_is_the_bin_of_the_metrics(age: Any, income: Any, city: Any, vip: Any) -> None:
    """A value is recorded as the bin in which metrics count it; a missing value is recorded as missing."""
    bins, row = FeatureBins(BUCKETS), (age, income, city, vip)

    counted = [bins.bin_names[number][1] for number in bins.digitize([row], bins.numeric_values([row]))[0]]

    assert list(redact(BUCKETS, *row)) == [
        None if value is None else name for value, name in zip(row, counted, strict=True)
    ]


@given(NUMBERS, NUMBERS, TEXTS, st.booleans())
def test_dropped_features_are_left_out(age: Any, income: Any, city: Any, vip: Any) -> None:
    """Neither name nor value is recorded; values of plain features are recorded as they are."""
    assert DROPS.recorded_names == ("income", "vip")
    assert redact(DROPS, age, income, city, vip) == (income, vip)


@given(st.dictionaries(st.sampled_from(["age", "income", "city", "vip"]), json_values | st.just("geheim 4711")))
def test_a_violation_message_does_not_depend_on_the_value(row: dict[str, Any]) -> None:
    """The messages are the same for any other value of the same type."""
    messages = [violation.message for violation in validate_row(row, PLAIN)]

    assert not [message for message in messages if "geheim" in message or "4711" in message]
    changed = {name: f"{value} 4711" if isinstance(value, str) else value for name, value in row.items()}
    assert [violation.message for violation in validate_row(changed, PLAIN)] == messages


@pytest.mark.parametrize("rule", ["hash", "bucket", "drop"])
def test_a_private_number_is_described_without_its_values(rule: Any) -> None:
    """There are no extremes and no mean; edges and example are rounded, and shares match these edges."""
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
    """Constant, tiny and huge numbers have a description whose example is valid."""
    data = pd.DataFrame({"x": values})
    schema = concealed_schema(data, x="hash")

    assert RowValidator(schema).validate({"x": schema.features[0].example}) == (schema.features[0].example,)
    assert sum(schema.features[0].reference.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("rule", ["hash", "drop"])
def test_a_private_category_is_described_without_its_names(rule: Any) -> None:
    """The bins are missing and not missing, for a category and for a boolean."""
    data = customers_without_gaps().assign(city="Bonn")
    data.loc[:29, "city"] = None
    _, _, city, vip = concealed_schema(data, city=rule, vip=rule).features

    assert city.categories is None
    assert city.reference.shares == {"missing": 0.25, "other": 0.75}
    assert vip.reference.shares == {"missing": 0.0, "other": 1.0}
    assert city.example not in set(data.city)


def test_a_bucket_contains_frequent_categories_only() -> None:
    """A rare category may belong to one person."""
    data = pd.DataFrame({"city": [f"city {n}" for n in range(20)] * 5 + ["a hamlet"]})
    (feature,) = concealed_schema(data, city="bucket").features

    assert "a hamlet" not in (feature.categories or ())
    assert redact(Schema(features=(feature,)), "a hamlet") == ("other",)


@pytest.mark.parametrize(
    "change",
    [
        {"privacy": "hash"},
        {"privacy": "drop", "categories": None, "training_range": (0, 1)},
        {"privacy": "hash", "categories": None},
        {"privacy": "mask"},
    ],
)
def test_a_schema_that_discloses_private_values_is_rejected(change: dict[str, Any]) -> None:
    """A bundle that was edited by hand does not contain values that its rule forbids."""
    city = describe_column(pd.Series(["Bonn", "Trier"] * 3, name="city"))

    with pytest.raises(ValueError, match="privacy"):
        Feature(**{**city.model_dump(), **change})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"privacy": {"size": "hash"}}, "--privacy size: the model has no feature of that name"),
        ({"privacy": {"city": "hash"}, "strict_categories": True}, "--privacy city=hash: .* categories .* enforced"),
        ({"privacy": {"city": "drop"}, "allowed_violations": {"city": ("category",)}}, "city=bucket"),
        ({"privacy": {"age": "bucket"}, "traffic": customers_without_gaps()}, "--traffic stores rows unchanged"),
    ],
)
def test_packing_rejects_options_that_disclose_values(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    """The message contains the option to leave out."""
    data = customers_without_gaps()

    with pytest.raises(PackError, match=message):
        pack(forest_pipeline().fit(data, data.vip), data, name="x", out=tmp_path / "x", **more)
    assert list(tmp_path.iterdir()) == []


def test_a_pandas_category_column_cannot_be_hashed(tmp_path: Path) -> None:
    """The model needs the names of the categories with every row."""
    data = customers_without_gaps().astype({"city": "category"})

    with pytest.raises(PackError, match="its column has the dtype category"):
        pack(forest_pipeline().fit(data, data.vip), data, name="x", out=tmp_path / "x", privacy={"city": "hash"})


def test_an_encoder_of_known_texts_needs_an_example(tmp_path: Path) -> None:
    """With `hash`, the schema has no text of the training data, and the encoder accepts no other text."""
    texts = DATA[["city"]]
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(texts, DATA["vip"])
    with pytest.raises(PackError, match=r"--privacy city=hash: .*handle_unknown='ignore'.*--privacy city=bucket"):
        pack(model, texts, name="x", out=tmp_path / "hash", privacy={"city": "hash"})
    pack(model, texts, name="x", out=tmp_path / "bucket", privacy={"city": "bucket"})


def test_privacy_rules_change_no_output(tmp_path: Path) -> None:
    """Rules apply to records; the model gets the same values."""
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
    validated = [RowValidator(model.schema).validate(row) for model in (plain, private)]
    assert validated[0] == validated[1]
    outputs = [model.predict(to_matrix([validated[0]], model.schema, as_frame=True)) for model in (plain, private)]
    assert outputs[0] == outputs[1]


def raised(error: Exception, cause: BaseException | None = None) -> Exception:
    """Raise an exception and return it."""
    try:
        raise error from cause
    except Exception as caught:  # noqa: BLE001  any exception
        return caught


def test_a_redacted_exception_keeps_its_type_name_and_stack() -> None:
    """The exception and its cause keep type name and stack, but not their messages."""
    try:
        OneHotEncoder().fit([["a"]]).transform([["geheim"]])
    except ValueError as error:
        cause = error
    redacted = redact_exception(raised(KeyError("geheim"), cause))

    assert (type(redacted).__name__, type(redacted.__cause__).__name__) == ("KeyError", "ValueError")
    assert "withheld" in str(redacted)
    assert "geheim" not in f"{redacted!r} {redacted.__cause__!r} {redacted.__context__!r}"
    assert redacted.__traceback__ is not None
    assert redact_exception(redacted) is redacted


def test_messages_of_modeltrace_are_kept() -> None:
    """They never contain values; the same types raised by an estimator are redacted."""
    error = MalformedRequestError("the body is not JSON")
    assert redact_exception(error) is error
    assert (
        str(redact_exception(InferenceError("the model failed with ValueError"))) == "the model failed with ValueError"
    )
    of_estimator = redact_exception(raised(InferenceError("geheim")))
    assert isinstance(of_estimator, InferenceError)
    assert "geheim" not in str(of_estimator)
