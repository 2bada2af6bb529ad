"""Misbehaviour comes in the shares that were asked for."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import SettingsError
from modeltrace.inference.schema import Feature, Reference, Schema
from modeltrace.inference.validate import validate_row
from modeltrace.traffic.fault_injection import EvenSelector, FaultConfig, FaultInjector, Shift, make_rng, parse_shift
from modeltrace.traffic.load import build_request
from modeltrace.traffic.rows import Sample

REFERENCE = Reference(n=1, shares={})
FEATURES = (
    Feature(name="age", type="integer", reference=REFERENCE),
    Feature(name="size", type="number", reference=REFERENCE),
    Feature(name="city", type="category", categories=("a", "b"), reference=REFERENCE),
    Feature(name="member", type="boolean", reference=REFERENCE),
)
SCHEMA = Schema(features=FEATURES)
ROW = {"age": 40, "size": 1.5, "city": "a", "member": True}


@given(st.floats(0, 1), st.floats(0, 1, exclude_max=True), st.integers(1, 500))
def test_a_share_is_exact_at_every_moment(share: float, phase: float, turns: int) -> None:
    """After any number of turns the count is off by less than one."""
    dealer = EvenSelector(share, phase)
    dealt = 0
    for turn in range(1, turns + 1):
        dealt += dealer.select()
        assert abs(dealt - turn * share) <= 1 + 1e-9


@given(st.integers(), st.floats(0, 0.3), st.floats(0, 0.3))
def test_spoilt_rows_are_refused_and_no_others(seed: int, missing: float, wrong_type: float) -> None:
    """A row that was spoilt breaks the schema, one that was not does not, and each kind has its share."""
    spoiler = FaultInjector(FaultConfig(missing=missing, wrong_type=wrong_type), FEATURES, make_rng(seed))
    reasons = []
    for _ in range(100):
        row = dict(ROW)
        spoilt = spoiler.inject_into_row(row)
        found = [violation.reason for violation in validate_row(row, SCHEMA)]
        assert bool(found) == spoilt
        reasons += found
    assert abs(reasons.count("missing") - 100 * missing) <= 1
    assert abs(reasons.count("type") - 100 * wrong_type) <= 1


@given(st.integers())
def test_the_same_seed_spoils_the_same(seed: int) -> None:
    """A run can be repeated."""

    def run() -> list[bytes]:
        spoiler = FaultInjector(FaultConfig(missing=0.3, errors=0.3, slow=0.3), FEATURES, make_rng(seed))
        return [build_request([Sample(ROW)], spoiler, batch=False).body for _ in range(50)]

    assert run() == run()


@given(st.integers())
def test_an_error_is_no_json_or_names_an_unknown_feature(seed: int) -> None:
    """Every request is one of the two when all are to be errors, and both occur."""
    spoiler = FaultInjector(FaultConfig(errors=1), FEATURES, make_rng(seed))
    broken = 0
    for _ in range(50):
        body = build_request([Sample(ROW), Sample(ROW)], spoiler, batch=True).body
        try:
            first, second = orjson.loads(body)["rows"]
        except orjson.JSONDecodeError:
            broken += 1
        else:
            assert [violation.reason for violation in validate_row(first, SCHEMA)] == ["unknown"]
            assert second == ROW
    assert 0 < broken < 50


def test_the_rows_themselves_stay_as_they_are() -> None:
    """What is spoilt is a copy: the next round has the original."""
    spoiler = FaultInjector(FaultConfig(missing=1, errors=1, shifts=(Shift("size", factor=2),)), FEATURES, make_rng(1))
    sample = Sample(dict(ROW))
    build_request([sample], spoiler, batch=False)
    assert sample.row == ROW


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("size=2", 1.5, 3.0),
        ("size+=0.5", 1.5, 2.0),
        ("size+=-1", 1.5, 0.5),
        ("age=1.5", 3, 4),
        ("size=2", None, None),
        ("a=b=2", 1.0, 2.0),
    ],
)
def test_a_shift_moves_a_number(text: str, before: float | None, after: float | None) -> None:
    """It multiplies or adds; an integer stays one, a missing value missing."""
    shift = parse_shift(text)
    row: dict[str, object] = {shift.feature: before}
    shift.apply(row)
    assert row[shift.feature] == after
    assert type(row[shift.feature]) is type(after)


@pytest.mark.parametrize("text", ["", "size", "size=", "=2", "size=x", "size=nan", "size+=inf", "size=2sd", "size+=sd"])
def test_a_shift_that_cannot_be_read_is_refused(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(SettingsError, match="FEATURE=FACTOR"):
        parse_shift(text)


@pytest.mark.parametrize("name", ["height", "city", "member"])
def test_only_numeric_features_can_be_shifted(name: str) -> None:
    """The message lists those that can."""
    with pytest.raises(SettingsError, match="it has age, size"):
        Shift(name, factor=2).resolve(FEATURES)


def test_a_shift_begins_when_it_is_time() -> None:
    """Rows before are as they came."""
    now = 100.0
    spoiler = FaultInjector(
        FaultConfig(shifts=(Shift("size", factor=2),), shift_after=60), FEATURES, make_rng(0), lambda: now
    )
    row = dict(ROW)
    assert not spoiler.inject_into_row(row)
    assert row == ROW
    now = 160.0
    assert spoiler.inject_into_row(row)
    assert row["size"] == 3.0


def test_a_shift_in_deviations_needs_to_know_them() -> None:
    """A model that does not tell them says so, and how to write it then."""
    with pytest.raises(SettingsError, match=r"standard deviation.*number in its own unit"):
        parse_shift("size+=1sd").resolve(FEATURES)
