"""Parts of the pages: formatted numbers, rows of the waterfall, buckets of a histogram."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace_hub.web import format as fmt
from modeltrace_hub.web import histogram_chart
from modeltrace_hub.web.waterfall import Waterfall, build_waterfall

IDS = [f"{number:016x}" for number in range(1, 9)]


def _timed(span: dict[str, Any]) -> dict[str, Any]:
    """Return a span with its duration as in the store: None if its times are invalid."""
    start, end = span["start_ns"], span["end_ns"]
    return {**span, "duration_ns": end - start if start > 0 and end >= start else None}


SPANS = st.lists(
    st.fixed_dictionaries(
        {
            "span_id": st.sampled_from(IDS),
            "parent_span_id": st.none() | st.sampled_from(IDS) | st.just("f" * 16),
            "service_name": st.sampled_from(["a", "b"]),
            "start_ns": st.integers(0, 10**19 // 2),
            "end_ns": st.integers(0, 10**19 // 2),
            "received_ns": st.integers(0, 10**19 // 2),
        }
    ).map(_timed),
    max_size=12,
)


@given(SPANS)
def test_every_span_has_one_row(spans: list[dict[str, Any]]) -> None:
    """Each span is in the waterfall once, for any parents, cycles and duplicate IDs."""
    rows = build_waterfall(spans, {}).rows

    assert sorted(row.span["span_id"] for row in rows) == sorted(span["span_id"] for span in spans)
    assert len({(row.span["span_id"], row.duplicate_index) for row in rows}) == len(spans)


def test_a_child_of_a_duplicate_id_is_below_its_service() -> None:
    """If a client and a server span have one ID, a child of the server's service is below the server span."""
    times = {"start_ns": 1, "end_ns": 2, "received_ns": 3, "duration_ns": 1}
    client = {"span_id": IDS[0], "parent_span_id": None, "service_name": "a", **times}
    server = {"span_id": IDS[0], "parent_span_id": None, "service_name": "b", **times}
    child = {"span_id": IDS[1], "parent_span_id": IDS[0], "service_name": "b", **times}

    rows = build_waterfall([client, server, child], {}).rows

    assert [(row.span["service_name"], row.depth, row.children) for row in rows] == [
        ("a", 0, 0),
        ("b", 0, 1),
        ("b", 1, 0),
    ]


@given(SPANS)
def test_bars_are_within_the_axis(spans: list[dict[str, Any]]) -> None:
    """Bars are between the ends of the axis, also for spans that end before they start."""
    for row in build_waterfall(spans, {}).rows:
        assert 0 <= row.left <= 100
        assert 0 <= row.width <= 100.001 - row.left


@given(SPANS)
def test_a_child_is_below_its_parent(spans: list[dict[str, Any]]) -> None:
    """The nearest row above with a smaller depth is the parent."""
    above: list[str] = []
    for row in build_waterfall(spans, {}).rows:
        del above[row.depth :]
        assert len(above) == row.depth
        if row.depth:
            assert row.span["parent_span_id"] == above[-1]
        above.append(row.span["span_id"])


@pytest.mark.parametrize(
    ("ns", "words"),
    [(0, "0 ns"), (48_700, "48.7 µs"), (4_200_000, "4.20 ms"), (850_000_000, "850 ms"), (90 * 10**9, "1.50 min")],
)
def test_durations_have_three_digits_and_a_unit(ns: int, words: str) -> None:
    """A duration is formatted in its largest unit."""
    assert fmt.duration(ns).replace("\u202f", " ") == words


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_time_can_be_formatted(ns: int) -> None:
    """A time outside the calendar is formatted as a number."""
    assert fmt.utc_time(ns).endswith((" UTC", " ns"))


@given(st.lists(st.text(), max_size=fmt.HUE_COUNT, unique=True))
def test_services_of_a_page_differ(services: list[str]) -> None:
    """Services of a page have different hues while there are enough."""
    given_hues = fmt.assign_hues(services)

    assert len(set(given_hues.values())) == len(services)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0"),
        (1.0, "1"),
        (0.97312, "0.9731"),
        (0.99999999998, ">0.9999"),
        (1e-9, "<0.0001"),
        (float("nan"), "nan"),
    ],
)
def test_a_confidence_has_four_decimals(value: float | None, text: str) -> None:
    """A confidence that is not 1 is never shown as 1."""
    assert fmt.confidence(value) == text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0 points"),
        (0.0058, "+0.58 points"),
        (-0.2, "-20.00 points"),
        (5.79e-5, "+<0.01 points"),
    ],
)
def test_a_change_is_in_points_with_two_decimals(change: float | None, text: str) -> None:
    """A change of a share has no more digits than can be read."""
    assert fmt.points(change) == text


def test_an_old_time_has_its_date() -> None:
    """A time of today is a clock time; an older one has the date, too."""
    now = 1_790_000_000 * 10**9
    assert (len(fmt.clock_time(now - 10**9, now)), len(fmt.clock_time(now - 86400 * 10**9, now))) == (8, 19)


@given(st.integers(1, 10**19 // 2))
def test_ticks_of_the_axis_are_round(duration_ns: int) -> None:
    """The axis has at most six ticks from 0. Their distance is 1, 2 or 5 times a power of ten of a unit."""
    ticks = Waterfall([], 0, duration_ns).ticks
    times = [ns for _, ns in ticks]
    assert times[0] == 0
    assert len(times) <= 6
    assert all(0 <= position <= 100 for position, _ in ticks)
    if len(times) > 1:
        step = times[1]
        assert {later - earlier for earlier, later in itertools.pairwise(times)} == {step}
        units = (step, step // (60 * 10**9) if step % (60 * 10**9) == 0 else step)
        assert any(str(unit).rstrip("0") in {"1", "2", "5"} for unit in units)


def test_names_break_after_dots_and_are_escaped() -> None:
    """A long key may have line breaks, and its markup is escaped."""
    assert str(fmt.line_breaks("a.<b>_c")) == "a.<wbr>&lt;b&gt;_<wbr>c"


def point(counts: list[int], *, value: float | None) -> dict[str, Any]:
    """Return a histogram point with bounds at 1 and 2 seconds."""
    return {
        "unit": "s",
        "explicit_bounds": [1.0, 2.0],
        "interval": {"bucket_counts": counts},
        "bucket": None if value is None else int(value > 1) + int(value > 2),
        "exemplars": [] if value is None else [{"value": value}],
    }


def test_exemplar_is_marked_on_its_bucket() -> None:
    """The mark is on the bucket of the exemplar's value; bounds are inclusive."""
    drawn = histogram_chart.draw_histogram(point([1, 4, 0], value=2.0))

    assert drawn is not None
    assert [(bar.has_exemplar, bar.has_request) for bar in drawn.bars] == [(False, False), (True, True), (False, False)]


def test_bar_heights_are_proportional_to_counts() -> None:
    """Heights have the ratio of the counts."""
    drawn = histogram_chart.draw_histogram(point([1, 4, 2], value=None))

    assert drawn is not None
    first, second, third = (bar.height for bar in drawn.bars)
    assert (second / first, second / third) == (4, 2)


def test_empty_interval_has_no_chart() -> None:
    """Without measurements there is no chart."""
    assert histogram_chart.draw_histogram(point([0, 0, 0], value=None)) is None


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_a_number_below_one_is_never_formatted_as_one(value: float) -> None:
    """A confidence close to 1 is not shown as 1."""
    assert float(fmt.number(value)) < 1
