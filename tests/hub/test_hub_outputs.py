"""The pages and the API show the named outputs of predictions."""

import re
import time
from collections.abc import Iterator, Mapping

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from modeltrace_hub.queries.evaluation import concept_drift, evaluation
from modeltrace_hub.web import format as fmt
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.metric_points import gauge as metric_gauge
from tests.helpers.otlp_messages import log_request, metric_request, span, trace_request
from tests.helpers.otlp_values import Value, key_values

SPAN = span(name="POST /predict")
TRACE_ID = SPAN.trace_id.hex()
EMBEDDING = {f"pca{index}": index / 8 for index in range(5)}


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages of a hub with one trace without predictions."""
    with hub_pages() as pages:
        pages.add(trace_request(SPAN))
        yield pages


def add_prediction(pages: HubPages, row: int, attributes: Mapping[str, Value]) -> None:
    """Add a prediction log record of the trace."""
    record = LogRecord(
        time_unix_nano=SPAN.end_time_unix_nano, trace_id=SPAN.trace_id, span_id=SPAN.span_id, event_name="ml.prediction"
    )
    record.attributes.extend(
        key_values({"ml.model.name": "m", "ml.model.version": "1", "ml.prediction.row": row, **attributes})
    )
    pages.add(log_request(record))


def add_label(pages: HubPages, prediction_id: str, attributes: Mapping[str, Value]) -> None:
    """Add the true label of a prediction of the trace, sent by another trace."""
    record = LogRecord(
        time_unix_nano=SPAN.end_time_unix_nano + 1, trace_id=SPAN.trace_id[::-1], event_name="ml.feedback"
    )
    common = {"ml.model.name": "m", "ml.prediction.id": prediction_id, "ml.prediction.trace_id": TRACE_ID}
    record.attributes.extend(key_values({**common, **attributes}))
    pages.add(log_request(record))


def text_of(pages: HubPages, path: str) -> str:
    """Return the text of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", pages.client.get(path).text))


def test_outputs_are_shown_with_and_without_a_label(pages: HubPages) -> None:
    """A label is shown with them; of many outputs a list shows the first three."""
    add_prediction(pages, 0, {"ml.prediction.label": "-1", "ml.prediction.outputs": {"score": -0.25}})
    add_prediction(pages, 1, {"ml.prediction.outputs": EMBEDDING})

    items = pages.client.get("/api/predictions?model=m").json()["items"]
    listed, trace = text_of(pages, "/predictions?model=m"), text_of(pages, f"/t/{TRACE_ID}")
    second = text_of(pages, f"/t/{TRACE_ID}?row=1")

    assert {item["row_number"]: (item["output"], item["outputs"]) for item in items} == {
        0: ("-1", {"score": -0.25}),
        1: (None, EMBEDDING),
    }
    for text in (listed, trace):
        assert "pca0 0 · pca1 0.125 · pca2 0.250 · 2 more" in text
    assert "-1 score -0.250" in listed
    assert "Outputs score -0.25" in trace
    assert "5 outputs" in second
    assert "pca4 0.5" in second


def test_a_prediction_has_its_interval(pages: HubPages) -> None:
    """Pages, API and the view of SQL queries have the bounds and the level; without an interval they have none."""
    interval = {"ml.prediction.interval.low": 1.25, "ml.prediction.interval.high": 3.5}
    add_prediction(pages, 0, {"ml.prediction.value": 2.0, **interval, "ml.prediction.interval.level": 0.9})
    add_prediction(pages, 1, {"ml.prediction.value": 2.0})

    items = pages.client.get("/api/predictions?model=m").json()["items"]
    names = ("interval_low", "interval_high", "interval_level")

    assert {item["row_number"]: tuple(item[name] for name in names) for item in items} == {
        0: (1.25, 3.5, 0.9),
        1: (None, None, None),
    }
    assert "interval 1.25 to 3.5" in text_of(pages, f"/t/{TRACE_ID}")
    assert "with the probability 0.9" in pages.client.get(f"/t/{TRACE_ID}").text
    assert "interval 1.25" not in text_of(pages, f"/t/{TRACE_ID}?row=1")


