"""The models page and the predictions behind its numbers, in a real browser."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.helpers.metric_points import SECOND
from tests.helpers.model_features import Feature
from tests.helpers.model_telemetry import ModelService
from tests.helpers.otlp_sender import Sender
from tests.helpers.sites import Site, running_site

pytestmark = pytest.mark.slow

CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
FEATURES = (
    Feature("age", shift=1.0),
    Feature("salary", missing=0.1),
    Feature("city", ("bern", "basel"), shift=0.2),
    Feature("email", ("a", "b"), privacy="hash"),
)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Yield a hub with two versions of a model, a model with 300 features, and a model with one prediction."""
    with running_site() as site:
        for version, shift in (("1.0.0", 1.0), ("1.1.0", 0.0)):
            features = (Feature("age", shift=shift), *FEATURES[1:])
            sender = ModelService(Sender(site.sender.endpoint, instance=version), "churn", version, features)
            sender.start()
            for minutes in (20, 10, 0):
                traces = sender.predict(150, time.time_ns() - minutes * 60 * SECOND, recorded=5)
                sender.export(time.time_ns() - minutes * 60 * SECOND)
            sender.violate("age", "range", 3)
            sender.label(traces[-1], "no", "yes")
            sender.evaluate(
                accuracy=0.912, f1=0.9, label_coverage=0.27, labels=81, predictions=300, concept_drift_level=1
            )
            sender.export()
        wide = [Feature(f"feature {number}", shift=float(number == 250)) for number in range(300)]
        many = ModelService(Sender(site.sender.endpoint, instance="wide"), "wide", features=wide)
        many.references(time.time_ns())
        many.predict(300)
        many.export()
        single = ModelService(Sender(site.sender.endpoint, instance="single"), "single")
        single.start()
        single.predict(1, recorded=1)
        single.export()
        yield site


def test_versions_are_side_by_side(page: Page) -> None:
    """Each version has its metrics beside those of the other, and a row in the comparison table."""
    page.goto("/models?model=churn")

    old, new = (page.get_by_role("article", name=f"Version {name}", exact=True) for name in ("1.0.0", "1.1.0"))
    expect(old.get_by_role("row", name=re.compile("^age")).filter(has_text="drift")).to_be_visible()
    expect(new.get_by_role("row", name=re.compile("^age")).filter(has_text="ok")).to_be_visible()
    here, there = old.bounding_box(), new.bounding_box()
    assert here is not None
    assert there is not None
    assert here["y"] == there["y"]
    expect(page.locator(".comparison").get_by_role("row", name=re.compile("^1.0.0"))).to_contain_text("0.912")


def test_the_state_of_a_feature_is_in_sight(browser: Browser, site: Site) -> None:
    """With two versions side by side at 1400 px, no table of drift is wider than its place."""
    page = browser.new_page(base_url=site.url, viewport={"width": 1400, "height": 900})
    page.goto("/models?model=churn")
    for table in page.locator(".wide:has(.feature-drift)").all():
        assert table.evaluate("box => box.scrollWidth - box.clientWidth") <= 0
    page.close()


def test_a_bar_links_to_its_predictions(page: Page) -> None:
    """The highest bin of a feature links to the predictions with such values, and each of them to its trace."""
    page.goto("/models?model=churn")
    bins = page.get_by_role("article", name="Version 1.0.0", exact=True).get_by_role("group", name="Bins of age")

    bins.locator("a").nth(9).locator(".hover-area").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Predictions of churn 1.0.0")
    rows = page.locator("tbody tr")
    assert all(float(row.locator("td").nth(4).inner_text()) > 1.28 for row in rows.all())
    rows.first.locator("td").nth(1).get_by_role("link").click()
    expect(page.get_by_role("region", name="Prediction", exact=True)).to_contain_text("churn 1.0.0")
    expect(page.locator(".strip").first).to_be_visible()
    expect(page.get_by_text("hashed")).to_be_visible()


def test_private_bins_link_to_exemplars(page: Page) -> None:
    """Private values cannot be listed; the page explains it and links to exemplars."""
    page.goto("/predictions?model=churn&version=1.0.0&feature=email&bin=a")

    expect(page.get_by_text("are private (hash) and not in the prediction log records")).to_be_visible()
    expect(page.locator("tbody a[href^='./t/']").first).to_be_visible()


