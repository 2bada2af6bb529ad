"""What `modeltrace up` shows."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from modeltrace.cli.up import PlainScreen, TerminalScreen, header_lines
from modeltrace.client.service import ServedModel
from modeltrace.inference.schema import Feature, Reference
from modeltrace.local.plan import StackTarget, UpConfig
from modeltrace.traffic.progress import take_snapshot
from modeltrace.traffic.tally import TrafficCounts

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
LOCAL = UpConfig(
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
REAL = replace(LOCAL, stack=StackTarget("http://127.0.0.1:4318", (JAEGER,), f"{JAEGER}/trace/"))
MODEL = ServedModel(
    "breast-cancer",
    "1.0.0",
    tuple(Feature(name=f"x{i}", type="number", reference=Reference(n=1, shares={})) for i in range(30)),
)
NOW = take_snapshot(TrafficCounts(sent=1204, answered=1204, last_trace_id=TRACE), 20.0)


def test_without_a_terminal_the_lines_are_plain() -> None:
    """What is served, where to predict and to look, how to stop, and traffic with a trace ID to copy."""
    file = io.StringIO()
    with PlainScreen(Console(file=file, width=40)) as screen:
        screen.show_started(LOCAL, MODEL)
        screen.show_traffic(NOW)
    assert file.getvalue().splitlines() == [
        "Modeltrace · breast-cancer 1.0.0 · 30 features",
        "  predict   http://127.0.0.1:8000/docs",
        "  look      http://127.0.0.1:4319",
        "Ctrl-C stops all of it. Your own model: modeltrace pack --help",
        f"  traffic   20/s · 1,204 sent · 0 failed · last trace /t/{TRACE}",
    ]


def test_without_a_terminal_traffic_is_quiet() -> None:
    """Its next line comes after a while, not with the next figures."""
    file = io.StringIO()
    with PlainScreen(Console(file=file)) as screen:
        screen.show_started(LOCAL, MODEL)
        screen.show_traffic(NOW)
        screen.show_traffic(NOW)
    assert file.getvalue().count("sent") == 1


def test_in_a_terminal_the_line_about_traffic_stands_above_the_last_one() -> None:
    """It is rewritten in place, and its trace is a link to the hub."""
    file = io.StringIO()
    with TerminalScreen(Console(file=file, force_terminal=True, width=120)) as screen:
        screen.show_waiting("the hub")
        screen.show_started(LOCAL, MODEL)
        screen.show_traffic(NOW)
    shown = file.getvalue()
    assert "  traffic   20/s · 1,204 sent · 0 failed · last trace " in shown
    assert f";http://127.0.0.1:4319/t/{TRACE}" in shown
    assert shown.rindex("Ctrl-C stops all of it") > shown.rindex("1,204 sent")


@pytest.mark.parametrize(
    ("local", "line"),
    [
        (LOCAL, "  look      http://127.0.0.1:4319"),
        (replace(LOCAL, external_telemetry="telemetry goes to X"), "  look      telemetry goes to X"),
        (replace(REAL, hub_has_key=True), f"  look      {JAEGER}"),
        (
            replace(
                LOCAL, stack=StackTarget("http://127.0.0.1:4318", ("http://grafana", JAEGER), "", "none there yet")
            ),
            f"  look      http://grafana  {JAEGER}  (none there yet)",
        ),
        (
            replace(LOCAL, hub_has_key=True),
            "  look      http://127.0.0.1:4319  (the first time with ?key= and the value of MODELTRACE_HUB_KEY)",
        ),
    ],
)
def test_the_line_says_where_to_look(local: UpConfig, line: str) -> None:
    """The hub, how to get in where it asks for a key, the pages of the real stack, or what the user chose instead."""
    assert header_lines(local, MODEL)[2].plain == line


def test_with_the_real_stack_the_last_trace_is_a_link_to_jaeger() -> None:
    """The line is otherwise the same."""
    file = io.StringIO()
    with TerminalScreen(Console(file=file, force_terminal=True, width=120)) as screen:
        screen.show_started(REAL, MODEL)
        screen.show_traffic(NOW)
    shown = file.getvalue()
    assert "  traffic   20/s · 1,204 sent · 0 failed · last trace " in shown
    assert f";{JAEGER}/trace/{TRACE}\x1b\\{TRACE[:8]}…" in shown


def test_without_traffic_the_line_says_how_to_get_some() -> None:
    """With the address of this very service."""
    file = io.StringIO()
    with PlainScreen(Console(file=file, width=40)) as screen:
        screen.show_started(replace(LOCAL, rate=None), MODEL)
    assert "  traffic   none; start some: modeltrace traffic http://127.0.0.1:8000" in file.getvalue().splitlines()
