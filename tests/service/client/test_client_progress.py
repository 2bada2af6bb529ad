"""What a person sees of a run."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from modeltrace.traffic.progress import JsonDisplay, LiveDisplay, PlainDisplay, RateMeter, Snapshot, take_snapshot
from modeltrace.traffic.tally import TrafficCounts

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def at(**changes: object) -> Snapshot:
    """A run that goes well, but for the changes."""
    tally = TrafficCounts(sent=1204, answered=1204, last_trace_id=TRACE)
    tally.latencies.extend([0.006] * 98 + [0.014] * 2)
    for name, value in changes.items():
        setattr(tally, name, value)
    return take_snapshot(tally, 20.0)


def test_a_run_that_goes_well_is_one_short_line() -> None:
    """Rate, counts, latencies and a trace to look at; zeros that are as they should be are left out."""
    assert at().to_text().plain == "20/s · 1,204 sent · 0 failed · p50 6 ms · p99 14 ms · last trace /t/4bf92f35…"


def test_what_is_not_as_it_should_be_is_added() -> None:
    """Refusals, and requests that could not be sent in time."""
    line = at(rejected=3, dropped=5, failed=1).to_text().plain
    assert line.startswith("20/s · 1,204 sent · 3 refused as asked · 1 failed · 5 behind")


def test_before_the_first_answer_there_is_no_latency_and_no_trace() -> None:
    """Nothing is made up."""
    assert take_snapshot(TrafficCounts(), 0.0).to_text().plain == "0/s · 0 sent · 0 failed"


def test_a_whole_trace_id_can_be_copied() -> None:
    """Lines in a file have all of it."""
    assert at().to_text(full_trace_id=True).plain.endswith(f"last trace /t/{TRACE}")


def test_with_a_page_the_trace_is_a_link() -> None:
    """Terminals that know links open the hub."""
    links = [span.style.link for span in at().to_text(hub_url="http://hub").spans if hasattr(span.style, "link")]
    assert f"http://hub/t/{TRACE}" in links


def test_json_lines_hold_every_figure() -> None:
    """Each line is one object."""
    lines: list[str] = []
    JsonDisplay(lines.append, None).finish(at(failed=2, last_failure="HTTP 500"))
    read = json.loads(lines[0])
    assert (read["sent"], read["failed"], read["p99_ms"], read["last_failure"]) == (1204, 2, 14.0, "HTTP 500")


def test_plain_lines_are_not_wrapped() -> None:
    """A narrow pipe gets whole lines."""
    file = io.StringIO()
    PlainDisplay(Console(file=file, width=20), None).update(at())
    assert len(file.getvalue().splitlines()) == 1


def test_the_live_line_is_left_standing_at_the_end() -> None:
    """A terminal shows the last figures after the run."""
    file = io.StringIO()
    with LiveDisplay(Console(file=file, force_terminal=True, width=200)) as line:
        line.update(at(sent=1))
        line.finish(at(sent=2))
    assert "1 sent" in file.getvalue()
    assert f"2 sent · 0 failed · p50 6 ms · p99 14 ms · last trace /t/{TRACE}" in file.getvalue()


@given(st.floats(0.5, 500), st.integers(1, 100))
def test_a_steady_rate_is_shown_as_it_is(rate: float, looks: int) -> None:
    """However long it has lasted."""
    meter = RateMeter(0.0)
    for look in range(1, looks + 1):
        shown = meter.measure(look * 0.25, round(look * 0.25 * rate))
        assert shown == pytest.approx(rate, abs=1 / min(look * 0.25, 4.75) + 0.01)
