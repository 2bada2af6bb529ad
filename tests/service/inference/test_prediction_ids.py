"""Prediction IDs say what they are about, and nobody else can write them."""

import math
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import UnknownPredictionError
from modeltrace.inference.prediction_ids import MAX_ID_LENGTH, PredictionIdSigner, PredictionRef

IDS = PredictionIdSigner(b"a key that only this test has")
texts = st.text(max_size=30).filter(lambda text: len(text.encode("utf-8", "replace")) <= 64)
refs = st.builds(
    PredictionRef,
    trace_id=st.integers(0, 2**128 - 1),
    span_id=st.integers(0, 2**64 - 1),
    row=st.integers(0, 2**32 - 1),
    time_unix_ns=st.integers(0, 2**62).map(lambda ns: ns // 1_000_000 * 1_000_000),
    model_version=texts,
    output=texts | st.floats(allow_nan=False),
)
REF = PredictionRef(7, 9, 3, 1_700_000_000_000_000_000, "1.0.0", "benign")


@given(refs)
def test_what_was_signed_is_read(ref: PredictionRef) -> None:
    """Reading an ID gives back what was signed."""
    assert IDS.verify(IDS.sign(ref)) == ref


@given(refs)
def test_an_id_can_stand_in_a_url(ref: PredictionRef) -> None:
    """An ID has only letters, digits, `-` and `_`, and is bounded in length."""
    assert re.fullmatch(r"[A-Za-z0-9_-]+", IDS.sign(ref))
    assert len(IDS.sign(ref)) <= MAX_ID_LENGTH


@given(refs, st.data())
def test_a_changed_id_is_refused(ref: PredictionRef, data: st.DataObject) -> None:
    """Any one character changed to any other, however little it means, makes it no ID."""
    text = IDS.sign(ref)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(sorted({*string.ascii_letters, *string.digits, *"-_+/= \n"} - {text[place]})))

    with pytest.raises(UnknownPredictionError):
        IDS.verify(text[:place] + other + text[place + 1 :])


@given(st.text(max_size=600) | st.text(alphabet=string.ascii_letters + string.digits + "-_=", max_size=600))
def test_any_text_is_refused_cleanly(text: str) -> None:
    """What is not an ID is an UnknownPredictionError, never another."""
    with pytest.raises(UnknownPredictionError):
        IDS.verify(text)


@given(refs)
def test_a_cut_or_longer_id_is_refused(ref: PredictionRef) -> None:
    """An ID is an ID only as a whole."""
    for text in (IDS.sign(ref)[:-1], IDS.sign(ref) + "A", IDS.sign(ref) + "=", " " + IDS.sign(ref)):
        with pytest.raises(UnknownPredictionError):
            IDS.verify(text)


def test_another_key_is_refused() -> None:
    """An ID of another service is not one of this service."""
    with pytest.raises(UnknownPredictionError):
        PredictionIdSigner(b"another key").verify(IDS.sign(REF))


def test_a_long_label_is_replaced_by_its_hash() -> None:
    """The length stays bounded; the same label always has the same stand-in."""
    read = [
        IDS.verify(IDS.sign(PredictionRef(1, 2, 3, 0, "v" * 1000, label)))
        for label in ("x" * 1000, "x" * 1000, "y" * 1000)
    ]

    assert read[0] == read[1] != read[2]
    assert len(read[0].model_version) == 64


def test_an_infinite_value_is_kept() -> None:
    """A value is a double, whatever it is."""
    assert IDS.verify(IDS.sign(PredictionRef(1, 2, 3, 0, "1", -math.inf))).output == -math.inf
