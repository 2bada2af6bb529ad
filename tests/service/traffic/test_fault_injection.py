"""Faults are injected in the configured shares."""

from itertools import islice

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.errors import SettingsError
from modeltrace.inference.schema import Feature, Reference, Schema
from modeltrace.inference.validate import validate_row
from modeltrace.traffic.fault_injection import FaultConfig, FaultInjector, Shift, make_rng, parse_shift, select_evenly
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
def test_share_is_exact_after_any_number_of_calls(share: float, phase: float, calls: int) -> None:
    """The number of selected calls differs from its expected value by at most one."""
    selected = 0
    for call, is_selected in enumerate(islice(select_evenly(share, phase), calls), start=1):
        selected += is_selected
        assert abs(selected - call * share) <= 1 + 1e-9


@given(st.integers(), st.floats(0, 0.3), st.floats(0, 0.3))
def test_exactly_the_faulty_rows_violate_the_schema(seed: int, missing: float, wrong_type: float) -> None:
    """A row with an injected fault violates the schema, any other does not, and each fault has its share."""
    faults = FaultInjector(FaultConfig(missing=missing, wrong_type=wrong_type), FEATURES, make_rng(seed))
    reasons = []
    for _ in range(100):
        row = dict(ROW)
        is_faulty = faults.inject_into_row(row)
        violations = [violation.reason for violation in validate_row(row, SCHEMA)]
        assert bool(violations) == is_faulty
        reasons += violations
    assert abs(reasons.count("missing") - 100 * missing) <= 1
    assert abs(reasons.count("type") - 100 * wrong_type) <= 1


@given(st.integers())
def test_same_seed_injects_the_same_faults(seed: int) -> None:
    """A run with a seed can be repeated."""

    def run() -> list[bytes]:
        faults = FaultInjector(FaultConfig(missing=0.3, errors=0.3, slow=0.3), FEATURES, make_rng(seed))
        return [build_request([Sample(ROW)], faults, batch=False).body for _ in range(50)]

    assert run() == run()


@given(st.integers())
def test_invalid_request_is_not_json_or_has_an_unknown_feature(seed: int) -> None:
    """With a share of 1 every request has one of the two faults, and both occur."""
    faults = FaultInjector(FaultConfig(errors=1), FEATURES, make_rng(seed))
    malformed = 0
    for _ in range(50):
        body = build_request([Sample(ROW), Sample(ROW)], faults, batch=True).body
        try:
            first, second = orjson.loads(body)["rows"]
        except orjson.JSONDecodeError:
            malformed += 1
        else:
            assert [violation.reason for violation in validate_row(first, SCHEMA)] == ["unknown"]
            assert second == ROW
    assert 0 < malformed < 50


def test_original_row_is_not_changed() -> None:
    """Faults are injected into a copy of the row."""
    faults = FaultInjector(FaultConfig(missing=1, errors=1, shifts=(Shift("size", factor=2),)), FEATURES, make_rng(1))
    sample = Sample(dict(ROW))
    build_request([sample], faults, batch=False)
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
def test_shift_changes_a_number(text: str, before: float | None, after: float | None) -> None:
    """A shift multiplies or adds. An integer stays an integer, a missing value stays missing."""
    shift = parse_shift(text)
    row: dict[str, object] = {shift.feature: before}
    shift.apply(row)
    assert row[shift.feature] == after
    assert type(row[shift.feature]) is type(after)


@pytest.mark.parametrize("text", ["", "size", "size=", "=2", "size=x", "size=nan", "size+=inf", "size=2sd", "size+=sd"])
def test_invalid_shift_is_an_error(text: str) -> None:
    """The message shows the valid forms."""
    with pytest.raises(SettingsError, match="FEATURE=FACTOR"):
        parse_shift(text)


@pytest.mark.parametrize("name", ["height", "city", "member"])
def test_only_numeric_features_can_be_shifted(name: str) -> None:
    """The message lists the numeric features."""
    with pytest.raises(SettingsError, match="it has age, size"):
        Shift(name, factor=2).resolve(FEATURES)


TIMES = (
    Feature(name="since", type="datetime", dtype="datetime64", unit="us", timezone="UTC", reference=REFERENCE),
    Feature(
        name="wait",
        type="timedelta",
        dtype="timedelta64",
        unit="s",
        reference=Reference(n=1, shares={"00": 0.5, "01": 0.5, "missing": 0, "other": 0}, edges=(5.0,), deviation=90.0),
    ),
    *FEATURES,
)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("since+=P30DT1H", "2024-01-31T00:00:00+01:00", "2024-03-01T00:00:00Z"),
        ("since+=-PT0.000001S", "2024-01-31T00:00:00Z", "2024-01-30T23:59:59.999999Z"),
        ("since+=P1D", None, None),
        ("since+=P1D", "not a time", "not a time"),
        ("wait+=PT30S", "PT1M", "P0DT0H1M30S"),
        ("wait=2.5", "PT1M", "P0DT0H2M30S"),
        ("wait+=-2sd", "PT1M", "-P0DT0H2M0S"),
    ],
)
def test_shift_changes_a_time(text: str, before: str | None, after: str | None) -> None:
    """Times and durations are shifted by a duration; durations also by a factor or by standard deviations."""
    shift = parse_shift(text).resolve(TIMES)
    row: dict[str, object] = {shift.feature: before}
    shift.apply(row)
    assert row[shift.feature] == after


def test_a_shift_of_a_duration_is_bounded() -> None:
    """A factor that no duration can have does not end the traffic."""
    row: dict[str, object] = {"wait": "P1D"}
    parse_shift("wait=1e30").resolve(TIMES).apply(row)
    assert row["wait"] == "P106751DT23H47M16.854775S"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("since=2", "a time has no multiples"),
        ("since+=5", "write a duration after"),
        ("since+=1sd", r"standard deviation is 0 or not published by the model; write FEATURE\+=P1D"),
        ("wait+=5", "write a duration after"),
        ("size+=P1D", "the feature contains numbers, so write a number after"),
    ],
)
def test_a_shift_that_does_not_fit_the_feature_is_an_error(text: str, message: str) -> None:
    """The message says what to write."""
    with pytest.raises(SettingsError, match=message):
        parse_shift(text).resolve(TIMES)


def test_shift_starts_after_its_delay() -> None:
    """Earlier rows are not changed."""
    now = 100.0
    faults = FaultInjector(
        FaultConfig(shifts=(Shift("size", factor=2),), shift_after=60), FEATURES, make_rng(0), lambda: now
    )
    row = dict(ROW)
    assert not faults.inject_into_row(row)
    assert row == ROW
    now = 160.0
    assert faults.inject_into_row(row)
    assert row["size"] == 3.0


def test_shift_in_standard_deviations_requires_a_known_one() -> None:
    """If the model does not publish the standard deviation, the message shows the alternative."""
    with pytest.raises(SettingsError, match=r"standard deviation.*number in the unit of the feature"):
        parse_shift("size+=1sd").resolve(FEATURES)
