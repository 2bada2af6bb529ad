"""Allowed violations: validation, counting, and what packing verifies."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.cli.pack_options import merge_allowed_violations
from modeltrace.errors import InvalidFeaturesError, PackError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.schema import REASONS, Feature, OnViolation, Schema, ViolationAction
from modeltrace.inference.validate import RowValidator, validate_row
from tests.helpers.schemas import SCHEMA, VALID_ROW
from tests.helpers.strategies import json_values, valid_rows
from tests.helpers.tables import customers, customers_without_gaps, forest_pipeline, predict_row

ACTIONS = st.sampled_from(get_args(ViolationAction))


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Generate the schema with any allowed violations, in columns that can hold missing values."""
    features = []
    for feature in SCHEMA.features:
        on_violation = OnViolation(**{reason: draw(ACTIONS) for reason in REASONS})
        dtype = {"int64": "float64", "bool": "float64"}.get(feature.dtype, feature.dtype)
        features.append(Feature(**{**feature.model_dump(), "on_violation": on_violation, "dtype": dtype}))
    return Schema(features=tuple(features), on_unknown=draw(ACTIONS))


changed_rows = st.builds(
    lambda row, changes, removed: {k: v for k, v in {**row, **changes}.items() if k not in removed},
    valid_rows,
    st.dictionaries(st.sampled_from([*SCHEMA.names, "surprise", "an other"]), json_values),
    st.sets(st.sampled_from(SCHEMA.names), max_size=2),
)


@given(schemas(), changed_rows, st.booleans())
def test_a_row_with_allowed_violations_becomes_a_matrix(schema: Schema, row: dict[str, object], frame: bool) -> None:
    """A row is rejected for violations that are not allowed, and only for these."""
    violations = validate_row(row, schema)
    rejected = [violation for violation in violations if not violation.allowed]
    if rejected:
        with pytest.raises(InvalidFeaturesError) as raised:
            RowValidator(schema).validate(row)
        assert list(raised.value.violations) == rejected
    else:
        assert to_matrix([RowValidator(schema).validate(row)], schema, as_frame=frame).shape == (
            1,
            len(schema.features),
        )


@given(schemas(), changed_rows)
def test_each_violation_is_counted_once_per_row(schema: Schema, row: dict[str, object]) -> None:
    """Violations are counted by feature, reason and action; unknown names are counted together."""
    counts: dict[tuple[str, str, bool], int] = {}
    for _ in range(2):
        try:
            RowValidator(schema).validate(row, counts)
        except InvalidFeaturesError:
            continue

    violations = validate_row(row, schema)
    assert counts == {("" if v.reason == "unknown" else v.feature, v.reason, v.allowed): 2 for v in violations}


@given(schemas(), changed_rows)
def test_the_schema_determines_allowed_violations(schema: Schema, row: dict[str, object]) -> None:
    """The action is set by feature and reason; a number that no model can represent is never allowed."""
    actions = {feature.name: feature.on_violation for feature in schema.features}
    for violation in validate_row(row, schema):
        action = (
            schema.on_unknown
            if violation.reason == "unknown"
            else getattr(actions[violation.feature], violation.reason)
        )
        too_large = "too large" in violation.message
        assert violation.allowed == (action == "count" and not too_large)


def test_a_value_of_a_wrong_type_becomes_missing() -> None:
    """All other values of the row reach the model as they were sent."""
    weight = SCHEMA.features[1].model_copy(update={"on_violation": OnViolation(type="count")})
    schema = Schema(features=(weight, SCHEMA.features[2]), on_unknown="count")

    assert RowValidator(schema).validate({"weight": "heavy", "rooms": 3, "surprise": [1]}) == (None, 3)


def test_a_row_of_another_model_has_one_message() -> None:
    """Missing and unknown features are listed together, and each is a violation of its own."""
    others = {f"x{index}": 1 for index in range(5)}
    with pytest.raises(InvalidFeaturesError) as raised:
        RowValidator(SCHEMA).validate({**others, "garden": 1})

    assert str(raised.value) == (
        "the row does not have the features of this model: missing size, rooms, city; unknown x0, x1, x2, …; "
        "garden: expected true or false, got a number"
    )
    assert len(raised.value.violations) == 4 + 5


def test_an_integer_column_cannot_allow_missing_values() -> None:
    """A bundle that was edited by hand is rejected when it is loaded."""
    with pytest.raises(ValueError, match="cannot have a missing value"):
        Feature(**{**SCHEMA.features[2].model_dump(), "on_violation": {"missing": "count"}})


