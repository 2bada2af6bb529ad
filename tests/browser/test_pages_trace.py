"""The page of one trace in a real browser."""

import re
import time
from itertools import pairwise
from secrets import token_bytes

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from playwright.sync_api import Browser, Page, expect

from tests.helpers.otlp_sender import exception_event, log_record, prediction_record, span
from tests.helpers.otlp_values import MS
from tests.helpers.sites import Site

pytestmark = pytest.mark.slow

ROWS = 10_000


@pytest.fixture(scope="module")
def failed(site: Site) -> str:
    """Send a trace in which the model raised, and return its ID."""
    trace_id, start = token_bytes(16), time.time_ns() - 20 * MS
    root = span(trace_id, "POST /predict", start, 12, kind=Span.SPAN_KIND_SERVER, error="")
    event = exception_event(start + 9 * MS, "Input X contains NaN.", "Traceback (most recent call last):\n  nowhere\n")
    inference = span(trace_id, "inference", start + 2 * MS, 8, parent=root, error="it raised", events=[event])
    site.sender.spans(root, inference)
    site.sender.logs(
        log_record(trace_id, inference, "the model failed", severity="ERROR"), scope="modeltrace.inference"
    )
    return trace_id.hex()


@pytest.fixture(scope="module")
def batch(site: Site) -> str:
    """Send a trace with 10,000 predictions, and return its ID."""
    trace_id, start = token_bytes(16), time.time_ns() - 900 * MS
    root = span(trace_id, "POST /predict/batch", start, 850, kind=Span.SPAN_KIND_SERVER)
    site.sender.spans(root)
    for first in range(0, ROWS, 2500):
        records = (
            prediction_record(trace_id, root, row=row, label=f"label {row}") for row in range(first, first + 2500)
        )
        site.sender.logs(*records)
    return trace_id.hex()


def open_trace(page: Page, trace_id: str) -> None:
    """Open the page of a trace, and wait until its script has drawn the waterfall."""
    page.goto(f"/t/{trace_id}")
    expect(page.get_by_role("treeitem").first).to_be_attached(timeout=30_000)


def test_everything_of_a_prediction_is_on_its_page(page: Page, site: Site) -> None:
    """Spans, output, inputs, log records and the exemplar are on one page."""
    page.goto(f"/t/{site.sender.prediction()}")

    expect(page.locator(".waterfall li")).to_have_count(3)
    expect(page.get_by_role("region", name="Prediction", exact=True)).to_contain_text("benign")
    expect(page.get_by_role("definition").filter(has_text="17.25")).to_be_visible()
    expect(page.locator(".logs").get_by_text("model answered")).to_be_visible()
    metrics = page.get_by_role("region", name="Metric points")
    expect(metrics).to_contain_text("http.server.request.duration")
    expect(metrics.locator(".exemplar")).to_have_count(1)


def test_selecting_a_span_shows_it(page: Page, site: Site) -> None:
    """A click on a span shows its details and adds it to the address, without a reload."""
    open_trace(page, site.sender.prediction())
    page.evaluate("window.notReloaded = true")

    page.get_by_role("treeitem", name="inference").click()

    expect(page.get_by_role("complementary")).to_contain_text("inference")
    expect(page).to_have_url(re.compile("span=[0-9a-f]{16}"))
    assert page.evaluate("window.notReloaded")


def test_keys_move_the_selection(page: Page, site: Site) -> None:
    """j selects the next span, k the previous one."""
    open_trace(page, site.sender.prediction())
    details = page.get_by_role("complementary").get_by_role("heading", level=2)
    expect(details).to_have_text("POST /predict")

    page.keyboard.press("j")
    expect(details).to_have_text("validate")
    page.keyboard.press("j")
    expect(details).to_have_text("inference")
    page.keyboard.press("k")
    expect(details).to_have_text("validate")


def test_folding_hides_children(page: Page, site: Site) -> None:
    """A folded span hides the spans below it; so does "Collapse all"."""
    open_trace(page, site.sender.prediction())
    rows = page.get_by_role("treeitem")
    expect(rows).to_have_count(3)

    page.locator("[data-fold]").click()
    expect(rows).to_have_count(1)
    expect(rows.first).to_have_attribute("aria-expanded", "false")
    page.locator("[data-fold]").click()
    expect(rows).to_have_count(3)
    page.get_by_role("button", name="Collapse all").click()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Expand all").click()
    expect(rows).to_have_count(3)


