"""The API of the waterfall, the search in a trace, and the details of a span with links in both directions."""

from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import attribute, span, trace_request

TRACE, OTHER = bytes([7] * 16), bytes([8] * 16)
ROOT, CHILD, FAILED, BATCH = (bytes([number] * 8) for number in range(1, 5))
T = 1_700_000_000_000_000_000
MS = 10**6


@pytest.fixture(scope="module")
def hub() -> Iterator[HubPages]:
    """Yield a hub with a trace of three spans, and a span of another trace that links to it."""
    times = {"start_time_unix_nano": T, "end_time_unix_nano": T + 10 * MS}
    child_times = {"start_time_unix_nano": T + 2 * MS, "end_time_unix_nano": T + 6 * MS}
    with hub_pages() as hub:
        hub.add(
            trace_request(
                span(trace_id=TRACE, span_id=ROOT, name="checkout", **times),
                span(
                    trace_id=TRACE,
                    span_id=CHILD,
                    parent_span_id=ROOT,
                    name="inference",
                    attributes=[attribute("customer", 'Zoë "Z"')],
                    links=[
                        Span.Link(trace_id=OTHER, span_id=BATCH),
                        Span.Link(trace_id=bytes([9] * 16), span_id=BATCH),
                    ],
                    **child_times,
                ),
                span(
                    trace_id=TRACE,
                    span_id=FAILED,
                    parent_span_id=ROOT,
                    name="charge",
                    status=Status(code=Status.STATUS_CODE_ERROR, message="card declined"),
                    start_time_unix_nano=T + 6 * MS,
                    end_time_unix_nano=T + 7 * MS,
                ),
                span(
                    trace_id=OTHER,
                    span_id=BATCH,
                    name="batch",
                    links=[Span.Link(trace_id=TRACE, span_id=CHILD, attributes=[attribute("reason", "batching")])],
                    **times,
                ),
            )
        )
        yield hub


def test_waterfall_columns(hub: HubPages) -> None:
    """Each column has one item per span, in the order of the waterfall; sparse columns name the row."""
    columns = hub.client.get(f"/api/traces/{TRACE.hex()}/waterfall").json()

    assert columns["span_id"] == [ROOT.hex(), CHILD.hex(), FAILED.hex()]
    assert [columns["names"][name] for name in columns["name"]] == ["checkout", "inference", "charge"]
    assert (columns["depth"], columns["span_count"], columns["axis_ns"]) == ([0, 1, 1], 3, 10 * MS)
    assert (columns["left"], columns["width"]) == ([0, 20, 60], [100, 40, 10])
    assert columns["duration_ns"] == [10 * MS, 4 * MS, 1 * MS]
    assert columns["self_ns"] == [5 * MS, 4 * MS, 1 * MS]
    assert (columns["failed"], columns["links"]) == ([2], [[1, 2]])
    assert columns["critical"] == [[0, [[70, 30], [0, 20]]], [1, [[20, 40]]], [2, [[60, 10]]]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("INFER", [CHILD]),
        ('zoë "z"', [CHILD]),
        ("declined", [FAILED]),
        (ROOT.hex(), [ROOT]),
        ("svc", [ROOT, CHILD, FAILED]),
        ("nowhere", []),
        (" ", []),
    ],
)
def test_search_in_a_trace(hub: HubPages, text: str, found: list[bytes]) -> None:
    """Spans are found by name, attribute, status message, ID and service, whatever the case of the letters."""
    response = hub.client.get(f"/api/traces/{TRACE.hex()}/search", params={"q": text})

    assert sorted(response.json()["span_ids"]) == sorted(span_id.hex() for span_id in found)


def test_an_unknown_trace_has_no_rows(hub: HubPages) -> None:
    """The waterfall of a trace that is not stored is empty."""
    assert hub.client.get(f"/api/traces/{'6' * 32}/waterfall").json()["span_id"] == []


def test_details_have_links_in_both_directions(hub: HubPages) -> None:
    """The details of a span name the spans at the other end of its links, and say which are not stored."""
    html = hub.client.get(f"/t/{TRACE.hex()}", params={"part": "span", "span": CHILD.hex()}).text

    assert "<html" not in html
    links_to, linked_from = html.split("Linked from")
    assert f'href="../t/{OTHER.hex()}?span={BATCH.hex()}"' in links_to
    assert ">batch</a>" in links_to
    assert "not stored" in links_to
    assert ">batch</a>" in linked_from
    assert "batching" in linked_from


def test_details_say_that_a_span_is_missing(hub: HubPages) -> None:
    """The details of a span that the trace does not have say so."""
    html = hub.client.get(f"/t/{TRACE.hex()}", params={"part": "span", "span": "f" * 16}).text

    assert "There is no span ffffffffffffffff in this trace." in html


def test_attributes_link_to_filters(hub: HubPages) -> None:
    """The links next to an attribute lead to the traces that have its value, and to those that have another one."""
    page = f"/t/{TRACE.hex()}?span={CHILD.hex()}"
    with_value, with_another = (link for link in hub.links(page, hub.client.get(page).text) if "customer" in link)

    assert TRACE.hex() in hub.client.get(with_value).text
    assert OTHER.hex() not in hub.client.get(with_value).text
    assert TRACE.hex() not in hub.client.get(with_another).text


def test_the_page_shows_the_selected_span(hub: HubPages) -> None:
    """The links to the previous and the next error lead from any span to the failed one."""
    html = hub.client.get(f"/t/{TRACE.hex()}", params={"span": ROOT.hex()}).text

    assert f'href="?span={FAILED.hex()}" data-step="1"' in html
    assert "self 5\u202fms" in html
