"""The overview and the list of traces in a real browser."""

import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from playwright.sync_api import Browser, Page, expect

from tests.helpers.otlp_sender import span
from tests.helpers.otlp_values import MS
from tests.helpers.sites import Site, running_site

pytestmark = pytest.mark.slow


def test_empty_list_links_to_instructions(page: Page, site: Site) -> None:
    """The empty list links to the instructions for sending telemetry."""
    page.goto("/traces")

    expect(page.get_by_text("No traces have arrived yet")).to_be_visible()
    page.get_by_role("link", name="how to send").click()
    expect(page.get_by_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={site.sender.endpoint}").first).to_be_visible()


def test_new_trace_appears_automatically(page: Page, site: Site) -> None:
    """A trace that arrives is listed without a reload."""
    page.goto("/traces")
    page.evaluate("window.notReloaded = true")

    trace_id = site.sender.prediction()

    expect(page.locator(f"a[href='./t/{trace_id}']").first).to_be_visible()
    assert page.evaluate("window.notReloaded")


def test_rows_do_not_move_under_the_pointer(page: Page, site: Site) -> None:
    """While the pointer is over the list, a button shows the number of new rows, and a click adds them."""
    first = site.sender.prediction()
    page.goto("/traces")
    row = page.locator("tr", has=page.locator(f"a[href='./t/{first}']"))
    row.hover()
    before = row.bounding_box()

    second = site.sender.prediction()

    fresh = page.get_by_role("button", name=re.compile("1 new"))
    expect(fresh).to_be_visible()
    assert row.bounding_box() == before
    fresh.click()
    expect(page.locator(f"a[href='./t/{second}']").first).to_be_visible()


def test_filters_are_in_the_address(page: Page, site: Site) -> None:
    """A filter of the form is in the address, is applied, and is still in the form."""
    fast, slow = site.sender.prediction(duration_ms=1.5), site.sender.prediction(duration_ms=700)
    page.goto("/traces")

    line = "duration > 500ms ml.prediction.label = benign"
    page.get_by_role("combobox", name="Filter").fill(line)
    page.get_by_role("button", name="Filter").click()

    expect(page.locator(f"a[href='./t/{slow}']").first).to_be_visible()
    expect(page.locator(f"a[href='./t/{fast}']")).to_have_count(0)
    expect(page.get_by_role("combobox", name="Filter")).to_have_value(line)
    assert parse_qs(urlsplit(page.url).query) == {"filter": [line]}


def test_the_filter_line_is_completed(page: Page, site: Site) -> None:
    """Names, operators and values of the stored records are offered; arrow keys and Enter choose one."""
    site.sender.prediction()
    page.goto("/traces")
    line = page.get_by_role("combobox", name="Filter")
    options = page.get_by_role("option")

    line.press_sequentially("servi")
    expect(options.first).to_contain_text("service")
    line.press("ArrowDown")
    line.press("Enter")
    expect(options).to_have_count(8)
    expect(line).to_have_value("service ")
    line.press_sequentially("= mod")
    expect(options).to_have_text(["modeltrace"])
    options.first.click()
    expect(line).to_have_value("service = modeltrace ")
    line.press("Escape")
    expect(options).to_have_count(0)
    line.press("Enter")

    expect(page).to_have_url(re.compile(r"filter=service\+%3D\+modeltrace"))


def test_a_page_can_be_paused(page: Page, site: Site) -> None:
    """The key p stops the updates, and the button continues them. In the filter line, p is a letter."""
    site.sender.prediction()
    page.goto("/traces")
    pause = page.get_by_role("button", name="Pause")
    page.get_by_role("combobox", name="Filter").press("p")
    expect(pause).to_have_attribute("aria-pressed", "false")
    page.locator("h1").evaluate("() => document.activeElement.blur()")
    page.keyboard.press("p")
    expect(pause).to_have_attribute("aria-pressed", "true")

    late = site.sender.prediction()
    page.wait_for_timeout(1500)  # more than three updates
    expect(page.locator(f"a[href='./t/{late}']")).to_have_count(0)
    pause.click()

    expect(page.locator(f"a[href='./t/{late}']").first).to_be_visible()


def test_invalid_filter_is_explained(page: Page) -> None:
    """The page names the position of the error, and still shows the list."""
    page.goto("/traces?filter=duration+%3E+fast")

    expect(page.get_by_role("alert")).to_contain_text("Filter: character 12: duration 'fast': a duration is")
    expect(page.get_by_role("table")).to_be_visible()


def test_the_time_range_stays_on_other_pages(page: Page, site: Site) -> None:
    """A range that is chosen on one page applies to the next, and to the way back from a trace."""
    trace_id = site.sender.prediction()
    page.goto("/traces")
    page.get_by_role("navigation", name="Time range").get_by_role("link", name="15 min").click()
    page.locator(f"a[href^='./t/{trace_id}']").first.click()
    page.get_by_role("link", name="Logs", exact=True).click()

    expect(page).to_have_url(re.compile(r"/logs\?since=15m$"))
    expect(page.get_by_role("navigation", name="Time range").locator("a[aria-current]")).to_have_text("15 min")
    page.locator(".time-range summary").click()
    page.get_by_label("From (UTC)").fill("2026-01-31T12:00:00")
    page.get_by_label("To (UTC)").fill("2026-01-31T13:00:00")
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile(r"since=2026-01-31T12%3A00&until=2026-01-31T13%3A00"))
    expect(page.get_by_text("No log record matches the filter in this time")).to_be_visible()