def test_the_waterfall_is_one_tab_stop(page: Page, site: Site) -> None:
    """One row can be reached with the tab key. From there, the arrow keys move, fold and unfold."""
    open_trace(page, site.sender.prediction())
    rows = page.get_by_role("treeitem")
    expect(rows).to_have_count(3)
    assert page.locator('.waterfall ol :is(a, button):not([tabindex="-1"])').count() == 1

    page.locator('.waterfall ol [tabindex="0"]').focus()
    page.keyboard.press("End")
    expect(page.locator(":focus")).to_contain_text("inference")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(":focus")).to_contain_text("POST /predict")
    page.keyboard.press("ArrowLeft")
    expect(rows).to_have_count(1)
    page.keyboard.press("ArrowRight")
    expect(rows).to_have_count(3)
    page.keyboard.press("ArrowRight")
    expect(page.locator(":focus")).to_contain_text("validate")


def test_logs_of_one_span(page: Page, site: Site) -> None:
    """The log records are those of the whole trace, or of the selected span."""
    open_trace(page, site.sender.prediction())
    records = page.locator(".logs > li")
    expect(records).to_have_count(2)

    page.get_by_role("treeitem", name="inference").click()
    page.get_by_role("link", name="This span").click()

    expect(records).to_have_count(1)
    expect(records).to_contain_text("model answered")


def test_the_failed_span_is_selected_at_first(page: Page, failed: str) -> None:
    """The page of a failed trace selects the span where the error began, with exception and stack trace."""
    open_trace(page, failed)

    details = page.get_by_role("complementary")
    expect(details.get_by_role("heading", level=2)).to_have_text("inference")
    expect(details).to_contain_text("Input X contains NaN.")
    details.get_by_text("Stack trace").click()
    expect(details.get_by_text("Traceback (most recent call last)")).to_be_visible()


def test_page_waits_for_its_trace(page: Page, site: Site) -> None:
    """The page of a trace that has not arrived says so, and shows the trace when it arrives."""
    trace_id = token_bytes(16)
    page.goto(f"/t/{trace_id.hex()}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Trace not found")

    site.sender.prediction(trace_id)

    expect(page.get_by_role("heading", level=1)).to_have_text("POST /predict")


def test_late_records_appear(page: Page, site: Site) -> None:
    """Records that arrive after the first spans appear, and the selection stays. Rows keep their height."""
    trace_id, start = token_bytes(16), time.time_ns()
    root = span(trace_id, "late", start, 5, kind=Span.SPAN_KIND_SERVER)
    child = span(trace_id, "child", start, 2, parent=root)
    site.sender.spans(root, child)
    open_trace(page, trace_id.hex())
    expect(page.get_by_text("No log records have arrived")).to_be_visible()
    page.get_by_role("treeitem", name="child").click()

    site.sender.logs(log_record(trace_id, root, "better late"))

    expect(page.locator(".logs").get_by_text("better late")).to_be_visible()
    expect(page.get_by_role("complementary").get_by_role("heading", level=2)).to_have_text("child")

    site.sender.spans(span(trace_id, "grandchild", start, 1, parent=child))
    rows = page.get_by_role("treeitem")
    expect(rows).to_have_count(3)
    expect(page.get_by_role("tree", name="Spans")).to_have_count(1)
    expect(page.get_by_role("treeitem", selected=True)).to_contain_text("child")
    tops = [box["y"] for row in rows.all() if (box := row.bounding_box())]
    assert [round(after - before) for before, after in pairwise(sorted(tops))] == [23, 23]


def test_open_details_stay_open(page: Page, site: Site) -> None:
    """Unfolded details stay unfolded when records arrive."""
    trace_id, start = token_bytes(16), time.time_ns()
    root = span(trace_id, "reading", start, 5, kind=Span.SPAN_KIND_SERVER)
    site.sender.spans(root)
    page.goto(f"/t/{trace_id.hex()}")
    page.get_by_text("Resource, scope and times").click()

    site.sender.logs(log_record(trace_id, root, "meanwhile"))

    expect(page.locator(".logs").get_by_text("meanwhile")).to_be_visible()
    expect(page.get_by_text("service.instance.id")).to_be_visible()


def test_identifiers_copy_on_click(page: Page, site: Site) -> None:
    """A click on the trace ID copies it to the clipboard."""
    trace_id = site.sender.prediction()
    page.goto(f"/t/{trace_id}")

    page.get_by_role("button", name=f"{trace_id}: copy trace ID").click()

    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == trace_id


def test_large_batch_is_paged(page: Page, batch: str) -> None:
    """Fifty of 10,000 predictions are on a page, with a link to the next fifty."""
    page.goto(f"/t/{batch}")
    rows = page.locator(".predictions tbody tr")
    expect(rows).to_have_count(50)
    expect(page.get_by_text("of 10,000")).to_be_visible()

    page.get_by_role("link", name="next 50").click()
    expect(rows.first).to_contain_text("label 50")

    page.locator(".predictions").get_by_role("link", name="57", exact=True).click()
    expect(page.locator(".summary.output")).to_contain_text("label 57")


