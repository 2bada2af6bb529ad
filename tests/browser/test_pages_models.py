"""The page of models and what is behind its figures, in a real browser."""

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
    """A hub that has heard of two versions of a model, of one with 300 features, and of one prediction of another."""
    with running_site() as site:
        for version, shift in (("1.0.0", 1.0), ("1.1.0", 0.0)):
            features = (Feature("age", shift=shift), *FEATURES[1:])
            one = ModelService(Sender(site.sender.endpoint, instance=version), "churn", version, features)
            one.begin()
            for minutes in (20, 10, 0):
                traces = one.predict(150, time.time_ns() - minutes * 60 * SECOND, recorded=5)
                one.export(time.time_ns() - minutes * 60 * SECOND)
            one.violate("age", "range", 3)
            one.label(traces[-1], "no", "yes")
            one.evaluate(accuracy=0.912, f1=0.9, label_coverage=0.27, labels=81, predictions=300, concept_drift_level=1)
            one.export()
        wide = [Feature(f"feature {number}", shift=float(number == 250)) for number in range(300)]
        many = ModelService(Sender(site.sender.endpoint, instance="wide"), "wide", features=wide)
        many.references(time.time_ns())
        many.predict(300)
        many.export()
        single = ModelService(Sender(site.sender.endpoint, instance="single"), "single")
        single.begin()
        single.predict(1, recorded=1)
        single.export()
        yield site


def test_versions_stand_side_by_side(page: Page) -> None:
    """Each version has its figures beside those of the other, and a line in the table that compares them."""
    page.goto("/models?model=churn")

    old, new = (page.get_by_role("article", name=f"Version {name}", exact=True) for name in ("1.0.0", "1.1.0"))
    expect(old.get_by_role("row", name=re.compile("^age")).filter(has_text="drift")).to_be_visible()
    expect(new.get_by_role("row", name=re.compile("^age")).filter(has_text="ok")).to_be_visible()
    here, there = old.bounding_box(), new.bounding_box()
    assert here is not None
    assert there is not None
    assert here["y"] == there["y"]
    expect(page.locator(".compared").get_by_role("row", name=re.compile("^1.0.0"))).to_contain_text("0.912")


def test_a_bar_leads_to_the_predictions_in_it(page: Page) -> None:
    """From the highest bin of a feature to predictions whose value lies there, and from one of them to its trace."""
    page.goto("/models?model=churn")
    bins = page.get_by_role("article", name="Version 1.0.0", exact=True).get_by_role("group", name="Bins of age")

    bins.locator("a").nth(9).locator(".hit").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Predictions of churn 1.0.0")
    rows = page.locator("tbody tr")
    assert all(float(row.locator("td").nth(4).inner_text()) > 1.28 for row in rows.all())
    rows.first.locator("td").nth(1).get_by_role("link").click()
    expect(page.get_by_role("region", name="Prediction", exact=True)).to_contain_text("churn 1.0.0")
    expect(page.locator(".strip").first).to_be_visible()
    expect(page.get_by_text("hashed")).to_be_visible()


def test_private_bins_lead_to_exemplars(page: Page) -> None:
    """Values that are kept from all telemetry cannot be listed; the page says so and leads to exemplars."""
    page.goto("/predictions?model=churn&version=1.0.0&feature=email&bin=a")

    expect(page.get_by_text("are kept from the records of predictions (hash)")).to_be_visible()
    expect(page.locator("tbody a[href^='./t/']").first).to_be_visible()


def test_a_label_and_its_prediction_lead_to_each_other(page: Page) -> None:
    """From the cell of the wrong ones to the prediction, to the request that brought its label, and back."""
    page.goto("/models?model=churn")
    page.get_by_role("article", name="Version 1.0.0", exact=True).get_by_role("link", name="1 wrong").click()
    page.locator("tbody tr").first.locator("td").nth(1).get_by_role("link").click()

    prediction = page.get_by_role("region", name="Prediction", exact=True)
    expect(prediction).to_contain_text("True label yes wrong")
    prediction.get_by_role("link", name="the request that brought it").click()
    brought = page.get_by_role("region", name="1 label brought")
    brought.locator("tbody a").click()
    expect(page.get_by_role("region", name="Prediction", exact=True)).to_contain_text("True label yes")


