"""The heatmap of traces and the pages of metrics and services in a real browser."""

import re
import time

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.helpers.otlp_values import MS
from tests.helpers.sites import Site

pytestmark = pytest.mark.slow
PATHS = ("/traces?select.error=true", "/metrics", "/metrics?name=http.server.request.duration", "/services?view=map")


def send(site: Site) -> None:
    """Send quick predictions and slow ones."""
    now = time.time_ns()
    for number in range(8):
        site.sender.prediction(start_ns=now - number * 1000 * MS, duration_ms=4)
        site.sender.prediction(start_ns=now - number * 1000 * MS, duration_ms=900)


def test_a_drawn_rectangle_selects_its_traces(page: Page, site: Site) -> None:
    """The rectangle is in the address, stays visible, and its traces are listed and explained; Escape abandons it."""
    send(site)
    page.goto("/traces")
    box = page.locator(".heatmap .field").bounding_box()
    assert box is not None

    def draw() -> None:
        page.mouse.move(box["x"] + 2, box["y"] + 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 1, box["y"] + box["height"] / 3, steps=4)

    draw()
    expect(page.locator(".heatmap .selection")).to_be_visible()
    page.keyboard.press("Escape")
    page.mouse.up()
    expect(page.locator(".heatmap .selection")).to_have_count(0)

    draw()
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"select\.since=[\d.]+&select\.until=[\d.]+&select\.min_duration=\d+ns"))
    expect(page.locator(".heatmap .selection")).to_be_visible()
    expect(page.get_by_role("heading", name="What is more frequent among")).to_be_visible()
    durations = page.locator(".traces .duration .numeric")
    expect(durations.first).to_have_text(re.compile("9\\d\\d"))
    assert all(text.startswith("90") for text in durations.all_inner_texts())


def test_a_cell_selects_its_traces_without_scripts(browser: Browser, site: Site) -> None:
    """A cell is a link; the selection can be cleared."""
    send(site)
    page = browser.new_page(base_url=site.url, java_script_enabled=False)
    page.goto("/traces")
    page.locator(".heatmap .cells a").last.click()
    expect(page.get_by_role("heading", name="The selected traces")).to_be_visible()
    page.get_by_role("link", name="Clear selection").click()
    expect(page.get_by_role("heading", name="The selected traces")).to_have_count(0)
    page.close()


def test_an_exemplar_leads_to_its_trace(page: Page, site: Site) -> None:
    """A dot on the chart of a histogram opens the trace."""
    send(site)
    page.goto("/metrics")
    page.get_by_role("link", name="http.server.request.duration").click()
    page.locator(".exemplar-dot").last.click()
    expect(page).to_have_url(re.compile(r"/t/[0-9a-f]{32}\?span="))


@pytest.mark.parametrize("path", PATHS)
def test_charts_on_a_narrow_screen(browser: Browser, site: Site, path: str) -> None:
    """At 390 px the pages have no horizontal scroll bar."""
    send(site)
    page = browser.new_page(base_url=site.url, viewport={"width": 390, "height": 844})
    page.goto(path)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
