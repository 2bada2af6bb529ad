"""`/logs` and the API calls about log records: filters, pages, counts, facets, groups, and links to traces."""

import re
import time
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import attribute, log_request, resource

S = 10**9
NOW = time.time_ns() // S * S
SEVERITIES = {"INFO": 9, "WARN": 13, "ERROR": 17}


def record(text: str | None, seconds: float = 0, severity: str = "INFO", **fields: Any) -> LogRecord:
    """Return a log record that was written some seconds ago."""
    return LogRecord(
        time_unix_nano=NOW - int(seconds * S),
        severity_number=SEVERITIES[severity],
        severity_text=severity,
        body=None if text is None else AnyValue(string_value=text),
        **fields,
    )


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages of an empty hub."""
    with hub_pages() as pages:
        yield pages


def add(pages: HubPages, *records: LogRecord, service: str = "shop", scope: str = "shop.basket") -> None:
    """Store log records of a service."""
    request = log_request(*records)
    request.resource_logs[0].resource.CopyFrom(resource(service))
    request.resource_logs[0].scope_logs[0].scope.name = scope
    pages.add(request)


def texts(pages: HubPages, **parameters: Any) -> list[str]:
    """Return the texts of the API's list."""
    return [log["body"] for log in pages.client.get("/api/logs", params=parameters).json()["logs"]]


def shown(pages: HubPages, query: str = "") -> list[str]:
    """Return the texts of the list of the page."""
    response = pages.client.get(f"/logs?{query}", follow_redirects=True)
    assert response.status_code == 200, response.text
    return [unescape(text) for text in re.findall(r'<span class="body">([^<]*)', response.text)]


def test_the_empty_page_explains_itself(pages: HubPages) -> None:
    """Without log records, the page says how to send telemetry, and the API returns no counts."""
    assert "No log records have arrived yet" in pages.client.get("/logs").text
    assert pages.client.get("/api/logs/counts").json() == {"counts": None}
    assert pages.client.get("/api/logs/groups").json() == {"groups": []}


