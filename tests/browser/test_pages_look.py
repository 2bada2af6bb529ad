"""Contrast and content security policy of the pages."""

import time
from pathlib import Path
from typing import Literal

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from playwright.sync_api import Browser

from tests.helpers.otlp_sender import exception_event, log_record, span
from tests.helpers.sites import Site

pytestmark = pytest.mark.slow

CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def failed(site: Site) -> str:
    """Send a trace with errors, warnings and all other colours, and return its ID."""
    trace_id, start = b"\x0e" * 16, time.time_ns()
    events = [exception_event(start, "it failed", "Traceback")]
    root = span(
        trace_id,
        "POST /predict",
        start,
        9,
        kind=Span.SPAN_KIND_SERVER,
        error="it failed",
        events=events,
        attributes={"http.response.status_code": 500, "error.type": "ValueError"},
    )
    site.sender.spans(root, span(trace_id, "inference", start, 3, parent=root))
    site.sender.logs(
        log_record(trace_id, root, "soon", severity="WARN"), log_record(trace_id, root, "now", severity="ERROR")
    )
    return trace_id.hex()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser: Browser, site: Site, failed: str, scheme: Literal["light", "dark"]) -> None:
    """All text has the contrast of WCAG level AA, in light and dark mode."""
    paths = [
        "/",
        "/traces",
        "/traces?filter=duration+%3E+x",
        "/logs",
        "/logs?view=groups",
        f"/t/{failed}",
        f"/t/{site.sender.prediction()}",
        "/t/" + "7" * 32,
        "/sql?q=SELECT+name,+duration_ms,+trace_id+FROM+spans",
        "/sql?q=SELECT+start_ns+FROM+nothing",
        "/health",
        "/alerts",
        "/open",
    ]
    page = browser.new_page(base_url=site.url, color_scheme=scheme)
    faint = {}
    for path in paths:
        page.goto(path)
        faint[path] = page.evaluate(CONTRAST)
    page.close()

    assert faint == {path: [] for path in paths}


def test_the_theme_can_be_switched(browser: Browser, site: Site) -> None:
    """The button switches light and dark; the choice lasts over pages, and a choice of the system's is not stored."""
    context = browser.new_context(base_url=site.url, color_scheme="light")
    page = context.new_page()
    page.goto("/")

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.get_by_role("button", name="Light or dark").click()
    dark = background()
    page.goto("/traces")
    assert (background(), dark != light) == (dark, True)
    page.get_by_role("button", name="Light or dark").click()
    assert (background(), page.evaluate("localStorage.length")) == (light, 0)
    context.close()


def test_weak_contrast_is_detected(browser: Browser) -> None:
    """The contrast check detects grey on grey."""
    page = browser.new_page()
    page.set_content("<p style='color: #999; background: #ccc'>faint</p><p>clear</p>")

    assert page.evaluate(CONTRAST) == ["faint"]
    page.close()


def test_pages_run_their_own_files_only(browser: Browser, site: Site) -> None:
    """The content security policy allows no inline scripts or styles, and no external files."""
    page = browser.new_page(base_url=site.url)
    response = page.goto("/")
    assert response is not None
    policy = dict(part.strip().partition(" ")[::2] for part in response.headers["content-security-policy"].split(";"))
    page.close()

    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