@pytest.fixture(scope="module")
def nightly(site: Site) -> str:
    """Send a trace with 10,000 spans, of which two failed, and return its ID."""
    trace_id, start = token_bytes(16), time.time_ns()
    root = span(trace_id, "nightly", start, 5000)
    chunks = [
        span(
            trace_id,
            f"chunk {n}",
            start + n * MS // 2,
            1,
            parent=root,
            attributes={"customer": f"c{n}"},
            error="" if n in {7_000, 9_000} else None,
        )
        for n in range(ROWS)
    ]
    site.sender.spans(root)
    for first in range(0, ROWS, 2000):
        site.sender.spans(*chunks[first : first + 2000])
    return trace_id.hex()


def test_ten_thousand_spans_are_windowed(page: Page, nightly: str) -> None:
    """The document has only the rows in the scrolled area. The failed span is selected and visible at first."""
    open_trace(page, nightly)
    rows = page.get_by_role("treeitem")
    failed = rows.filter(has_text="chunk 7000")
    expect(failed).to_be_in_viewport()
    expect(failed).to_have_attribute("aria-selected", "true")
    assert rows.count() < 100

    page.locator(".waterfall .rows").evaluate("area => area.scrollTo(0, area.scrollHeight)")
    expect(rows.filter(has_text=f"chunk {ROWS - 1}")).to_be_in_viewport()
    page.locator(".minimap").click(position={"x": 100, "y": 28})
    expect(rows.filter(has_text="chunk 5000")).to_be_in_viewport()


def test_steps_through_errors(page: Page, nightly: str) -> None:
    """The key e and the buttons select the next and the previous failed span; after the last one comes the first."""
    open_trace(page, nightly)
    details = page.get_by_role("complementary").get_by_role("heading", level=2)
    expect(details).to_have_text("chunk 7000")
    expect(page.get_by_text("1 of 2")).to_be_visible()

    page.keyboard.press("e")
    expect(details).to_have_text("chunk 9000")
    expect(page.get_by_role("treeitem").filter(has_text="chunk 9000")).to_be_in_viewport()
    page.get_by_role("link", name="Next error").click()
    expect(details).to_have_text("chunk 7000")
    page.keyboard.press("Shift+E")
    expect(details).to_have_text("chunk 9000")


def test_spans_are_searched(page: Page, nightly: str) -> None:
    """A search marks spans by attribute, and the return key selects the next one. The address contains the text."""
    open_trace(page, nightly)
    field = page.get_by_role("searchbox", name="Search the spans of this trace")
    field.fill("C42")
    field.press("Enter")

    expect(page.locator('[data-tool="match"]')).to_contain_text("of 111")
    expect(page.locator(".waterfall li.match").first).to_be_in_viewport()
    assert "q=C42" in page.url


def test_nothing_moves_while_the_page_loads(browser: Browser, site: Site, nightly: str) -> None:
    """The layout shift is at most 0.02, for a small and for a large trace."""
    for trace_id in (site.sender.prediction(), nightly):
        page = browser.new_page(base_url=site.url, viewport={"width": 1400, "height": 900})
        page.add_init_script(
            "window.shift = 0; new PerformanceObserver((list) => { for (const entry of list.getEntries())"
            " window.shift += entry.value; }).observe({ type: 'layout-shift', buffered: true });"
        )
        open_trace(page, trace_id)
        selected = page.get_by_role("treeitem", selected=True).get_attribute("data-span")
        page.keyboard.press("j")
        expect(page.locator(f'.detail > .sticky:not([data-key^="{selected}"])')).to_be_visible()
        assert page.evaluate("window.shift") <= 0.02
        page.close()


def test_the_rows_of_the_script_are_those_of_the_server(browser: Browser, page: Page, failed: str) -> None:
    """The script draws each row with the same texts and bars as the server."""
    texts = "rows => rows.map((row) => [row.innerText.trim(), row.querySelectorAll('rect, circle').length])"
    plain = browser.new_page(base_url=page.url, java_script_enabled=False)
    page.goto(f"/t/{failed}")
    expect(page.get_by_role("treeitem")).to_have_count(2)
    plain.goto(page.url)

    assert page.locator(".waterfall li").evaluate_all(texts) == plain.locator(".waterfall li").evaluate_all(texts)
    plain.close()


