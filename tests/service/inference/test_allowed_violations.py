"""Violations that a bundle lets through: what is read, what is counted, and what packing refuses to promise."""

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
from modeltrace.cli.pack import merge_allowed_violations
from modeltrace.errors import InvalidFeaturesError, PackError
from modeltrace.inference.features import to_matrix
from modeltrace.inference.schema import REASONS, Feature, OnViolation, Schema, ViolationAction
from modeltrace.inference.validate import RowValidator, validate_row
from tests.helpers.schemas import SCHEMA, VALID_ROW
from tests.helpers.strategies import json_values, valid_rows
from tests.helpers.tables import customers, customers_without_gaps, forest_pipeline, predict_row

TREATMENTS = st.sampled_from(get_args(ViolationAction))


@st.composite
def policies(draw: st.DrawFn) -> Schema:
    """The schema with anything let through, in columns that have room for it."""
    features = []
    for feature in SCHEMA.features:
        said = OnViolation(**{reason: draw(TREATMENTS) for reason in REASONS})
        dtype = {"int64": "float64", "bool": "float64"}.get(feature.dtype, feature.dtype)
        features.append(Feature(**{**feature.model_dump(), "on_violation": said, "dtype": dtype}))
    return Schema(features=tuple(features), on_unknown=draw(TREATMENTS))


spoilt_rows = st.builds(
    lambda good, changes, gone: {k: v for k, v in {**good, **changes}.items() if k not in gone},
    valid_rows,
    st.dictionaries(st.sampled_from([*SCHEMA.names, "surprise", "an other"]), json_values),
    st.sets(st.sampled_from(SCHEMA.names), max_size=2),
)


@given(policies(), spoilt_rows, st.booleans())
def test_whatever_is_let_through_can_be_put_to_the_model(schema: Schema, row: dict[str, object], frame: bool) -> None:
    """A row is refused for what rejects, and only for that; any other becomes a row of the matrix."""
    violations = validate_row(row, schema)
    refusing = [violation for violation in violations if not violation.allowed]
    if refusing:
        with pytest.raises(InvalidFeaturesError) as refused:
            RowValidator(schema).validate(row)
        assert list(refused.value.violations) == refusing
    else:
        assert to_matrix([RowValidator(schema).validate(row)], schema, as_frame=frame).shape == (
            1,
            len(schema.features),
        )


@given(policies(), spoilt_rows)
def test_each_way_to_break_the_schema_is_counted_once_a_row(schema: Schema, row: dict[str, object]) -> None:
    """By feature, reason and what is done about it, whether the row is refused or not; unknown names are one way."""
    counts: dict[tuple[str, str, bool], int] = {}
    for _ in range(2):
        try:
            RowValidator(schema).validate(row, counts)
        except InvalidFeaturesError:
            continue

    found = validate_row(row, schema)
    assert counts == {("" if v.reason == "unknown" else v.feature, v.reason, v.allowed): 2 for v in found}


@given(policies(), spoilt_rows)
def test_what_is_let_through_is_what_the_schema_says(schema: Schema, row: dict[str, object]) -> None:
    """By feature and reason; but for a number that no model can hold."""
    said = {feature.name: feature.on_violation for feature in schema.features}
    for violation in validate_row(row, schema):
        treatment = (
            schema.on_unknown if violation.reason == "unknown" else getattr(said[violation.feature], violation.reason)
        )
        too_large = "too large" in violation.message
        assert violation.allowed == (treatment == "count" and not too_large)


def test_a_value_of_a_wrong_type_is_missing_to_the_model() -> None:
    """What the model cannot take does not reach it; everything else of the row does, as it was sent."""
    weight = SCHEMA.features[1].model_copy(update={"on_violation": OnViolation(type="count")})
    schema = Schema(features=(weight, SCHEMA.features[2]), on_unknown="count")

    assert RowValidator(schema).validate({"weight": "heavy", "rooms": 3, "surprise": [1]}) == (None, 3)


