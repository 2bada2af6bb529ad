"""The charts of labelled predictions on the page of a model, in a real browser."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.helpers.labelled_predictions import Prediction, model_event, prediction_logs
from tests.helpers.otlp_messages import log_request
from tests.helpers.sites import Site, running_site

pytestmark = pytest.mark.slow

CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
CLASSES = ("no", "yes")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Yield a hub with 200 labelled predictions of a classifier and of a regressor."""
    rng = np.random.default_rng(8)
    now = time.time_ns() - 60 * 10**9
    classified, regressed = [], []
    for number, (score, draw) in enumerate(zip(rng.random(200), rng.random(200), strict=True)):
        label, truth = (CLASSES[int(value)] for value in (score > 0.5, draw < score))
        classified.append(Prediction(number, now + number, label, float(max(score, 1 - score)), truth=truth))
        regressed.append(Prediction(1000 + number, now + number, value=float(score), truth=float(draw)))
    with running_site() as site:
        for request in (
            log_request(model_event(CLASSES, now)),
            prediction_logs(classified),
            prediction_logs(regressed, "price"),
        ):
            site.sender.send(request, "logs")
        yield site


def test_a_point_is_reached_by_keyboard_and_leads_to_a_trace(page: Page) -> None:
    """The return key on a point of the ROC curve opens its predictions, and each of them links to its trace."""
    page.goto("/models?model=churn")
    point = page.get_by_role("group", name="ROC curve").locator("a").nth(3)
    point.focus()
    expect(point).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text("Predictions of churn 1.0.0")
    expect(page.locator("tbody tr")).to_have_count(5)
    expect(page.locator("tbody a[href^='./t/']").first).to_be_visible()


@pytest.mark.parametrize(("model", "charts"), [("churn", 3), ("price", 2)])
def test_charts_need_no_script_and_fit_a_narrow_screen(browser: Browser, site: Site, model: str, charts: int) -> None:
    """Without JavaScript and at 390 px all charts are visible, inside of the screen."""
    page = browser.new_page(base_url=site.url, java_script_enabled=False, viewport={"width": 390, "height": 844})
    page.goto(f"/models?model={model}")

    drawings = page.locator(".plot-square svg")
    expect(drawings).to_have_count(charts)
    for box in (drawing.bounding_box() for drawing in drawings.all()):
        assert box is not None
        assert box["x"] + box["width"] <= 390
    assert page.locator("html").evaluate("root => root.scrollWidth") <= 390
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_have_names_and_contrast(browser: Browser, site: Site, scheme: Literal["light", "dark"]) -> None:
    """Each drawing and each of its links has a name for screen readers, and all text has the contrast of WCAG AA."""
    page = browser.new_page(base_url=site.url, color_scheme=scheme)
    for model in ("churn", "price"):
        page.goto(f"/models?model={model}")
        assert page.evaluate(CONTRAST) == []
        links = page.locator(".plot-square svg a, .time-chart svg a")
        names = links.evaluate_all(
            "links => links.map(a => a.getAttribute('aria-label') || a.querySelector('title').textContent)"
        )
        assert len(names) > 20
        assert all(len(name) > 20 for name in names)
    page.close()
