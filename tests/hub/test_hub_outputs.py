"""The pages and the API show the named outputs of predictions."""

import re
from collections.abc import Iterator, Mapping

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import log_request, span, trace_request
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


@pytest.mark.parametrize("outputs", ["text", 1.5, {"a": {"b": True}}, {}])
def test_outputs_of_another_type_do_not_break_a_page(pages: HubPages, outputs: Value) -> None:
    """The telemetry of others may have any type there."""
    add_prediction(pages, 0, {"ml.prediction.label": "a", "ml.prediction.outputs": outputs})

    (item,) = pages.client.get("/api/predictions?model=m").json()["items"]
    assert item["outputs"] == outputs
    for path in ("/predictions?model=m", f"/t/{TRACE_ID}"):
        assert pages.client.get(path).status_code == 200