def test_the_newest_record_is_first(pages: HubPages) -> None:
    """Page and API list the newest record first, in every search window."""
    add(pages, *(record(f"{age}", age) for age in (5, 90_000, 0, 4000, 200_000)))
    assert shown(pages) == texts(pages) == ["0", "5", "4000", "90000", "200000"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"service": "shop"}, ["paid 7", "slow"]),
        ({"severity": "warn"}, ["slow"]),
        ({"severity_number": "13"}, ["slow"]),
        ({"q": "PAID"}, ["paid 7"]),
        ({"event": "billed"}, ["invoice"]),
        ({"scope": "billing"}, ["invoice"]),
        ({"attr.customer": "c1"}, ["paid 7"]),
        ({"attr.customer": "c2"}, []),
        ({"trace_id": "ab" * 16}, ["slow", "invoice"]),
        ({"trace_id": "ab" * 16, "span_id": "cd" * 8}, ["slow"]),
        ({"trace_id": "99" * 16}, []),
        ({"since": str(NOW // S - 1)}, ["paid 7"]),
        ({"until": str(NOW // S - 3)}, ["slow", "invoice"]),
        ({"pattern": "paid <n>"}, ["paid 7"]),
    ],
)
def test_every_filter_selects_records(pages: HubPages, parameters: dict[str, str], expected: list[str]) -> None:
    """The page and the API apply the same filters, and the counts are of the same records."""
    slow = {"trace_id": b"\xab" * 16, "span_id": b"\xcd" * 8}
    add(pages, record("paid 7", 0, attributes=[attribute("customer", "c1")]), record("slow", 5, "WARN", **slow))
    bill = record("invoice", 9, event_name="billed", trace_id=b"\xab" * 16)
    add(pages, bill, service="ledger", scope="billing")

    assert texts(pages, **parameters) == expected
    assert shown(pages, "&".join(f"{name}={value}" for name, value in parameters.items())) == expected
    counts = pages.client.get("/api/logs/counts", params=parameters).json()["counts"]
    assert (counts["total"] if counts else 0) == len(expected)


def test_the_pages_of_the_list_have_each_record_once(pages: HubPages) -> None:
    """`next` leads to older records, also among records with equal times."""
    add(pages, *(record(f"{n}", n // 5) for n in range(23)))
    add(pages, *(record(f"old {n}", 100_000) for n in range(4)))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(20):
        result = pages.client.get("/api/logs", params={"limit": "4", **cursor}).json()
        seen += [log["body"] for log in result["logs"]]
        if result["next"] is None:
            break
        cursor = {"cursor": result["next"]}
    assert len(seen) == 27
    assert set(seen) == {*map(str, range(23)), *(f"old {n}" for n in range(4))}


@pytest.mark.slow
def test_records_are_counted_by_step_and_property(pages: HubPages) -> None:
    """The counts of the steps, of the facets and of the records are equal; each bar links to its records."""
    add(pages, *(record("a", n * 30) for n in range(50)), *(record("b", n * 45, "ERROR") for n in range(20)))
    add(pages, record("c", 3, "WARN"), service="ledger", scope="billing")

    counts = pages.client.get("/api/logs/counts").json()["counts"]

    assert counts["total"] == 71
    assert counts["facets"]["severity"] == {"INFO": 50, "ERROR": 20, "WARN": 1}
    assert counts["facets"]["service"] == {"shop": 70, "ledger": 1}
    assert counts["facets"]["scope"] == {"shop.basket": 70, "billing": 1}
    assert sum(sum(step.values()) for step in counts["steps"]) == 71
    html = pages.client.get("/logs").text
    bars = re.findall(r'<a href="\./logs\?(since=[^"]*)" aria-label="[0-9:.]+ to [^"]*"', html)
    listed = [len(shown(pages, f"{unescape(query)}&limit=1000")) for query in bars]
    assert listed == [sum(step.values()) for step in counts["steps"] if step]


def test_similar_records_are_one_group(pages: HubPages) -> None:
    """Texts that differ in numbers and IDs only are a group, which links to its records."""
    ids = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    similar = [f"row {n} of {ids[n % 2]} took {n}.{n} ms" for n in range(30)]
    other = record(similar[0].replace("row 0", "row 5"), severity="WARN")
    add(pages, *map(record, similar), other, record("another text"))

    groups = pages.client.get("/api/logs/groups").json()["groups"]

    pattern = "row <n> of <id> took <n> ms"
    counts = {(group["pattern"], group["severity_text"]): group["record_count"] for group in groups}
    assert counts == {(pattern, "INFO"): 30, (pattern, "WARN"): 1, ("another text", "INFO"): 1}
    assert groups[0]["record_count"] == 30
    html = pages.client.get("/logs?view=groups").text
    query = re.search(r'<a href="\./logs\?([^"]*pattern=row[^"]*of[^"]*)"', html)
    assert query is not None
    assert sorted(shown(pages, unescape(query[1]))) == sorted(similar)


def test_a_record_is_shown_among_its_neighbours(pages: HubPages) -> None:
    """`around` lists the 50 records before and after a record, of all services, and marks the record."""
    add(pages, *(record(f"{n}", n) for n in range(200)))
    add(pages, record("far", 500_000), service="ledger")

    result = texts(pages, around=str(NOW - 100 * S))

    assert result == [str(n) for n in range(50, 151)]
    html = pages.client.get(f"/logs?around={NOW - 100 * S}").text
    assert len(re.findall(r'<li [^>]*aria-current="true"', html)) == 1
    assert "data-live" not in html


@pytest.mark.parametrize("value", ["-1", "x", "NaN", "%", "9" * 30])
def test_an_invalid_neighbour_is_an_error_message(pages: HubPages, value: str) -> None:
    """The page shows the list and says what is wrong."""
    add(pages, record("kept", 1))

    response = pages.client.get("/logs", params={"around": value})

    assert (response.status_code, "kept" in response.text) == (422, True)


@pytest.mark.slow
def test_a_record_links_to_its_span_and_back(pages: HubPages) -> None:
    """The list links to the span and to the trace's records; the page of the trace links to the list."""
    trace, span_id = b"\xab" * 16, b"\xcd" * 8
    add(pages, record("in a span", trace_id=trace, span_id=span_id), record("outside"))

    links = pages.links("/logs", pages.client.get("/logs").text)

    assert f"/t/{trace.hex()}?span={span_id.hex()}" in links
    assert f"/logs?filter=trace_id+%3D+{trace.hex()}" in links
    back = pages.links(f"/t/{trace.hex()}", pages.client.get(f"/t/{trace.hex()}").text)
    assert {f"/logs?around={NOW}", f"/logs?trace_id={trace.hex()}"} <= set(back)
    assert all(pages.client.get(link).status_code in {200, 303} for link in back)


def test_an_invalid_filter_is_explained_and_ignored(pages: HubPages) -> None:
    """The pages of log records and traces show the list without the invalid filter; the API answers 422."""
    add(pages, record("still listed"))
    response = pages.client.get("/logs", params={"filter": "text ~ x severity > loud"})
    assert response.status_code == 422
    assert re.search(
        r'role="alert">Filter: character 21: severity [^<]*loud[^<]*TRACE, .*ignores this filter', response.text
    )
    assert "still listed" in response.text
    assert "From: a time is" in pages.client.get("/traces?since=yesterday").text
    assert pages.client.get("/api/logs?severity=loud").status_code == 422
    many = "&".join(f"attr.k{n}=v" for n in range(9))
    assert "at most 8 attribute filters" in pages.client.get(f"/api/logs?{many}").text


def test_earlier_parameters_become_the_filter_line(pages: HubPages) -> None:
    """The page redirects parameters that are conditions to the filter line, with the other parameters unchanged."""
    response = pages.client.get("/logs?attr=customer%3Dc1&severity=INFO&since=1h&attr.event=a+b&filter=a+exists")
    assert response.status_code == 303
    query = parse_qs(urlsplit(response.headers["location"]).query)
    line = 'a exists customer = c1 severity >= INFO attr.event = "a b"'
    assert query == {"since": ["1h"], "filter": [line]}


def test_markup_in_a_record_is_escaped(pages: HubPages) -> None:
    """Markup in text, attributes, service and logger is shown, not run."""
    attack = "<script>alert(1)</script>\"'"
    add(pages, record(attack, attributes=[attribute(attack, attack)], event_name=attack), service=attack, scope=attack)
    for query in ("", "view=groups", "q=%3Cscript%3E"):
        assert "<script>alert" not in pages.client.get(f"/logs?{query}").text
