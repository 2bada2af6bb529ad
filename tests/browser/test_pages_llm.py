"""LLM calls in a real browser: the conversation of a span, and the list."""

import re
from secrets import token_bytes

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.helpers.llm_telemetry import LONG, llm_trace
from tests.helpers.otlp_sender import log_record
from tests.helpers.sites import Site

pytestmark = pytest.mark.slow


@pytest.fixture
def trace(site: Site) -> tuple[bytes, str]:
    """Send a trace with LLM calls, and return its ID and the address of the first call."""
    trace_id = token_bytes(16)
    spans = llm_trace(trace_id)
    site.sender.spans(*spans)
    return trace_id, f"/t/{trace_id.hex()}?span={spans[1].span_id.hex()}"


def test_a_long_text_is_folded(page: Page, site: Site, trace: tuple[bytes, str]) -> None:
    """A click opens and closes the text, and it stays open while the page updates itself."""
    trace_id, address = trace
    page.goto(address)
    conversation = page.get_by_role("list", name="Messages")
    expect(conversation.get_by_role("listitem")).to_have_count(5)
    expect(conversation).to_contain_text("How is the weather in <b>Paris</b>?")
    full = conversation.get_by_text(LONG.strip(), exact=True)
    expect(full).to_be_hidden()

    conversation.locator("summary").click()
    expect(full).to_be_visible()
    site.sender.logs(log_record(trace_id, llm_trace(trace_id)[0], "one more record"))
    expect(page.get_by_text("one more record")).to_be_visible()
    expect(full).to_be_visible()

    conversation.locator("summary").click()
    expect(full).to_be_hidden()


def test_another_span_shows_its_own_conversation(page: Page, trace: tuple[bytes, str]) -> None:
    """The script of the waterfall loads the conversation with the details of the span."""
    page.goto(trace[1])
    page.get_by_role("tree").get_by_text("execute_tool get_weather").click()
    expect(page.get_by_role("list", name="Messages").get_by_role("listitem")).to_have_count(1)
    expect(page.locator(".detail")).to_contain_text("result get_weather")


def test_the_trace_leads_to_the_list_and_back(page: Page, trace: tuple[bytes, str]) -> None:
    """The sum of the tokens links to the calls of the trace, a model to its calls, and a call to its span."""
    trace_id, address = trace
    page.goto(address)
    page.get_by_role("link", name="2 LLM calls · 1,250 → 40 tokens").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody")).to_contain_text("RateLimitError")

    page.get_by_role("link", name="gpt-4o", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="chat gpt-4o", exact=True).click()
    expect(page).to_have_url(re.compile(f"/t/{trace_id.hex()}"))


def test_new_calls_appear_automatically(page: Page, site: Site, trace: tuple[bytes, str]) -> None:
    """A call that arrives is listed without a reload."""
    page.goto("/llm-calls?filter=error+%3D+true")
    rows = page.locator("tbody tr")
    expect(rows.first).to_contain_text("gpt-4o-mini")
    page.evaluate("window.notReloaded = true")
    count = rows.count()

    site.sender.spans(*llm_trace(token_bytes(16)))

    expect(rows).to_have_count(count + 1)
    assert page.evaluate("window.notReloaded")
    assert trace


def test_conversations_need_no_script(browser: Browser, site: Site, trace: tuple[bytes, str]) -> None:
    """Without JavaScript, a text can be opened."""
    page = browser.new_page(base_url=site.url, java_script_enabled=False)
    page.goto(trace[1])
    page.locator(".conversation summary").click()
    expect(page.get_by_text(LONG.strip(), exact=True)).to_be_visible()
    page.close()


def test_conversations_fit_on_a_narrow_screen(browser: Browser, site: Site, trace: tuple[bytes, str]) -> None:
    """At 390 px the pages have no horizontal scroll bar."""
    page = browser.new_page(base_url=site.url, viewport={"width": 390, "height": 844})
    for address in (trace[1], "/llm-calls", "/traces"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
    page.close()
