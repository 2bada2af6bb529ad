"""The updates of pages by server-sent events in a real browser."""

import re

import pytest
from playwright.sync_api import Page, Request, expect

from tests.helpers.sites import Site

pytestmark = pytest.mark.slow


def is_stream(request: Request) -> bool:
    """Whether a request opens a stream of updates."""
    return request.headers.get("accept") == "text/event-stream"


def test_one_stream_brings_all_updates(page: Page, site: Site) -> None:
    """A page that is open receives several updates with one request. While it is paused, it has no stream."""
    site.sender.prediction()
    opened: list[Request] = []
    ended: list[Request] = []
    page.on("request", lambda request: opened.append(request) if is_stream(request) else None)
    page.on("requestfailed", lambda request: ended.append(request) if is_stream(request) else None)
    page.goto("/traces")

    for _ in range(3):
        trace_id = site.sender.prediction()
        expect(page.locator(f"a[href='./t/{trace_id}']").first).to_be_visible()
    assert len(opened) == 1
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")

    while not ended:
        page.wait_for_timeout(50)
    page.wait_for_timeout(500)  # twice the time until a stream is opened again
    assert len(opened) == 1


def test_the_latest_traces_do_not_move_under_the_pointer(page: Page, site: Site) -> None:
    """On the overview, too, new rows wait behind a button while the pointer is over the list."""
    site.sender.prediction()
    page.goto("/")
    row = page.locator("table.traces tbody tr").first
    row.hover()
    key, top = row.get_attribute("data-key"), row.evaluate("row => row.getBoundingClientRect().top")

    site.sender.prediction()

    expect(page.get_by_role("button", name=re.compile("1 new"))).to_be_visible()
    same = page.locator(f"table.traces tr[data-key='{key}']")
    assert same.evaluate("row => row.getBoundingClientRect().top") == pytest.approx(top, abs=1)


def test_a_selected_span_stays_selected(page: Page, site: Site) -> None:
    """An update of the page of a trace keeps the span that was selected after the stream had begun."""
    trace_id = site.sender.prediction()
    page.goto(f"/t/{trace_id}")
    page.get_by_role("treeitem", name="inference").click()
    title = page.get_by_role("complementary").get_by_role("heading", level=2)
    expect(title).to_have_text("inference")

    site.sender.prediction()  # another version of every page
    page.wait_for_timeout(2000)  # an update of the page takes at most one second

    expect(title).to_have_text("inference")
    assert "span=" in page.url
