"""All pages follow the rules of axe-core about accessibility."""

import time
from typing import Literal

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from playwright.sync_api import Browser

from tests.helpers.frontend import node_modules
from tests.helpers.llm_telemetry import llm_trace
from tests.helpers.otlp_sender import exception_event, log_record, prediction_record, span
from tests.helpers.otlp_values import MS
from tests.helpers.sites import Site

pytestmark = [pytest.mark.slow, pytest.mark.extended]

WIDTHS = (1400, 1000, 390)
# The whole of axe-core, with its best practices. The result names each rule that is broken, and the elements.
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations.flatMap(
    (rule) => rule.nodes.map((node) => `${rule.id}: ${node.html.slice(0, 160)}`))"""


@pytest.fixture(scope="module")
def paths(site: Site) -> list[str]:
    """Send telemetry that fills all parts of the pages, and return the paths of the pages."""
    prediction = site.sender.prediction()
    trace_id, start = b"\x0c" * 16, time.time_ns() - 20 * MS
    root = span(trace_id, "POST /predict/batch", start, 12, kind=Span.SPAN_KIND_SERVER, error="it failed")
    event = exception_event(start + 9 * MS, "it failed", "Traceback (most recent call last)")
    children = [span(trace_id, f"step {n}", start, 2, parent=root, events=[event]) for n in range(80)]
    children[0].links.append(Span.Link(trace_id=bytes.fromhex(prediction), span_id=b"\1" * 8))
    site.sender.spans(root, *children)
    site.sender.logs(
        *(prediction_record(trace_id, root, row=row, label="benign") for row in range(3)),
        log_record(trace_id, root, "soon", severity="WARN"),
        log_record(trace_id, root, "now", severity="ERROR"),
    )
    calls = llm_trace(b"\x0d" * 16)
    site.sender.spans(*calls)
    return [
        "/",
        "/traces",
        "/llm-calls",
        f"/t/{'0d' * 16}?span={calls[1].span_id.hex()}",
        "/traces?min_duration=x",
        "/logs",
        "/logs?view=groups",
        "/models",
        "/predictions",
        "/metrics",
        "/services",
        "/services?view=map",
        "/sql",
        "/open",
        "/health",
        "/alerts",
        "/explain",
        "/explain?select.error=true",
        f"/t/{prediction}",
        f"/t/{trace_id.hex()}",
        f"/t/{'7' * 32}",
        f"/compare?a={prediction}",
        f"/compare?a={prediction}&b={trace_id.hex()}",
        "/no/such/page",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(browser: Browser, site: Site, paths: list[str], scheme: Literal["light", "dark"]) -> None:
    """axe-core finds nothing on any page, at three widths, in light and dark colours."""
    axe = (node_modules() / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    problems: list[str] = []
    page = browser.new_page(base_url=site.url, color_scheme=scheme)
    page.set_default_timeout(60_000)
    for path in paths:
        page.goto(path)
        if page.locator(".waterfall").count():
            page.get_by_role("tree").wait_for()
        page.evaluate(axe)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            problems += [f"{path} at {width} px: {problem}" for problem in page.evaluate(RUN)]
    page.close()

    assert not problems, "\n".join(problems)
