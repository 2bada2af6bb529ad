"""Prediction IDs are self-describing and signed."""

import math
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import UnknownPredictionError
from modeltrace.inference.prediction_ids import MAX_ID_LENGTH, PredictionIdSigner, PredictionRef

SIGNER = PredictionIdSigner(b"a key that only this test has")
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
def test_a_signed_id_is_verified(ref: PredictionRef) -> None:
    """Verifying an ID returns what was signed."""
    assert SIGNER.verify(SIGNER.sign(ref)) == ref


@given(refs)
def test_an_id_is_url_safe(ref: PredictionRef) -> None:
    """An ID has only letters, digits, `-` and `_`, and its length is bounded."""
    assert re.fullmatch(r"[A-Za-z0-9_-]+", SIGNER.sign(ref))
    assert len(SIGNER.sign(ref)) <= MAX_ID_LENGTH


@given(refs, st.data())
def test_a_changed_id_is_rejected(ref: PredictionRef, data: st.DataObject) -> None:
    """Any single changed character makes the ID invalid."""
    text = SIGNER.sign(ref)
    index = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(sorted({*string.ascii_letters, *string.digits, *"-_+/= \n"} - {text[index]})))

    with pytest.raises(UnknownPredictionError):
        SIGNER.verify(text[:index] + other + text[index + 1 :])


@given(st.text(max_size=600) | st.text(alphabet=string.ascii_letters + string.digits + "-_=", max_size=600))
def test_any_other_text_is_rejected(text: str) -> None:
    """A text that is not an ID raises UnknownPredictionError and nothing else."""
    with pytest.raises(UnknownPredictionError):
        SIGNER.verify(text)


@given(refs)
def test_a_shorter_or_longer_id_is_rejected(ref: PredictionRef) -> None:
    """Only the complete ID is valid."""
    for text in (SIGNER.sign(ref)[:-1], SIGNER.sign(ref) + "A", SIGNER.sign(ref) + "=", " " + SIGNER.sign(ref)):
        with pytest.raises(UnknownPredictionError):
            SIGNER.verify(text)


def test_another_key_is_rejected() -> None:
    """An ID of another service is invalid."""
    with pytest.raises(UnknownPredictionError):
        PredictionIdSigner(b"another key").verify(SIGNER.sign(REF))


def test_a_long_label_is_replaced_by_its_hash() -> None:
    """The length is bounded, and equal labels have equal hashes."""
    refs = [
        SIGNER.verify(SIGNER.sign(PredictionRef(1, 2, 3, 0, "v" * 1000, label)))
        for label in ("x" * 1000, "x" * 1000, "y" * 1000)
    ]

    assert refs[0] == refs[1] != refs[2]
    assert len(refs[0].model_version) == 64


def test_an_infinite_value_is_preserved() -> None:
    """Any double is a valid value."""
    assert SIGNER.verify(SIGNER.sign(PredictionRef(1, 2, 3, 0, "1", -math.inf))).output == -math.inf
