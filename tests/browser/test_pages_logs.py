"""The page of log records in a real browser."""

import re
import time
from secrets import token_bytes

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.helpers.otlp_sender import log_record, span
from tests.helpers.sites import Site

pytestmark = pytest.mark.slow


def send(site: Site, text: str, severity: str = "INFO") -> str:
    """Send a log record in a span, and return its trace ID."""
    trace_id = token_bytes(16)
    root = span(trace_id, "GET /basket", time.time_ns(), 3)
    site.sender.spans(root)
    site.sender.logs(log_record(trace_id, root, text, severity=severity), scope="shop")
    return trace_id.hex()


def test_new_records_appear_automatically(page: Page, site: Site) -> None:
    """A record that arrives is listed without a reload."""
    send(site, "first")
    page.goto("/logs")
    page.evaluate("window.notReloaded = true")

    send(site, "second")

    expect(page.locator(".logs li", has_text="second")).to_be_visible()
    assert page.evaluate("window.notReloaded")


def test_a_record_leads_to_its_span_and_back(page: Page, site: Site) -> None:
    """An open record links to its span; the record on that page links to its neighbours."""
    trace_id = send(site, "with a span", "ERROR")
    page.goto("/logs?severity=ERROR")
    record = page.locator(".logs li", has_text="with a span").first
    record.locator("summary").first.click()
    record.get_by_role("link", name="open span").click()
    expect(page).to_have_url(re.compile(f"/t/{trace_id}"))

    page.locator(".logs summary", has_text="with a span").click()
    page.get_by_role("link", name="around this record").click()

    expect(page.locator(".logs li[aria-current]")).to_contain_text("with a span")


def test_log_records_need_no_script(browser: Browser, site: Site) -> None:
    """Filters, groups and details work without JavaScript."""
    send(site, "order 17 shipped")
    send(site, "order 18 shipped")
    page = browser.new_page(base_url=site.url, java_script_enabled=False)
    page.goto("/logs")
    page.get_by_role("combobox", name="Filter").fill("text ~ order")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="Groups").click()
    page.get_by_role("link", name="order <n> shipped").click()

    expect(page.locator(".logs li")).to_have_count(2)
    page.close()


def test_log_records_on_a_narrow_screen(browser: Browser, site: Site) -> None:
    """At 390 px the page has no horizontal scroll bar."""
    send(site, "a long text " * 40)
    page = browser.new_page(base_url=site.url, viewport={"width": 390, "height": 844})
    page.goto("/logs")

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