def test_values_are_short_and_have_their_error(pages: HubPages) -> None:
    """A value has six significant digits and its error; predictions of values have no confidence."""
    value = 235.123456789012
    add_prediction(pages, 0, {"ml.prediction.value": value, "ml.prediction.id": "p1"})
    add_prediction(pages, 1, {"ml.prediction.value": 0.5, "ml.prediction.id": "p2"})
    add_label(pages, "p1", {"ml.prediction.value": value, "ml.feedback.value": 240.0})

    for path in ("/predictions?model=m", "/predictions?model=m&outcome=labelled", f"/t/{TRACE_ID}"):
        text = text_of(pages, path)
        assert "235.123 " in text
        assert "error -4.87654" in text
        assert "Confidence" not in text
        assert f'data-copy="{value}"' in pages.client.get(path).text
    assert "error -4.87654" in text_of(pages, f"/t/{SPAN.trace_id[::-1].hex()}")


def test_a_label_is_correct_or_incorrect_without_a_confidence(pages: HubPages) -> None:
    """Whether a predicted label is correct does not depend on a probability."""
    add_prediction(pages, 0, {"ml.prediction.label": "1", "ml.prediction.id": "p1"})
    add_label(pages, "p1", {"ml.prediction.label": "1", "ml.feedback.label": "2"})

    for path in ("/predictions?model=m", f"/t/{TRACE_ID}"):
        assert "incorrect" in text_of(pages, path)
        assert "error -1" not in text_of(pages, path)


def test_predictions_of_several_models_name_them(pages: HubPages) -> None:
    """The list has a column of the model and a link to the explanation of each model, if there are several."""
    add_prediction(pages, 0, {"ml.prediction.label": "1"})
    assert "Trace Version Output" in text_of(pages, "/predictions")

    add_prediction(pages, 0, {"ml.prediction.label": "1", "ml.model.name": "n"})
    text = text_of(pages, "/predictions")
    assert "Trace Model Version Output" in text
    assert "What distinguishes these of m? What distinguishes these of n?" in text
    assert "Trace Version Output" in text_of(pages, "/predictions?model=m")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("0.1234567890", "0.123457"),
        ("1234567.891", "1234568"),
        ("1.5", "1.5"),
        ("12345678901", "12345678901"),
        ("1.23456789e-12", "1.23457e-12"),
        ("1_000.5000000", "1_000.5000000"),
        ("nan", "nan"),
        ("yes", "yes"),
    ],
)
def test_short_values(text: str, short: str) -> None:
    """Only numbers with a fraction or an exponent are shortened."""
    assert fmt.short_value(text) == short
    assert fmt.prediction_error("yes", text) is None


@pytest.mark.parametrize("outputs", ["text", 1.5, {"a": {"b": True}}, {}])
def test_outputs_of_another_type_do_not_break_a_page(pages: HubPages, outputs: Value) -> None:
    """The telemetry of others may have any type there."""
    add_prediction(pages, 0, {"ml.prediction.label": "a", "ml.prediction.outputs": outputs})

    (item,) = pages.client.get("/api/predictions?model=m").json()["items"]
    assert item["outputs"] == outputs
    for path in ("/predictions?model=m", f"/t/{TRACE_ID}"):
        assert pages.client.get(path).status_code == 200


