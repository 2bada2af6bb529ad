"""The progress of a run is displayed as one line or as JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.cli.traffic import open_display
from modeltrace.traffic.counts import TrafficCounts
from modeltrace.traffic.progress import RateMeter, Snapshot, take_snapshot

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def snapshot(**changes: object) -> Snapshot:
    """Return a snapshot of a run without failures, except for the changes."""
    counts = TrafficCounts(sent=1204, answered=1204, last_trace_id=TRACE)
    counts.latencies.extend([0.006] * 98 + [0.014] * 2)
    for name, value in changes.items():
        setattr(counts, name, value)
    return take_snapshot(counts, 20.0)


def test_run_without_failures() -> None:
    """The line contains rate, counts, latencies and the last trace; counts of 0 are omitted."""
    assert snapshot().to_text().plain == "20/s · 1,204 sent · 0 failed · p50 6 ms · p99 14 ms · last trace /t/4bf92f35…"


def test_rejections_and_dropped_requests_are_shown() -> None:
    """The line contains rejected, failed and dropped requests."""
    line = snapshot(rejected=3, dropped=5, failed=1).to_text().plain
    assert line.startswith("20/s · 1,204 sent · 3 rejected as expected · 1 failed · 5 dropped (not sent: too many ")


def test_no_latency_and_no_trace_before_the_first_response() -> None:
    """The line contains only rate and counts."""
    assert take_snapshot(TrafficCounts(), 0.0).to_text().plain == "0/s · 0 sent · 0 failed"


def test_full_trace_id() -> None:
    """The line contains the full trace ID on request."""
    assert snapshot().to_text(full_trace_id=True).plain.endswith(f"last trace /t/{TRACE}")


def test_trace_id_is_a_link_to_the_hub() -> None:
    """With the URL of the hub, the trace ID is a terminal hyperlink."""
    links = [span.style.link for span in snapshot().to_text(hub_url="http://hub").spans if hasattr(span.style, "link")]
    assert f"http://hub/t/{TRACE}" in links


def test_json_lines_contain_all_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is a JSON object."""
    with open_display(json=True, interval=None) as display:
        display.finish(snapshot(failed=2, last_failure="HTTP 500"))
    line = json.loads(capsys.readouterr().out)
    assert (line["sent"], line["failed"], line["p99_ms"], line["last_failure"]) == (1204, 2, 14.0, "HTTP 500")


def test_plain_lines_are_not_wrapped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is not wrapped even if the output is narrow."""
    monkeypatch.setenv("COLUMNS", "20")
    with open_display(json=False, interval=None) as display:
        display.update(snapshot())
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_live_line_stays_at_the_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal shows the final counts after the run."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then treats stdout as a terminal
    monkeypatch.setenv("COLUMNS", "200")
    with open_display(json=False, interval=None) as display:
        display.update(snapshot(sent=1))
        display.finish(snapshot(sent=2))
    output = capsys.readouterr().out
    assert "1 sent" in output
    assert f"2 sent · 0 failed · p50 6 ms · p99 14 ms · last trace /t/{TRACE}" in output


@given(st.floats(0.5, 500), st.integers(1, 100))
def test_constant_rate_is_measured(rate: float, readings: int) -> None:
    """The measured rate is the constant rate after any number of readings."""
    meter = RateMeter(0.0)
    for reading in range(1, readings + 1):
        measured = meter.measure(reading * 0.25, round(reading * 0.25 * rate))
        assert measured == pytest.approx(rate, abs=1 / min(reading * 0.25, 4.75) + 0.01)
