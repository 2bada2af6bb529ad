"""The page of a model draws its labelled predictions; each point, bar and cell leads to the predictions it counts."""

import math
import re
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from modeltrace_hub.web import model_charts
from modeltrace_hub.web.model_charts import output_colours
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.labelled_predictions import Prediction, model_event, prediction_logs
from tests.helpers.otlp_messages import log_request

HOUR = 3600 * 10**9
CLASSES = ("no", "yes")


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages of an empty hub."""
    with hub_pages() as pages:
        yield pages


def model_page(pages: HubPages, **parameters: str) -> str:
    """Return the page of the model."""
    response = pages.client.get("/models", params={"model": "churn", "since": "6h", **parameters})
    assert response.status_code == 200, response.text
    return response.text


def drawn_links(html: str, label: str) -> list[tuple[str, str]]:
    """Return the address and the title of each link in the drawing whose label begins with a text."""
    drawing = html[html.index(f'aria-label="{label}') :]
    drawing = drawing[: drawing.index("</figure>")]
    found = re.findall(r'<a href="([^"]+)"[^>]*><title>([^<]+)</title>', drawing)
    return [(unescape(address), unescape(title)) for address, title in found]


def listed(pages: HubPages, address: str) -> int:
    """Return the number of predictions on the page of a link."""
    html = pages.client.get(f"/{address}&limit=1000", follow_redirects=True).text
    assert 'role="alert"' not in html
    return html.count("<tr data-key=")


def last_count(title: str, unit: str) -> int:
    """Return the last number before a word in a title."""
    return int(re.findall(rf"([\d,]+)[\s\u202f]{unit}", title)[-1].replace(",", ""))


def classified(count: int = 300) -> list[Prediction]:
    """Return labelled predictions of a model with two classes, over two hours."""
    rng = np.random.default_rng(3)
    start = time.time_ns() // HOUR * HOUR - 3 * HOUR
    scores = rng.random(count)
    truths = rng.random(count) < scores
    return [
        Prediction(
            number,
            start + number * (2 * HOUR // count) + 1,
            CLASSES[int(score > 0.5)],
            float(max(score, 1 - score)),
            truth=CLASSES[int(truth)],
        )
        for number, (score, truth) in enumerate(zip(scores, truths, strict=True))
    ]


def test_points_of_a_classifier_lead_to_their_predictions(pages: HubPages) -> None:
    """A point over time, of the reliability diagram and of both curves lists as many predictions as its title says."""
    pages.add(log_request(model_event(CLASSES, time.time_ns())), prediction_logs(classified()))
    html = model_page(pages)

    over_time = drawn_links(html, "Figures of labelled predictions by hour")
    assert len(over_time) == 4
    assert [" ROC AUC 0." in title for _, title in over_time] == [False, False, True, True]
    assert all(listed(pages, address) == 150 for address, _ in over_time)
    # The points of a line have the hue of its legend.
    assert re.findall(r'<circle class="exemplar ([^"]+)"', html) == ["hue-0", "hue-0", "hue-1", "hue-1"]
    for chart, count in (("Reliability", 5), ("ROC curve", 40), ("Precision-recall curve", 40)):
        points = drawn_links(html, chart)
        assert len(points) == count
        address, title = points[1]
        assert listed(pages, address) == last_count(title, "labels?")


def test_cells_and_bars_of_a_regressor_lead_to_their_predictions(pages: HubPages) -> None:
    """A cell of predicted against actual and a bar of errors list as many predictions as their titles say."""
    rng = np.random.default_rng(4)
    truth = rng.normal(50, 10, 300)
    value = truth + rng.normal(1, 3, 300)
    now = time.time_ns() - HOUR
    pages.add(
        prediction_logs(
            Prediction(number, now + number, value=float(value[number]), truth=float(truth[number]))
            for number in range(300)
        )
    )
    html = model_page(pages)

    for chart in ("Predicted against actual", "Number of predictions by error"):
        shapes = drawn_links(html, chart)
        assert sum(last_count(title, "predictions?") for _, title in shapes) == 300
        for address, title in (shapes[0], shapes[len(shapes) // 2], shapes[-1]):
            assert listed(pages, address) == last_count(title, "predictions?")
    assert "mean absolute error" in drawn_links(html, "Figures of labelled predictions by hour")[0][1]
    assert 'aria-label="ROC' not in html


def test_the_default_window_has_a_point_for_each_minute(pages: HubPages) -> None:
    """A window of an hour is no single point."""
    now = time.time_ns() - 5 * 60 * 10**9
    pages.add(
        prediction_logs(
            Prediction(number, now - number % 4 * 60 * 10**9, "yes", 0.8, truth="yes") for number in range(20)
        )
    )
    points = drawn_links(model_page(pages, since="1h"), "Figures of labelled predictions by minute")
    assert [listed(pages, address) for address, _ in points] == [5, 5, 5, 5]


@pytest.mark.parametrize("name", ["two\nlines", "a" * 5000, "org/a\n"], ids=["lines", "long", "last line break"])
def test_a_model_with_an_unusual_name_has_figures_and_a_page(pages: HubPages, name: str) -> None:
    """Line breaks and thousands of characters are found by the API, the page and the links of its charts."""
    now = time.time_ns() - HOUR
    predictions = [Prediction(number, now, "yes", 0.8, truth="yes") for number in range(20)]
    pages.add(prediction_logs(predictions, model=name))
    response = pages.client.get(f"/api/models/{quote(name, safe='')}", params={"since": "6h"})
    assert (response.status_code, response.json().get("name")) == (200, name)
    assert pages.client.get("/api/quality", params={"model": name, "since": "6h"}).status_code == 200
    ((address, _),) = drawn_links(model_page(pages, model=name), "Reliability")
    assert listed(pages, address) == 20


def test_links_leave_out_synthetic_predictions_as_the_charts_do(pages: HubPages) -> None:
    """A point over time lists as many predictions as its title says, although synthetic ones have labels, too."""
    now = time.time_ns() - HOUR
    pages.add(
        prediction_logs(Prediction(number, now, "yes", 0.8, truth="yes", synthetic=number < 8) for number in range(20))
    )
    html = model_page(pages)
    for chart in ("Figures of labelled predictions", "Reliability"):
        ((address, _),) = drawn_links(html, chart)
        assert listed(pages, address) == 12


def test_models_of_the_same_version_have_charts_of_their_own(pages: HubPages) -> None:
    """Predictions of models with the same name and version, but another hash, are not added up."""
    now = time.time_ns() - HOUR
    pages.add(
        log_request(model_event(CLASSES, now)),
        prediction_logs(
            Prediction(
                number, now, "yes", 0.8, truth="yes" if number < 20 else "no", hash="ab" if number < 20 else "cd"
            )
            for number in range(35)
        ),
    )
    parameters = {"model": "churn", "since": "6h"}
    versions = pages.client.get("/api/quality", params=parameters).json()["versions"]
    assert [(item["hash"], item["labels"], item["steps"][0]["accuracy"]) for item in versions] == [
        ("ab", 20, 1.0),
        ("cd", 15, 0.0),
    ]
    html = model_page(pages)
    counts = []
    for part in html.split("Labelled predictions <")[1:]:
        ((address, _),) = drawn_links(part, "Figures of labelled predictions")
        counts.append(listed(pages, address))
    assert counts == [20, 15]


def test_models_of_the_same_version_have_classes_of_their_own(pages: HubPages) -> None:
    """The positive class is that of the file which made the predictions, whichever was loaded last."""
    now = time.time_ns() - HOUR
    pages.add(
        log_request(
            model_event(CLASSES, now, ml_model_hash="ab"), model_event(CLASSES[::-1], now + 1, ml_model_hash="cd")
        ),
        prediction_logs(
            Prediction(
                number, now, CLASSES[number % 2], 0.8, truth=CLASSES[number % 3 % 2], hash="ab" if number < 20 else "cd"
            )
            for number in range(40)
        ),
    )
    versions = pages.client.get("/api/quality", params={"model": "churn", "since": "6h"}).json()["versions"]
    assert {item["hash"]: item["ranking"]["positive_class"] for item in versions} == {"ab": "yes", "cd": "no"}
    positives = {"ab": sum(n % 3 % 2 for n in range(20)), "cd": 20 - sum(n % 3 % 2 for n in range(20, 40))}
    assert {item["hash"]: item["ranking"]["positives"] for item in versions} == positives


def test_bins_of_numbers_have_different_colours() -> None:
    """A reference has up to 24 bins, and values that are missing or of another type; classes have a colour by name."""
    bins = [*(f"{number:02d}" for number in range(24)), "missing", "other"]
    for count in range(1, len(bins) + 1):
        assert len(set(output_colours(bins[:count], binned=True).values())) == count
    style = (Path(model_charts.__file__).parent / "static/models.css").read_text()
    assert all(f".{colour} {{" in style for colour in output_colours(bins, binned=True).values())
    assert output_colours(CLASSES, binned=False).keys() == {*CLASSES}


@pytest.mark.parametrize(
    ("predictions", "classes", "reason"),
    [
        (0, CLASSES, "No model has telemetry in this window"),
        (5, CLASSES, "Only 5\u202flabels of this window: charts need at least 10."),
        (30, (), "the event ml.model, which has the classes, is not stored"),
        (30, ("yes",), "they need two classes, and the model has only one"),
        (30, ("maybe", "no", "yes"), "with more than two classes they need the probability of each class"),
        (30, ("a", "b"), "too few labels are classes of the model"),
    ],
)
def test_what_is_missing_is_said_in_the_place_of_the_chart(
    pages: HubPages, predictions: int, classes: tuple[str, ...], reason: str
) -> None:
    """The page says why a chart cannot be drawn."""
    if classes and predictions:
        pages.add(log_request(model_event(classes, time.time_ns())))
    if predictions:
        pages.add(prediction_logs(classified()[:predictions]))
    assert reason in model_page(pages)


@pytest.mark.parametrize(("value", "truth"), [(math.nan, 1.0), (1.0, math.nan)])
def test_a_regressor_without_numbers_has_no_text_of_a_classifier(pages: HubPages, value: float, truth: float) -> None:
    """The page says that there are no errors. It says neither that labels are missing nor that confidence is."""
    now = time.time_ns() - HOUR
    pages.add(prediction_logs(Prediction(number, now, value=value, truth=truth) for number in range(20)))
    html = model_page(pages)
    assert "No errors: no prediction has a predicted and a true value that are both numbers" in html
    assert "20 of 20 predictions have a label" in html
    assert "the predictions have no confidence" not in html
    assert "No true labels yet" not in html
    assert "accuracy 0" not in html


def test_predictions_without_labels_have_no_charts(pages: HubPages) -> None:
    """Without labels, the page says how to send them; with equal labels, that there are no curves."""
    now = time.time_ns() - HOUR
    pages.add(
        log_request(model_event(CLASSES, now)),
        prediction_logs(Prediction(number, now, "yes", 0.8) for number in range(20)),
    )
    assert "No true label of a prediction of this window has arrived." in model_page(pages)

    pages.add(prediction_logs(Prediction(100 + number, now, "yes", 0.8, truth="yes") for number in range(20)))
    assert "all true labels are equal" in model_page(pages)


def test_the_steps_of_a_chart_are_chosen_in_the_address(pages: HubPages) -> None:
    """A link changes hours to days and keeps the other parameters; the page of all models leads to the charts."""
    pages.add(log_request(model_event(CLASSES, time.time_ns())), prediction_logs(classified()))

    links = re.findall(r'<a href="([^"]+)"[^>]*>day</a>', model_page(pages))
    assert [unescape(link) for link in links] == ["?model=churn&since=6h&over=day"]
    assert "Figures of labelled predictions by day" in model_page(pages, over="day")
    overview = pages.client.get("/models", params={"since": "6h"}).text
    assert unescape(overview).count('<a href="./models?model=churn&since=6h">Charts of labelled predictions') == 1
    assert "plot-square" not in overview