def test_a_row_of_another_model_is_one_thing_to_say() -> None:
    """Features that are missing and ones that are unknown are named together; each is still a violation by itself."""
    others = {f"x{index}": 1 for index in range(5)}
    with pytest.raises(InvalidFeaturesError) as refused:
        RowValidator(SCHEMA).validate({**others, "garden": 1})

    assert str(refused.value) == (
        "the row does not have the features of this model: missing size, rooms, city; unknown x0, x1, x2, …; "
        "garden: expected true or false, got a number"
    )
    assert len(refused.value.violations) == 4 + 5


def test_a_column_without_room_for_a_gap_cannot_promise_one() -> None:
    """A bundle that was changed by hand is refused, not served until the first gap."""
    with pytest.raises(ValueError, match="cannot have a missing value"):
        Feature(**{**SCHEMA.features[2].model_dump(), "on_violation": {"missing": "count"}})


def test_options_are_read() -> None:
    """A name may hold an equals sign; without a reason, or once without, it is all of them."""
    assert merge_allowed_violations(["age=range", "age=missing,range", "a=b", "x=y=type", "city=type", "city"]) == {
        "age": ("range", "missing"),
        "a=b": (),
        "x=y": ("type",),
        "city": (),
    }


def test_what_the_model_takes_is_let_through(tmp_path: Path) -> None:
    """Each feature gets the reasons asked for; an integer and a boolean get room for a gap, and answers stay."""
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
        [reason for reason, treatment in feature.on_violation if treatment == "count"] for feature in manifest.features
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
        (LogisticRegression(), {"age": ()}, "leave out missing"),
        (LogisticRegression(), {"size": ()}, "size, which is no feature"),
        (LogisticRegression(), {"income": ("range",)}, r"income=range: it has no valid range; --range income=LOW:HIGH"),
        (
            LogisticRegression(),
            {"income": ("category",)},
            "income=category: it is of type number, which has no categories",
        ),
    ],
)
def test_what_the_model_does_not_take_is_refused(
    estimator: Any, allowed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """The message says which feature and why, and nothing is written."""
    data = customers_without_gaps()[["age", "income"]]
    estimator.fit(data, data.age > 50)

    with pytest.raises(PackError, match=message):
        pack(estimator, data, name="x", out=tmp_path / "x", valid_ranges={"age": (0, 120)}, allowed_violations=allowed)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_refuses_an_unknown_category_cannot_let_it_through(tmp_path: Path) -> None:
    """It is asked for one at packing."""
    data = customers_without_gaps()[["city"]]
    estimator = make_pipeline(OrdinalEncoder(), LogisticRegression()).fit(data, data.city == "Bonn")

    with pytest.raises(PackError, match=r"--allow-violations city: the model does not accept a category"):
        pack(estimator, data, name="x", out=tmp_path / "x", allowed_violations={"city": ("category",)})


def test_what_was_missing_in_training_is_no_violation(tmp_path: Path) -> None:
    """There is nothing to let through."""
    data = customers()[["income"]]
    estimator = HistGradientBoostingClassifier(max_iter=2).fit(data, np.arange(len(data)) % 2)

    with pytest.raises(PackError, match="training data has missing values"):
        pack(estimator, data, name="x", out=tmp_path / "x", allowed_violations={"income": ("missing",)})


def test_onnx_must_let_through_what_the_estimator_does(tmp_path: Path) -> None:
    """A translation is proven on the rows that are let through, too."""
    data = customers_without_gaps()[["age", "income"]].astype(float)
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(data.to_numpy(), data.age > 50)

    bundle = pack(estimator, data, name="x", out=tmp_path / "x", allowed_violations={"age": ("missing",)}, onnx=True)

    models = load_bundle(bundle), load_bundle(bundle, engine="onnx")
    answers = [predict_row(model, age=None, income=5.0) for model in models]
    assert answers[0].label == answers[1].label
    assert answers[0].confidence == pytest.approx(answers[1].confidence)


def test_good_rows_stay_good() -> None:
    """A policy changes nothing of a row by the schema."""
    assert validate_row(VALID_ROW, SCHEMA) == []