def test_large_trace_needs_no_script(browser: Browser, site: Site, nightly: str) -> None:
    """Without JavaScript, the waterfall has pages, search and steps through errors; the page of the span is shown."""
    page = browser.new_page(base_url=site.url, java_script_enabled=False)
    page.goto(f"/t/{nightly}")
    rows = page.locator(".waterfall li")
    expect(rows).to_have_count(500)
    expect(rows.first).to_contain_text("chunk 6999")
    page.get_by_role("link", name="next 500").click()
    expect(rows.first).to_contain_text("chunk 7499")
    page.get_by_role("link", name="Next error").click()
    expect(rows.first).to_contain_text("chunk 8999")
    page.get_by_role("searchbox", name="Search the spans of this trace").fill("c123")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("li.match").first).to_contain_text("chunk 123")
    expect(page.locator('[data-tool="match"]')).to_contain_text("1 of 11")
    page.close()


def test_links_lead_in_both_directions(page: Page, site: Site) -> None:
    """A span shows the names of the spans that it links to, and of those that link to it."""
    start = time.time_ns()
    request = span(token_bytes(16), "POST /predict", start, 5)
    link = Span.Link(trace_id=request.trace_id, span_id=request.span_id)
    batch = span(token_bytes(16), "shared batch", start, 3)
    batch.links.append(link)
    site.sender.spans(request, batch)

    page.goto(f"/t/{request.trace_id.hex()}")
    page.get_by_role("complementary").get_by_role("link", name="shared batch").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("shared batch")
    page.get_by_role("complementary").get_by_role("link", name="POST /predict").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("POST /predict")


def test_a_log_record_opens_from_its_mark(page: Page, site: Site) -> None:
    """A click on the mark of a log record in the waterfall opens the record, and selects its span."""
    open_trace(page, site.sender.prediction())
    expect(page.get_by_role("treeitem")).to_have_count(3)
    page.locator(".waterfall li").filter(has_text="inference").locator("circle.mark").click()

    record = page.locator(".logs details[open]")
    expect(record).to_contain_text("model answered")
    expect(page.get_by_role("complementary").get_by_role("heading", level=2)).to_have_text("inference")


def test_rows_of_a_batch_are_sorted(page: Page, batch: str) -> None:
    """A click on a column sorts all predictions of the batch by it; another one reverses the order."""
    page.goto(f"/t/{batch}")
    first = page.locator(".predictions tbody tr").first
    expect(first).to_contain_text("label 0")
    page.locator(".predictions").get_by_role("link", name="Row").click()
    expect(first).to_contain_text(f"label {ROWS - 1}")
    page.locator(".predictions").get_by_role("link", name="Output").click()
    expect(first).to_contain_text("label 0")
    page.locator(".predictions").get_by_role("link", name="Output").click()
    expect(first).to_contain_text("label 9999")


def test_markup_is_escaped(page: Page, site: Site) -> None:
    """Markup in names, attributes, bodies and stack traces is shown, not run."""
    markup = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
    trace_id, start = token_bytes(16), time.time_ns()
    event = exception_event(start, markup, markup)
    root = span(trace_id, markup, start, 5, attributes={markup: markup}, error=markup, events=[event])
    site.sender.spans(root)
    site.sender.logs(log_record(trace_id, root, markup, attributes={markup: markup}), scope=markup)
    page.goto(f"/t/{trace_id.hex()}")

    expect(page.get_by_role("heading", level=1)).to_have_text(markup)
    expect(page.locator(".logs")).to_contain_text(markup)
    assert page.locator("main img, main script").count() == 0
    assert "run" not in page.title().split(" · ")[-1]


def test_not_a_trace_id(page: Page) -> None:
    """The page says that an invalid trace ID is invalid."""
    page.goto("/t/nonsense")

    expect(page.get_by_text("is not a trace ID")).to_be_visible()


def test_trace_is_found_by_its_id(page: Page, site: Site) -> None:
    """The field in the header opens a trace, with its ID in upper or lower case."""
    trace_id = site.sender.prediction()
    page.goto("/")
    page.get_by_role("search").get_by_role("textbox").fill(f" {trace_id.upper()} ")
    page.keyboard.press("Enter")

    expect(page).to_have_url(re.compile(f"/t/{trace_id}$"))


def test_trace_page_needs_no_script(browser: Browser, site: Site) -> None:
    """Without JavaScript, a span is selected by its link."""
    trace_id = site.sender.prediction()
    page = browser.new_page(base_url=site.url, java_script_enabled=False)
    page.goto(f"/t/{trace_id}")
    page.locator(".waterfall").get_by_role("link", name="validate").click()

    expect(page.get_by_role("complementary").get_by_role("heading", level=2)).to_have_text("validate")
    page.close()


def test_trace_page_on_a_narrow_screen(browser: Browser, site: Site, failed: str) -> None:
    """At 390 px the page has no horizontal scroll bar."""
    for trace_id in (failed, site.sender.prediction()):
        page = browser.new_page(base_url=site.url, viewport={"width": 390, "height": 844})
        page.goto(f"/t/{trace_id}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.close()