def test_true_labels_of_clusters_and_of_several_outputs(pages: HubPages) -> None:
    """They are shown, and not compared with the output: a class is not a cluster, and an output may be missing."""
    add_prediction(pages, 0, {"ml.prediction.id": "p0", "ml.prediction.label": "2"})
    add_label(pages, "p0", {"ml.prediction.label": "2", "ml.feedback.class": "oak"})
    add_prediction(pages, 1, {"ml.prediction.id": "p1", "ml.prediction.outputs": {"area": 2.5, "kind": "nut"}})
    add_label(pages, "p1", {"ml.feedback.outputs": {"area": 3.0}})
    add_prediction(pages, 2, {"ml.prediction.id": "p2", "ml.prediction.label": "2"})
    add_label(pages, "p2", {"ml.prediction.label": "2", "ml.feedback.label": "2"})

    expected = {"p0": ("oak", False), "p1": ('{"area":3.0}', False), "p2": ("2", True)}
    for outcome in ("", "&outcome=labelled"):
        items = pages.client.get(f"/api/predictions?model=m{outcome}").json()["items"]
        assert {item["prediction_id"]: (item["true_label"], item["is_comparable"]) for item in items} == expected
    text = text_of(pages, "/predictions?model=m")
    assert "oak" in text
    assert text.count("incorrect") == 0
    assert "incorrect" not in text_of(pages, f"/t/{TRACE_ID}?row=0")
    assert "oak" in text_of(pages, f"/t/{TRACE_ID}?row=0")
    wrong = pages.client.get("/api/predictions?model=m&outcome=incorrect").json()["items"]
    assert wrong == []


def gauge(name: str, value: float, **attributes: str) -> dict[str, object]:
    """Return a row of get_model_gauges.sql."""
    return {
        "name": name,
        "value": value,
        "time_ns": 5,
        "attributes": {key.replace("_", "."): value for key, value in attributes.items()},
    }


def test_each_output_has_its_own_figures() -> None:
    """Gauges of an output are not those of the model; the drift of the output with the highest level is shown."""
    gauges = [
        gauge("ml.evaluation.labels", 9),
        gauge("ml.evaluation.labels", 7, ml_output_name="area"),
        gauge("ml.evaluation.mean_absolute_error", 0.5, ml_output_name="area"),
        gauge("ml.evaluation.accuracy", 0.75, ml_output_name="kind"),
        gauge("ml.concept_drift.level", 0, ml_output_name="area"),
        gauge("ml.concept_drift.level", 1, ml_output_name="kind"),
        gauge("ml.concept_drift.error_rate", 0.25, ml_output_name="kind"),
    ]

    result, drift = evaluation(gauges), concept_drift(gauges)

    assert result is not None
    assert (result["labels"], "accuracy" in result) == (9, False)
    assert {name: {k: v for k, v in scores.items() if v} for name, scores in result["outputs"].items()} == {
        "area": {"labels": 7, "mean_absolute_error": 0.5},
        "kind": {"accuracy": 0.75},
    }
    assert drift == {"level": "drift", "error_rate": 0.25, "output": "kind", "time_ns": 5}


def test_the_page_of_a_model_lists_its_outputs(pages: HubPages) -> None:
    """There is a row for each output, and a column for each score that an output has."""
    now = time.time_ns()
    model = {"ml.model.name": "m", "ml.model.version": "1"}
    area, kind = ({**model, "ml.output.name": name} for name in ("area", "kind"))
    points = {
        "ml.model.loaded": [(model, 1.0)],
        "ml.evaluation.predictions": [(model, 12.0)],
        "ml.evaluation.labels": [(model, 9.0), (area, 7.0), (kind, 8.0)],
        "ml.evaluation.mean_absolute_error": [(area, 0.5)],
        "ml.evaluation.accuracy": [(kind, 0.75)],
        "ml.concept_drift.level": [(area, 0.0), (kind, 1.0)],
    }
    gauges = (
        metric_gauge(name, "1", ((tuple(of.items()), value) for of, value in values), now)
        for name, values in points.items()
    )
    prediction = LogRecord(time_unix_nano=now, event_name="ml.prediction", attributes=key_values(model))
    pages.add(metric_request(*gauges), log_request(prediction))

    text = text_of(pages, "/models?model=m").replace("\N{EN DASH}", "none")

    assert "Output Labels Accuracy Mean absolute error area 7 none 0.500 kind 8 0.750 none" in text
    assert "Concept drift drift output kind" in text
    assert "9 of 12 with a label" in text
