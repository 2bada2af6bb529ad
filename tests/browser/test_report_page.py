"""The page of `modeltrace report evidently` in a browser without a network."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.helpers.report_cases import ReportCase, pack_people, store_two_classes


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report of predictions with hostile feature names."""
    folder = tmp_path_factory.mktemp("report")
    bundle, training = pack_people(folder, "two")
    store_two_classes(str(folder / "predictions.db"), bundle)
    with pytest.MonkeyPatch.context() as monkeypatch:
        ReportCase(bundle, training, str(folder / "predictions.db"), monkeypatch).run(
            "evidently", str(folder / "page.html")
        )
    return folder / "page.html"


@pytest.mark.slow
@pytest.mark.extended
def test_the_page_shows_the_report_without_a_network(browser: Browser, report: Path) -> None:
    """The compared data is at the top, followed by both parts with their charts; feature names are escaped."""
    context = browser.new_context(offline=True)
    page: Page = context.new_page()
    requested: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(report.as_uri())
    page.get_by_text("Predictions against true labels").wait_for(timeout=30_000)
    page.get_by_text("Drift is detected for").wait_for(timeout=30_000)
    page.locator("svg.main-svg").first.wait_for(timeout=30_000)

    assert page.title() == "people 1.0.0, 2.0.0"
    assert "test rows of people 1.0.0" in page.locator("header").inner_text()
    assert [url for url in requested if not url.startswith(("file:", "data:", "blob:"))] == []
    assert errors == []
    context.close()
