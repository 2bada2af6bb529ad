"""Pages at a width of 390 px: nothing is wider than the screen, and lists of few columns need no horizontal scroll."""

import time
from collections.abc import Iterator
from secrets import token_bytes

import pytest
from playwright.sync_api import Browser, Page

from tests.helpers.llm_telemetry import llm_trace
from tests.helpers.metric_points import SECOND, gauge
from tests.helpers.model_features import Feature
from tests.helpers.model_telemetry import ModelService
from tests.helpers.otlp_sender import Sender
from tests.helpers.sites import Site, running_site

pytestmark = pytest.mark.slow

FEATURES = (Feature("age", shift=1.0), Feature("city", ("bern", "basel")))
MODEL = "/predictions?model=churn"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Yield a hub with predictions, labels, log records and spans of a model with two versions."""
    with running_site() as site:
        for version in ("1.0.0", "1.1.0"):
            service = ModelService(Sender(site.sender.endpoint, instance=version), "churn", version, FEATURES)
            service.start()
            service.label(service.predict(300, recorded=30)[-1], "no", "yes")
            service.export()
        yield site


@pytest.fixture
def narrow(browser: Browser, site: Site) -> Iterator[Page]:
    """Yield a page of 390 px."""
    page = browser.new_page(base_url=site.url, viewport={"width": 390, "height": 844})
    page.set_default_timeout(30_000)
    yield page
    page.close()


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/models", "/models?model=churn", MODEL, f"{MODEL}&outcome=labelled", "/logs", "/logs?view=groups"),
        *("/services", "/services?view=map", "/traces", "/metrics", "/health", "/sql"),
        f"/explain?of=predictions&model=churn&select.version=1.1.0&since={int(time.time()) - 7200}",
    ],
)
def test_no_page_is_wider_than_the_screen(narrow: Page, path: str) -> None:
    """The page has no horizontal scroll bar: wide tables scroll in their own box."""
    narrow.goto(path)

    assert narrow.locator("html").evaluate("root => root.scrollWidth") <= 390


@pytest.mark.parametrize("path", ["/services", "/logs?view=groups"])
def test_lists_show_their_main_columns(narrow: Page, path: str) -> None:
    """Without the columns of second importance, the list is not cut."""
    narrow.goto(path)
    boxes = narrow.locator(".wide:has(.list)")

    assert boxes.count() == 1
    assert boxes.first.evaluate("box => box.scrollWidth - box.clientWidth") <= 0


def test_rows_with_many_columns_are_cards(browser: Browser) -> None:
    """Each cell of alerts and of LLM calls is visible, with the name of its column."""
    with running_site() as site:
        site.sender.spans(*llm_trace(token_bytes(16)))
        active = gauge("http.server.active_requests", "1", [((), 0.0)], time.time_ns() - 600 * SECOND)
        Sender(site.sender.endpoint, service="shop").metrics(active)
        page = browser.new_page(base_url=site.url, viewport={"width": 390, "height": 844})
        for path, label in (("/alerts", "What"), ("/llm-calls", "Result")):
            page.goto(path)
            box = page.locator(".wide:has(.list)")
            assert box.evaluate("box => box.scrollWidth - box.clientWidth") <= 0, path
            cell = page.locator(f"td[data-label={label}]").first
            assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == f'"{label}: "'
        page.close()


def test_titles_name_what_the_page_shows(narrow: Page) -> None:
    """The title of a page names the list, the model and the version that it shows."""
    titles = {}
    for path in (
        *("/models", "/models?model=churn", MODEL, f"{MODEL}&version=1.0.0&outcome=incorrect", "/logs?view=groups"),
        *("/services?view=map", "/explain?of=predictions&model=churn", "/explain", "/compare"),
    ):
        narrow.goto(path)
        titles[path] = narrow.title().removesuffix(" · Modeltrace").strip()

    assert list(titles.values()) == [
        "Models",
        "Model churn",
        "Predictions of churn",
        "Labels of churn 1.0.0",
        "Groups of log records",
        "Service map",
        "What distinguishes predictions of churn",
        "What distinguishes traces",
        "Compare traces",
    ]


def test_the_prediction_precedes_the_attributes_of_the_span(narrow: Page) -> None:
    """The page of a trace has the waterfall, the prediction, the selected span and then all other sections."""
    narrow.goto(MODEL)
    narrow.locator("a[href*='t/']").first.click()
    narrow.wait_for_selector("#prediction")
    selectors = [".waterfall", "#prediction", ".detail", "#logs"]
    tops = [narrow.locator(selector).first.evaluate("e => e.getBoundingClientRect().top") for selector in selectors]

    assert tops == sorted(tops)


def test_shortened_numbers_stay_on_one_line(narrow: Page) -> None:
    """The button that copies a number is not broken, unlike that of an ID."""
    narrow.goto(MODEL)
    html = "<button class='id number'>-0.123456</button>"
    narrow.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", html)
    wrap = narrow.locator("body > .number").evaluate("e => getComputedStyle(e).whiteSpace")

    assert wrap == "nowrap"