def test_older_traces_are_linked(page: Page, site: Site) -> None:
    """A list that is cut has a link to older traces."""
    older = site.sender.prediction(start_ns=time.time_ns() - 60_000 * MS)
    site.sender.prediction()
    page.goto("/traces?limit=1")

    expect(page.locator(f"a[href='./t/{older}']")).to_have_count(0)
    while not page.locator(f"a[href='./t/{older}']").count():
        page.get_by_role("link", name="Older traces").click()


def test_overview_counts_live(page: Page, site: Site) -> None:
    """The overview updates the number of stored records."""
    page.goto("/")
    stored = page.get_by_role("row", name=re.compile("^Spans")).get_by_role("cell")
    before = int(stored.nth(1).inner_text().replace(",", ""))

    site.sender.prediction()

    expect(stored.nth(1)).to_have_text(f"{before + 3:,}")


def test_services_link_to_their_traces(page: Page, site: Site) -> None:
    """The overview lists each service with a link to its traces."""
    site.sender.prediction()
    page.goto("/")

    page.get_by_role("table").get_by_role("link", name="modeltrace", exact=True).first.click()

    assert parse_qs(urlsplit(page.url).query) == {"filter": ["service = modeltrace"]}


def test_list_needs_no_script(browser: Browser, site: Site) -> None:
    """Filters and links work without JavaScript."""
    trace_id = site.sender.prediction()
    page = browser.new_page(base_url=site.url, java_script_enabled=False)
    page.goto("/traces")
    page.get_by_role("combobox", name="Filter").fill("name ~ predict")
    page.get_by_role("button", name="Filter").click()
    page.locator(f"a[href='./t/{trace_id}']").first.click()

    expect(page.get_by_text("inference").first).to_be_visible()
    page.close()


def test_markup_is_escaped(page: Page, site: Site) -> None:
    """Markup in a span name is shown, not run."""
    name = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
    site.sender.spans(span(b"\x01" * 16, name, time.time_ns(), 1, kind=Span.SPAN_KIND_SERVER))
    page.goto("/traces")

    expect(page.get_by_text(name, exact=True)).to_be_visible()
    expect(page).to_have_title(re.compile("^Traces"))


def test_stopped_hub(browser: Browser) -> None:
    """If the hub stops, the page says so and keeps its content."""
    with running_site() as site:
        trace_id = site.sender.prediction()
        page = browser.new_page(base_url=site.url)
        page.goto("/traces")
        expect(page.get_by_text("The hub is not responding")).to_be_hidden()

    expect(page.get_by_text("The hub is not responding")).to_be_visible()
    expect(page.locator(f"a[href='./t/{trace_id}']").first).to_be_visible()
    page.close()


def test_names_are_not_cut_at_1000_px(browser: Browser, site: Site) -> None:
    """A name of usual length is complete where another column has room."""
    site.sender.prediction()
    page = browser.new_page(base_url=site.url, viewport={"width": 1000, "height": 700})
    page.goto("/traces")

    name = page.locator(".traces td.name", has_text="POST /predict").first
    assert name.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
    page.close()


@pytest.mark.parametrize("path", ["/", "/traces"])
def test_narrow_screen(browser: Browser, site: Site, path: str) -> None:
    """At 390 px the page has no horizontal scroll bar."""
    site.sender.prediction()
    page = browser.new_page(base_url=site.url, viewport={"width": 390, "height": 844})
    page.goto(path)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


@pytest.mark.parametrize("path", ["/", "/traces"])
def test_the_clock_time_is_complete_on_a_narrow_screen(browser: Browser, site: Site, path: str) -> None:
    """At 390 px the time of day of each trace is not cut."""
    site.sender.prediction()
    page = browser.new_page(base_url=site.url, viewport={"width": 390, "height": 844})
    page.goto(path)
    cell = page.locator("td.started").first
    expect(cell).to_be_visible()
    assert cell.evaluate("cell => cell.scrollWidth - cell.clientWidth") <= 0
    page.close()
