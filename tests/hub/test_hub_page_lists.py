"""The list of traces: clock times, statuses with inner errors, and no words about predictions where there are none."""

import re
import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import attribute, span, trace_request

S = 10**9
STATUS = KeyValue(key="http.response.status_code", value=AnyValue(int_value=200))


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages of an empty hub."""
    with hub_pages() as pages:
        yield pages


def text(pages: HubPages, path: str) -> str:
    """Return the text of a page with single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", pages.client.get(path).text).replace("\u202f", " ").split())


def root(**fields: object) -> Span:
    """Return a SERVER span that started now."""
    now = time.time_ns()
    times = {"start_time_unix_nano": now, "end_time_unix_nano": now + S}
    return span(**times, kind=Span.SPAN_KIND_SERVER, **fields)


def test_an_inner_error_is_beside_the_status(pages: HubPages) -> None:
    """A request with the status 200 and an inner error is not shown as failed with 200."""
    request = root(attributes=[STATUS])
    inner = span(
        trace_id=request.trace_id, parent_span_id=request.span_id, status=Status(code=Status.STATUS_CODE_ERROR)
    )
    pages.add(trace_request(request, inner))
    for path in ("/traces", f"/t/{request.trace_id.hex()}"):
        assert "200 · 1 error" in text(pages, path)
        assert '<span class="status">200</span>' in pages.client.get(path).text


def test_pages_without_predictions_do_not_mention_them(pages: HubPages) -> None:
    """The column Output and the section Prediction are shown only where there are predictions."""
    plain = root(attributes=[STATUS])
    pages.add(trace_request(plain))
    for path in ("/traces", f"/t/{plain.trace_id.hex()}"):
        assert not re.search(r"Output|[Pp]rediction|ml\.", text(pages, path).replace("Modeltrace", "")), path
        assert "ml.prediction" not in pages.client.get(path).text

    answered = root(attributes=[attribute("ml.prediction.id", "p1"), attribute("ml.prediction.label", "yes")])
    pages.add(trace_request(answered))
    assert re.search(r"Output .* yes", text(pages, "/traces"))
    assert "No prediction log record has arrived" in text(pages, f"/t/{answered.trace_id.hex()}")


def test_a_row_has_the_clock_time(pages: HubPages) -> None:
    """Each row has the time of day in UTC and the relative time."""
    pages.add(trace_request(root()))
    row = text(pages, "/traces")
    assert "Started (UTC)" in row
    assert re.search(r"\d\d:\d\d:\d\d (now|\d+ s ago)", row)


@pytest.mark.slow
def test_links_of_one_trace_are_one_with_a_count(pages: HubPages) -> None:
    """The links of a request with the labels of a batch are one on both pages, with their number."""
    batch = root()
    links = [
        Span.Link(trace_id=batch.trace_id, span_id=batch.span_id, attributes=[attribute("row", f"{row}"), STATUS])
        for row in range(20)
    ]
    feedback = root(name="POST /feedback", links=links)
    pages.add(trace_request(batch), trace_request(feedback))

    incoming, outgoing = (f"/t/{request.trace_id.hex()}" for request in (batch, feedback))
    head = pages.client.get(incoming).text.split('class="trace-head"')[1].split("</header>")[0]
    assert head.count(f"t/{feedback.trace_id.hex()}") == 1
    assert re.search("Linked from POST /feedback .* .20", text(pages, incoming))
    assert re.search(r"Links to .* .20 http\. response\. status_ code 200 Resource", text(pages, outgoing))


def test_the_services_of_a_trace_begin_with_that_of_the_root(pages: HubPages) -> None:
    """If the list of services is cut, the service of the root is still shown."""
    request = root()
    pages.add(trace_request(request))
    below = trace_request(span(trace_id=request.trace_id, parent_span_id=request.span_id))
    below.resource_spans[0].resource.attributes[0].value.string_value = "a"
    pages.add(below)
    assert "svc a" in text(pages, "/traces")
