"""Which labels are taken, for which predictions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import InvalidLabelError, MalformedRequestError, RequestError, UnknownPredictionError
from modeltrace.inference.model import Label, Model
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef
from modeltrace.monitoring.feedback import LabelParser

KEY = b"a key that only the tests use"
IDS = PredictionIdSigner(KEY)
LONG = "a very long class, as those are that somebody has made of a sentence or of a path"
TIME = 1_700_000_000_123_000_000

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=14), inner, max_size=3),
    max_leaves=8,
)


def reader(model: Model, classes: tuple[Label, ...] | None) -> LabelParser:
    """A reader for a model with these classes, or for a regressor."""
    task = "classifier" if classes else "regressor"
    return LabelParser(replace(model, classes=classes, task=task), IDS)  # type: ignore[arg-type]  # one of the two


def signed(answer: str | float, version: str = "1.0.0") -> str:
    """The ID of a prediction."""
    return IDS.sign(PredictionRef(7, 8, 9, TIME, version, answer))


@given(item=json | st.fixed_dictionaries({"prediction_id": json, "label": json}))
def test_whatever_is_no_label_is_refused_in_words(model: Model, item: object) -> None:
    """Any JSON at all is one of our errors, never another."""
    for classes in (("a", "b"), None):
        with pytest.raises(RequestError):
            reader(model, classes).parse(item)


@given(label=json)
def test_any_label_is_taken_or_refused(model: Model, label: object) -> None:
    """With an ID that is right, a label is one of the classes or a finite number, or it is refused in words."""
    for classes, answer in ((("a", "b"), "a"), ((0, 1), "1"), ((False, True), "True"), (None, 0.5)):
        try:
            taken = reader(model, classes).parse({"prediction_id": signed(answer), "label": label})
        except InvalidLabelError:
            continue
        assert taken.label == label
        assert taken.label in classes if classes else isinstance(taken.label, float)


@pytest.mark.parametrize("classes", [("a", LONG), (0, 1), (True, False), (1.5, 2.5)])
def test_a_label_is_told_as_its_prediction_is(model: Model, classes: tuple[Label, ...]) -> None:
    """Both classes are text, in full, so a right one equals what was predicted; time and IDs are the prediction's."""
    read = reader(model, classes).parse
    for predicted in classes:
        for label in classes:
            given = read({"prediction_id": signed(str(predicted)), "label": label})
            assert (given.record.label, given.record.predicted) == (str(label), str(predicted))
            assert given.record.is_wrong == (label != predicted)
            assert given.record.absolute_error is None
            assert (given.record.trace_id, given.record.span_id) == ((7).to_bytes(16), (8).to_bytes(8))
            assert given.record.prediction_time == TIME


def test_numbers_of_another_form_are_the_same_class(model: Model) -> None:
    """1.0 is 1; true, 2 and "1" are not."""
    read = reader(model, (0, 1)).parse
    one = read({"prediction_id": signed("1"), "label": 1.0})
    assert one.label == 1
    assert isinstance(one.label, int)
    assert not one.record.is_wrong
    for label in (True, 2, "1", None, [1]):
        with pytest.raises(InvalidLabelError, match="none of the model's classes: 0, 1"):
            read({"prediction_id": signed("1"), "label": label})


def test_a_value_has_an_error(model: Model) -> None:
    """The absolute difference; what is no finite number of a size that a model takes is refused."""
    read = reader(model, None).parse
    told = read({"prediction_id": signed(2.5), "label": 4}).record
    assert (told.label, told.predicted, told.absolute_error, told.is_wrong) == (4.0, 2.5, 1.5, False)
    for label in (True, "4", None, float("inf"), float("nan"), 1e300, 10**400):
        with pytest.raises(InvalidLabelError):
            read({"prediction_id": signed(2.5), "label": label})


def test_predictions_of_other_models_are_unknown(model: Model) -> None:
    """A value for a classifier, a class for a regressor, a class that this version does not have, another key."""
    labels = ({"prediction_id": one, "label": "a"} for one in (signed(0.5), signed("c", model.version)))
    for item in (
        *labels,
        {"prediction_id": PredictionIdSigner(b"another").sign(PredictionRef(7, 8, 9, TIME, "1", "a"))},
    ):
        with pytest.raises(UnknownPredictionError):
            reader(model, ("a", "b")).parse({"label": "a", **item})
    with pytest.raises(UnknownPredictionError):
        reader(model, None).parse({"prediction_id": signed("a"), "label": 1.0})


def test_a_version_that_is_not_served_is_taken(model: Model) -> None:
    """The version is that of the ID, in full if it is the one that is served."""
    long = "1.0.0+" + "ä" * 58
    served = LabelParser(replace(model, classes=("a", "b"), version=long), IDS)

    versions = [
        served.parse({"prediction_id": signed("gone", version), "label": "a"}).record.model_version
        for version in ("0.9",)
    ]
    versions.append(served.parse({"prediction_id": signed("a", long), "label": "a"}).record.model_version)

    assert versions == ["0.9", long]


def test_a_form_that_is_nearly_right_is_malformed(model: Model) -> None:
    """Something missing, something more, an ID that is no text."""
    right = {"prediction_id": signed("a"), "label": "a"}
    reader(model, ("a", "b")).parse(right)
    for wrong in ({**right, "more": 1}, {"label": "a"}, {"prediction_id": signed("a")}, {**right, "prediction_id": 1}):
        with pytest.raises(MalformedRequestError):
            reader(model, ("a", "b")).parse(wrong)
