"""`modeltrace up` prints URLs and a line about traffic."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from modeltrace.cli.up_screen import header_lines, open_screen
from modeltrace.client.service import ServedModel
from modeltrace.inference.schema import Feature, Reference
from modeltrace.local.plan import StackTarget, UpConfig
from modeltrace.traffic.counts import TrafficCounts
from modeltrace.traffic.progress import take_snapshot

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONFIG = UpConfig(
    is_example=True,
    source="bundle",
    bundle=Path("bundle"),
    host="127.0.0.1",
    port=8000,
    hub_port=4319,
    grpc_port=4317,
    http_port=4318,
    rate=20.0,
    external_telemetry=None,
    hub_has_key=False,
    log_dir=Path("logs"),
)
JAEGER = "http://127.0.0.1:16686"
STACK_CONFIG = replace(CONFIG, stack=StackTarget("http://127.0.0.1:4318", (JAEGER,), f"{JAEGER}/trace/"))
MODEL = ServedModel(
    "breast-cancer",
    "1.0.0",
    tuple(Feature(name=f"x{i}", type="number", reference=Reference(n=1, shares={})) for i in range(30)),
)
SNAPSHOT = take_snapshot(TrafficCounts(sent=1204, answered=1204, last_trace_id=TRACE), 20.0)


def test_plain_lines_without_a_terminal() -> None:
    """The lines contain the model, the URLs, how to stop, and traffic with a full trace ID."""
    file = io.StringIO()
    with open_screen(Console(file=file, width=40)) as screen:
        screen.show_started(CONFIG, MODEL)
        screen.show_traffic(SNAPSHOT)
    assert file.getvalue().splitlines() == [
        "Modeltrace · breast-cancer 1.0.0 · 30 features",
        "  predict    http://127.0.0.1:8000/docs",
        "  telemetry  http://127.0.0.1:4319",
        "Ctrl-C stops everything. Serve your own model: modeltrace pack --help",
        f"  traffic    20/s · 1,204 sent · 0 failed · last trace http://127.0.0.1:4319/t/{TRACE}",
    ]


def test_generated_requests_for_a_bundle_are_synthetic() -> None:
    """A line says that drift leaves them out; the example's requests count, and no traffic needs no line."""
    bundle = replace(CONFIG, is_example=False)
    assert "--include-synthetic" in header_lines(bundle, MODEL)[-1].plain
    for config in (CONFIG, replace(bundle, rate=None)):
        assert not any("synthetic" in line.plain for line in header_lines(config, MODEL))


def test_last_trace_is_a_url_of_the_stack_in_a_file() -> None:
    """The URL is complete."""
    file = io.StringIO()
    with open_screen(Console(file=file)) as screen:
        screen.show_started(STACK_CONFIG, MODEL)
        screen.show_traffic(SNAPSHOT)
    assert file.getvalue().rstrip().endswith(f"last trace {JAEGER}/trace/{TRACE}")


def test_interval_of_traffic_lines_without_a_terminal() -> None:
    """The next line about traffic is printed after the interval, not with the next snapshot."""
    file = io.StringIO()
    with open_screen(Console(file=file)) as screen:
        screen.show_started(CONFIG, MODEL)
        screen.show_traffic(SNAPSHOT)
        screen.show_traffic(SNAPSHOT)
    assert file.getvalue().count("sent") == 1


def test_traffic_line_in_a_terminal() -> None:
    """The line about traffic is rewritten above the last line, and its trace ID links to the hub."""
    file = io.StringIO()
    with open_screen(Console(file=file, force_terminal=True, width=120)) as screen:
        screen.show_waiting("the hub")
        screen.show_started(CONFIG, MODEL)
        screen.show_traffic(SNAPSHOT)
    shown = file.getvalue()
    assert "  traffic    20/s · 1,204 sent · 0 failed · last trace " in shown
    assert f";http://127.0.0.1:4319/t/{TRACE}" in shown
    assert shown.rindex("Ctrl-C stops everything") > shown.rindex("1,204 sent")


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (CONFIG, "  telemetry  http://127.0.0.1:4319"),
        (replace(CONFIG, external_telemetry="sent to X"), "  telemetry  sent to X"),
        (replace(STACK_CONFIG, hub_has_key=True), f"  telemetry  {JAEGER}"),
        (
            replace(
                CONFIG, stack=StackTarget("http://127.0.0.1:4318", ("http://grafana", JAEGER), "", "none there yet")
            ),
            f"  telemetry  http://grafana  {JAEGER}  (none there yet)",
        ),
        (
            replace(CONFIG, hub_has_key=True),
            "  telemetry  http://127.0.0.1:4319  (append ?key= and the value of MODELTRACE_HUB_KEY the first time)",
        ),
    ],
)
def test_telemetry_line(config: UpConfig, line: str) -> None:
    """The line contains the hub and how to use its key, the pages of the stack, or the user's endpoint."""
    assert header_lines(config, MODEL)[2].plain == line


def test_trace_id_links_to_jaeger_with_a_stack() -> None:
    """The rest of the line is the same as with the hub."""
    file = io.StringIO()
    with open_screen(Console(file=file, force_terminal=True, width=120)) as screen:
        screen.show_started(STACK_CONFIG, MODEL)
        screen.show_traffic(SNAPSHOT)
    shown = file.getvalue()
    assert "  traffic    20/s · 1,204 sent · 0 failed · last trace " in shown
    assert f";{JAEGER}/trace/{TRACE}\x1b\\{TRACE[:8]}…" in shown


def test_traffic_line_without_traffic() -> None:
    """The line contains the command that starts traffic for this service."""
    file = io.StringIO()
    with open_screen(Console(file=file, width=40)) as screen:
        screen.show_started(replace(CONFIG, rate=None), MODEL)
    assert "  traffic    none; start it with: modeltrace traffic http://127.0.0.1:8000" in file.getvalue().splitlines()