def test_a_label_and_its_prediction_link_to_each_other(page: Page) -> None:
    """The incorrect predictions link to the prediction, it links to the feedback request, and that links back."""
    page.goto("/models?model=churn")
    page.get_by_role("article", name="Version 1.0.0", exact=True).get_by_role("link", name="1 incorrect").click()
    page.locator("tbody tr").first.locator("td").nth(1).get_by_role("link").click()

    prediction = page.get_by_role("region", name="Prediction", exact=True)
    expect(prediction).to_contain_text("True label yes incorrect")
    prediction.get_by_role("link", name="feedback request").click()
    labels = page.get_by_role("region", name="1 true label sent by this request")
    labels.locator("tbody a").click()
    expect(page.get_by_role("region", name="Prediction", exact=True)).to_contain_text("True label yes")


def test_violations_link_to_their_requests(page: Page) -> None:
    """The count of a reason links to the traces of the requests with this violation."""
    page.goto("/models?model=churn")
    row = page.get_by_role("article", name="Version 1.1.0", exact=True).get_by_role(
        "row", name=re.compile("^age out of")
    )
    row.get_by_role("link", name="3", exact=True).click()

    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody a[href^='./t/']")).to_be_visible()


def test_drifting_features_are_shown_first(page: Page) -> None:
    """Of 300 features the drifting one is first; a link shows all others."""
    page.goto("/models?model=wide")
    rows = page.locator(".feature-drift tbody tr")
    expect(rows).to_have_count(12)
    expect(rows.first).to_contain_text("feature 250")

    page.get_by_role("link", name="All 300 features").click()
    expect(rows).to_have_count(300)


def test_one_prediction_is_not_enough_data(page: Page) -> None:
    """The page explains missing metrics, and how to send labels."""
    page.goto("/models?model=single")

    expect(page.get_by_text("drift needs at least 200 independent predictions")).to_be_visible()
    expect(page.get_by_text("No true labels yet")).to_be_visible()
    expect(page.get_by_text("POST /feedback").first).to_be_visible()


def test_the_window_is_chosen_in_the_address(page: Page) -> None:
    """A shorter window shows less traffic of the same model."""
    page.goto("/models?model=churn")
    page.get_by_role("navigation", name="Time range").get_by_role("link", name="15 min").click()

    expect(page).to_have_url(re.compile("since=15m.*model=churn"))
    expect(page.get_by_role("article", name="Version 1.0.0", exact=True)).to_contain_text("300 predictions")


def test_nothing_moves_when_metrics_arrive(page: Page, site: Site) -> None:
    """The page keeps its layout when new counts arrive."""
    page.goto("/models?model=single")
    heading = page.get_by_role("heading", name="Input drift")
    before = heading.bounding_box()

    again = ModelService(Sender(site.sender.endpoint, instance="again"), "single")
    again.predict(40)
    again.export()

    expect(page.get_by_text("41 predictions", exact=True)).to_be_visible(timeout=30_000)
    assert heading.bounding_box() == before


def test_an_invalid_window_is_explained(page: Page) -> None:
    """The page shows the error."""
    page.goto("/models?window=long")

    expect(page.get_by_text("window: a duration is a number and a unit")).to_be_visible()


def test_models_need_no_script_and_fit_a_narrow_screen(browser: Browser, site: Site) -> None:
    """Without JavaScript and at 390 px all content is there, without a horizontal scroll bar."""
    page = browser.new_page(base_url=site.url, java_script_enabled=False, viewport={"width": 390, "height": 844})
    for path in ("/models", "/models?model=wide&all=true", "/predictions?model=churn&feature=age&bin=09"):
        page.goto(path)
        expect(
            page.get_by_role("link", name=re.compile("^All models|churn|Model page")).or_(page.locator("h2")).first
        ).to_be_visible()
        assert page.locator("html").evaluate("root => root.scrollWidth") <= 390
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser: Browser, site: Site, scheme: Literal["light", "dark"]) -> None:
    """All text has the contrast of WCAG level AA, in light and dark mode."""
    page = browser.new_page(base_url=site.url, color_scheme=scheme)
    faint = {}
    for path in (
        "/models",
        "/predictions?model=churn",
        "/predictions?model=churn&outcome=incorrect",
        "/models?model=none",
    ):
        page.goto(path)
        faint[path] = page.evaluate(CONTRAST)
    page.close()

    assert {path: result for path, result in faint.items() if result} == {}


def test_markup_is_escaped(page: Page, site: Site) -> None:
    """Markup in names of models, features and labels is shown, not run."""
    markup = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
    sender = ModelService(
        Sender(site.sender.endpoint, instance="markup"), markup, markup, (Feature(markup),), (markup,)
    )
    sender.start()
    sender.predict(3, recorded=1)
    sender.violate(markup, markup)
    sender.export()
    page.goto("/models?window=15m")

    expect(page.get_by_role("heading", level=2, name=markup)).to_be_visible()
    assert page.locator("main img, main script").count() == 0
    assert "run" not in page.title()
