"""Parsing of true labels."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import InvalidLabelError, MalformedRequestError, RequestError, UnknownPredictionError
from modeltrace.inference.model import Label, Model
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef
from modeltrace.monitoring.label_parser import LabelParser

KEY = b"a key that only the tests use"
SIGNER = PredictionIdSigner(KEY)
LONG = "a very long class, as those are that somebody has made of a sentence or of a path"
TIME = 1_700_000_000_123_000_000

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=14), inner, max_size=3),
    max_leaves=8,
)


def parser(model: Model, classes: tuple[Label, ...] | None) -> LabelParser:
    """Return a parser for a classifier with these classes, or for a regressor."""
    task = "classifier" if classes else "regressor"
    return LabelParser(replace(model, classes=classes, task=task), SIGNER)  # type: ignore[arg-type]  # a valid task


def signed(output: str | float, version: str = "1.0.0") -> str:
    """Return the ID of a prediction."""
    return SIGNER.sign(PredictionRef(7, 8, 9, TIME, version, output))


@given(item=json | st.fixed_dictionaries({"prediction_id": json, "label": json}))
def test_an_item_that_is_no_label_is_rejected(model: Model, item: object) -> None:
    """Any JSON value raises a RequestError and nothing else."""
    for classes in (("a", "b"), None):
        with pytest.raises(RequestError):
            parser(model, classes).parse(item)


@given(label=json)
def test_any_label_is_accepted_or_rejected(model: Model, label: object) -> None:
    """With a valid ID, a label is one of the classes or a finite number, or it raises an InvalidLabelError."""
    for classes, output in ((("a", "b"), "a"), ((0, 1), "1"), ((False, True), "True"), (None, 0.5)):
        try:
            parsed = parser(model, classes).parse({"prediction_id": signed(output), "label": label})
        except InvalidLabelError:
            continue
        assert parsed.label == label
        assert parsed.label in classes if classes else isinstance(parsed.label, float)


@pytest.mark.parametrize("classes", [("a", LONG), (0, 1), (True, False), (1.5, 2.5)])
def test_a_label_is_recorded_like_its_prediction(model: Model, classes: tuple[Label, ...]) -> None:
    """Both classes are recorded as full text, and time and IDs are those of the prediction."""
    parse = parser(model, classes).parse
    for predicted in classes:
        for label in classes:
            parsed = parse({"prediction_id": signed(str(predicted)), "label": label})
            assert (parsed.record.label, parsed.record.predicted) == (str(label), str(predicted))
            assert parsed.record.is_wrong == (label != predicted)
            assert parsed.record.absolute_error is None
            assert (parsed.record.trace_id, parsed.record.span_id) == ((7).to_bytes(16), (8).to_bytes(8))
            assert parsed.record.prediction_time == TIME


def test_equal_numbers_are_the_same_class(model: Model) -> None:
    """1.0 is the class 1; true, 2 and "1" are not."""
    parse = parser(model, (0, 1)).parse
    parsed = parse({"prediction_id": signed("1"), "label": 1.0})
    assert parsed.label == 1
    assert isinstance(parsed.label, int)
    assert not parsed.record.is_wrong
    for label in (True, 2, "1", None, [1]):
        with pytest.raises(InvalidLabelError, match="none of the model's classes: 0, 1"):
            parse({"prediction_id": signed("1"), "label": label})


def test_a_value_has_an_absolute_error(model: Model) -> None:
    """A number that is not finite or too large is rejected."""
    parse = parser(model, None).parse
    record = parse({"prediction_id": signed(2.5), "label": 4}).record
    assert (record.label, record.predicted, record.absolute_error, record.is_wrong) == (4.0, 2.5, 1.5, False)
    for label in (True, "4", None, float("inf"), float("nan"), 1e300, 10**400):
        with pytest.raises(InvalidLabelError):
            parse({"prediction_id": signed(2.5), "label": label})


def test_predictions_of_other_models_are_unknown(model: Model) -> None:
    """IDs with a value for a classifier, a class for a regressor, an unknown class or another key are rejected."""
    labels = (
        {"prediction_id": prediction_id, "label": "a"} for prediction_id in (signed(0.5), signed("c", model.version))
    )
    for item in (
        *labels,
        {"prediction_id": PredictionIdSigner(b"another").sign(PredictionRef(7, 8, 9, TIME, "1", "a"))},
    ):
        with pytest.raises(UnknownPredictionError):
            parser(model, ("a", "b")).parse({"label": "a", **item})
    with pytest.raises(UnknownPredictionError):
        parser(model, None).parse({"prediction_id": signed("a"), "label": 1.0})


def test_a_label_of_another_version_is_accepted(model: Model) -> None:
    """The recorded version is that of the ID, in full if it is the served one."""
    long = "1.0.0+" + "ä" * 58
    current = LabelParser(replace(model, classes=("a", "b"), version=long), SIGNER)

    versions = [
        current.parse({"prediction_id": signed("gone", version), "label": "a"}).record.model_version
        for version in ("0.9",)
    ]
    versions.append(current.parse({"prediction_id": signed("a", long), "label": "a"}).record.model_version)

    assert versions == ["0.9", long]


def test_missing_and_additional_keys_are_malformed(model: Model) -> None:
    """An item with a missing or additional key, or with an ID that is not a text, is malformed."""
    valid = {"prediction_id": signed("a"), "label": "a"}
    parser(model, ("a", "b")).parse(valid)
    for invalid in (
        {**valid, "more": 1},
        {"label": "a"},
        {"prediction_id": signed("a")},
        {**valid, "prediction_id": 1},
    ):
        with pytest.raises(MalformedRequestError):
            parser(model, ("a", "b")).parse(invalid)