def test_violations_lead_to_their_requests(page: Page) -> None:
    """From the count of a reason to the traces of the requests that broke the schema so."""
    page.goto("/models?model=churn")
    row = page.get_by_role("article", name="Version 1.1.0", exact=True).get_by_role(
        "row", name=re.compile("^age out of")
    )
    row.get_by_role("link", name="3", exact=True).click()

    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody a[href^='./t/']")).to_be_visible()


def test_of_300_features_those_that_matter_are_shown(page: Page) -> None:
    """The one that drifts stands first; all the others are a link away."""
    page.goto("/models?model=wide")
    rows = page.locator(".drifts tbody tr")
    expect(rows).to_have_count(12)
    expect(rows.first).to_contain_text("feature 250")

    page.get_by_role("link", name="All 300 features").click()
    expect(rows).to_have_count(300)


def test_one_prediction_is_not_enough_data(page: Page) -> None:
    """What cannot be said yet is said so, and how labels are sent."""
    page.goto("/models?model=single")

    expect(page.get_by_text("under 200 predictions say nothing")).to_be_visible()
    expect(page.get_by_text("No labels yet")).to_be_visible()
    expect(page.get_by_text("POST /feedback").first).to_be_visible()


def test_the_window_is_chosen_in_the_address(page: Page) -> None:
    """A shorter window shows less traffic, and keeps the model that is looked at."""
    page.goto("/models?model=churn")
    page.get_by_role("navigation", name="Window").get_by_role("link", name="15m").click()

    expect(page).to_have_url(re.compile("window=15m.*model=churn"))
    expect(page.get_by_role("article", name="Version 1.0.0", exact=True)).to_contain_text("300 predictions")


def test_nothing_moves_when_figures_arrive(page: Page, site: Site) -> None:
    """What is on the page stays where it is when new counts come in by themselves."""
    page.goto("/models?model=single")
    heading = page.get_by_role("heading", name="Drift of the inputs")
    before = heading.bounding_box()

    again = ModelService(Sender(site.sender.endpoint, instance="again"), "single")
    again.predict(40)
    again.export()

    expect(page.get_by_text("41 predictions", exact=True)).to_be_visible(timeout=30_000)
    assert heading.bounding_box() == before


def test_a_window_that_makes_no_sense(page: Page) -> None:
    """It is explained on the page."""
    page.goto("/models?window=long")

    expect(page.get_by_text("window: a duration is a number and a unit")).to_be_visible()


def test_models_need_no_script_and_fit_a_narrow_screen(browser: Browser, site: Site) -> None:
    """Without JavaScript and at 390 px everything is there, and nothing sticks out."""
    page = browser.new_page(base_url=site.url, java_script_enabled=False, viewport={"width": 390, "height": 844})
    for path in ("/models", "/models?model=wide&all=true", "/predictions?model=churn&feature=age&bin=09"):
        page.goto(path)
        expect(
            page.get_by_role("link", name=re.compile("^All models|churn|Back")).or_(page.locator("h2")).first
        ).to_be_visible()
        assert page.locator("html").evaluate("root => root.scrollWidth") <= 390
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser: Browser, site: Site, scheme: Literal["light", "dark"]) -> None:
    """All text has the contrast that WCAG's level AA asks for, by day and by night."""
    page = browser.new_page(base_url=site.url, color_scheme=scheme)
    faint = {}
    for path in ("/models", "/predictions?model=churn", "/predictions?model=churn&outcome=wrong", "/models?model=none"):
        page.goto(path)
        faint[path] = page.evaluate(CONTRAST)
    page.close()

    assert {path: found for path, found in faint.items() if found} == {}


def test_markup_stays_text(page: Page, site: Site) -> None:
    """Markup in names of models, features and labels is shown, not run."""
    markup = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
    one = ModelService(Sender(site.sender.endpoint, instance="markup"), markup, markup, (Feature(markup),), (markup,))
    one.begin()
    one.predict(3, recorded=1)
    one.violate(markup, markup)
    one.export()
    page.goto("/models?window=15m")

    expect(page.get_by_role("heading", level=2, name=markup)).to_be_visible()
    assert page.locator("main img, main script").count() == 0
    assert "run" not in page.title()