def test_options_are_parsed() -> None:
    """A name may contain an equals sign; an option without a reason means all reasons."""
    assert merge_allowed_violations(["age=range", "age=missing,range", "a=b", "x=y=type", "city=type", "city"]) == {
        "age": ("range", "missing"),
        "a=b": (),
        "x=y": ("type",),
        "city": (),
    }


def test_violations_that_the_model_accepts_are_allowed(tmp_path: Path) -> None:
    """Each feature gets its reasons, and integers and booleans get a dtype that can hold missing values."""
    data = customers_without_gaps()
    estimator = forest_pipeline().fit(data, data.age > 50)

    bundle = pack(
        estimator,
        data,
        name="people",
        out=tmp_path / "people",
        valid_ranges={"age": (0, 120)},
        allowed_violations={"age": (), "city": (), "vip": ("missing",), "income": ("type",)},
        ignore_unknown=True,
    )

    manifest = read_manifest(bundle)[0]
    age, income, city, vip = (
        [reason for reason, action in feature.on_violation if action == "count"] for feature in manifest.features
    )
    assert (age, income, city, vip) == (
        ["missing", "type", "range"],
        ["type"],
        ["missing", "type", "category"],
        ["missing"],
    )
    assert [feature.dtype for feature in manifest.features] == ["float64", "float64", "str", "float64"]
    assert manifest.on_unknown == "count"
    model = load_bundle(bundle)
    assert predict_row(model, age="old", income=[], city="Atlantis", more=1).label in (True, False)
    assert predict_row(model, age=200, income=1.0, city=None, vip=False).label is True


@pytest.mark.parametrize(
    ("estimator", "allowed", "message"),
    [
        (LogisticRegression(), {"age": ("missing",)}, "age: the model does not accept a missing value .*NaN"),
        (LogisticRegression(), {"age": ("type",)}, "age: the model does not accept a value of a wrong type"),
        (LogisticRegression(), {"age": ()}, "Leave out missing"),
        (LogisticRegression(), {"size": ()}, "size: the training data has no feature of that name"),
        (LogisticRegression(), {"income": ("range",)}, r"income=range: it has no valid range, which --range sets"),
        (
            LogisticRegression(),
            {"income": ("category",)},
            "income=category: it has the type number, which has no categories",
        ),
    ],
)
def test_violations_that_the_model_does_not_accept_are_rejected(
    estimator: Any, allowed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """The message contains the feature and the reason, and nothing is written."""
    data = customers_without_gaps()[["age", "income"]]
    estimator.fit(data, data.age > 50)

    with pytest.raises(PackError, match=message):
        pack(estimator, data, name="x", out=tmp_path / "x", valid_ranges={"age": (0, 120)}, allowed_violations=allowed)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_of_known_categories_cannot_allow_others(tmp_path: Path) -> None:
    """Packing tries an unknown category."""
    data = customers_without_gaps()[["city"]]
    estimator = make_pipeline(OrdinalEncoder(), LogisticRegression()).fit(data, data.city == "Bonn")

    with pytest.raises(PackError, match=r"--allow-violations city: the model does not accept a category"):
        pack(estimator, data, name="x", out=tmp_path / "x", allowed_violations={"city": ("category",)})


def test_a_nullable_feature_cannot_allow_missing_values(tmp_path: Path) -> None:
    """A missing value does not violate its schema."""
    data = customers()[["income"]]
    estimator = HistGradientBoostingClassifier(max_iter=2).fit(data, np.arange(len(data)) % 2)

    with pytest.raises(PackError, match="training data has missing values"):
        pack(estimator, data, name="x", out=tmp_path / "x", allowed_violations={"income": ("missing",)})


def test_onnx_accepts_the_same_violations(tmp_path: Path) -> None:
    """The exported model is verified on rows with allowed violations, too."""
    data = customers_without_gaps()[["age", "income"]].astype(float)
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(data.to_numpy(), data.age > 50)

    bundle = pack(estimator, data, name="x", out=tmp_path / "x", allowed_violations={"age": ("missing",)}, onnx=True)

    models = load_bundle(bundle), load_bundle(bundle, engine="onnx")
    outputs = [predict_row(model, age=None, income=5.0) for model in models]
    assert outputs[0].label == outputs[1].label
    assert outputs[0].confidence == pytest.approx(outputs[1].confidence)


def test_a_valid_row_stays_valid() -> None:
    """Allowing violations does not change a valid row."""
    assert validate_row(VALID_ROW, SCHEMA) == []
