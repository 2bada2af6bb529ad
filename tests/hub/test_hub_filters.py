"""The filter line and the time range of the lists and pages: each operator and field, the API, links and redirects."""

import re
import time
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from modeltrace_hub.queries.list_fields import LABEL_FIELDS, LLM_FIELDS, LOG_FIELDS, PREDICTION_FIELDS, TRACE_FIELDS
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import attribute, log_request, resource, span, trace_request

MS = 10**6
NOW = time.time_ns()
ERROR = Status(code=Status.STATUS_CODE_ERROR)


def integer(key: str, value: int) -> KeyValue:
    """Return an attribute with an integer."""
    return KeyValue(key=key, value=AnyValue(int_value=value))


def add_trace(pages: HubPages, service: str, name: str, duration_ms: int, **fields: Any) -> str:
    """Store a trace of one span; its resource has the attribute `zone`."""
    root = span(start_time_unix_nano=NOW, end_time_unix_nano=NOW + duration_ms * MS, name=name, **fields)
    request = trace_request(root)
    request.resource_spans[0].resource.CopyFrom(resource(service))
    request.resource_spans[0].resource.attributes.append(attribute("zone", f"{service}-zone"))
    pages.add(request)
    return root.trace_id.hex()


@pytest.fixture(scope="module")
def traced() -> Iterator[tuple[HubPages, dict[str, str]]]:
    """Yield the pages of a hub with three traces, and the name of each trace ID."""
    with hub_pages() as pages:
        ids = {
            add_trace(
                pages,
                "shop",
                "GET /basket",
                50,
                kind=Span.SPAN_KIND_SERVER,
                attributes=[attribute("http.route", "/Basket/{id}"), integer("http.response.status_code", 200)],
            ): "basket",
            add_trace(
                pages,
                "shop",
                "POST /pay",
                150,
                kind=Span.SPAN_KIND_SERVER,
                status=ERROR,
                attributes=[
                    attribute("http.route", "/pay"),
                    integer("http.response.status_code", 500),
                    attribute("name", "attribute"),
                    attribute("zone", "own"),
                ],
            ): "pay",
            add_trace(pages, "ledger", "book", 950, attributes=[attribute("amount", "many")]): "book",
        }
        yield pages, ids


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {"basket", "pay", "book"}),
        ("service = shop", {"basket", "pay"}),
        ("service != shop", {"book"}),
        ("service ~ SHO", {"basket", "pay"}),
        ("service = shop service = ledger", set()),
        ("name ~ basket", {"basket"}),
        ('name = "POST /pay"', {"pay"}),
        ("kind = server", {"basket", "pay"}),
        ("duration > 100ms", {"pay", "book"}),
        ("duration >= 150ms duration < 0.95s", {"pay"}),
        ("duration = 950ms", {"book"}),
        ("error exists", {"pay"}),
        ("error = true", {"pay"}),
        ("error != true", {"basket", "book"}),
        ("error = false service = shop", {"basket"}),
        ("status >= 500", {"pay"}),
        ("status exists", {"basket", "pay"}),
        ("spans > 1", set()),
        ("http.route ~ basket", {"basket"}),
        ("http.route exists", {"basket", "pay"}),
        ("http.route != /pay", {"basket"}),
        ("http.response.status_code > 404", {"pay"}),
        ("http.response.status_code = 200", {"basket"}),
        ("http.response.status_code <= 200", {"basket"}),
        ("amount > 1", set()),
        ("attr.name = attribute", {"pay"}),
        ("zone = shop-zone", {"basket"}),
        ("zone ~ zone", {"basket", "book"}),
        ("zone exists", {"basket", "pay", "book"}),
        ("zone != ledger-zone", {"basket", "pay"}),
        ("error exists http.route = /pay duration > 100ms", {"pay"}),
        ("error exists http.route = /Basket", set()),
    ],
)
def test_each_operator_selects_traces(traced: tuple[HubPages, dict[str, str]], line: str, expected: set[str]) -> None:
    """The page and the API apply the same filter line."""
    pages, ids = traced
    listed = pages.client.get("/api/traces", params={"filter": line}).json()["traces"]
    assert {ids[trace["trace_id"]] for trace in listed} == expected
    html = pages.client.get("/traces", params={"filter": line}).text
    assert {ids[trace_id] for trace_id in re.findall(r'data-key="([0-9a-f]{32})"', html)} == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("duration > fast", "character 12: duration 'fast': a duration is a number and a unit"),
        ("duration ~ 1", "character 1: duration has the operators ="),
        ("service > a", "character 1: service has the operators = != ~ exists, but not >"),
        ("error = perhaps", "character 9: error 'perhaps': the value is true or false"),
        ("status = ok", "character 10: status 'ok': a number is needed"),
        ("amount > many", "character 10: amount 'many': a number is needed"),
        ("a = 1 and", "character 10: the filter ends here"),
        ("a = 1 b", "character 8: the filter ends here"),
    ],
)
def test_an_invalid_line_is_explained(traced: tuple[HubPages, dict[str, str]], line: str, message: str) -> None:
    """The API names the parameter and the position; the page shows the list without the filter."""
    pages, ids = traced
    response = pages.client.get("/api/traces", params={"filter": line})
    error = response.json()["error"]
    assert (response.status_code, error["parameter"]) == (422, "filter")
    assert error["message"].startswith(f"filter: {message}")
    page = pages.client.get("/traces", params={"filter": line})
    assert page.status_code == 422
    assert f"Filter: {message}" in unescape(page.text)
    assert all(trace_id in page.text for trace_id in ids)
    assert f'value="{line}"' in unescape(page.text)


def log(text: str, severity: int = 9, **fields: Any) -> LogRecord:
    """Return a log record of now."""
    return LogRecord(time_unix_nano=NOW, severity_number=severity, body=AnyValue(string_value=text), **fields)


@pytest.fixture(scope="module")
def logged() -> Iterator[HubPages]:
    """Yield the pages of a hub with three log records."""
    with hub_pages() as pages:
        for scope, record in (
            ("shop.basket", log("Added 3 items", event_name="added", attributes=[integer("items", 3)])),
            ("shop.pay", log("Card refused", 14, trace_id=b"\xab" * 16, span_id=b"\xcd" * 8)),
            ("", log("no severity", 0)),
        ):
            request = log_request(record)
            request.resource_logs[0].scope_logs[0].scope.name = scope
            pages.add(request)
        yield pages


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("severity = WARN", ["Card refused"]),
        ("severity < warn", ["Added 3 items"]),
        ("severity != INFO", ["Card refused"]),
        ("severity exists", ["Added 3 items", "Card refused"]),
        ("severity_number = 14", ["Card refused"]),
        ("text ~ ADDED", ["Added 3 items"]),
        ("event exists", ["Added 3 items"]),
        ("event != other", ["Added 3 items"]),
        ("scope ~ pay", ["Card refused"]),
        ("scope exists", ["Added 3 items", "Card refused"]),
        (f"trace_id = {'AB' * 16}", ["Card refused"]),
        ("trace_id exists", ["Card refused"]),
        (f"span_id = {'cd' * 8} trace_id = {'00' * 16}", []),
        ("items > 2", ["Added 3 items"]),
    ],
)
def test_each_field_selects_log_records(logged: HubPages, line: str, expected: list[str]) -> None:
    """The list and the counts are of the same records."""
    records = logged.client.get("/api/logs", params={"filter": line}).json()["logs"]
    assert sorted(record["body"] for record in records) == sorted(expected)
    counts = logged.client.get("/api/logs/counts", params={"filter": line}).json()["counts"]
    assert counts["total"] == len(expected)


def nested(key: str, **values: int) -> KeyValue:
    """Return an attribute with an object."""
    items = [integer(name, value) for name, value in values.items()]
    return KeyValue(key=key, value=AnyValue(kvlist_value=KeyValueList(values=items)))


@pytest.fixture(scope="module")
def predicted() -> Iterator[HubPages]:
    """Yield the pages of a hub with two predictions, of which one has a label."""
    with hub_pages() as pages:
        for n, label in enumerate(("yes", "no")):
            attributes = [
                attribute("ml.model.name", "churn"),
                attribute("ml.prediction.id", f"p{n}"),
                attribute("ml.prediction.external_id", f"order {n}"),
                attribute("ml.prediction.label", label),
                attribute("ml.tag.country", ["DE", "FR"][n]),
                KeyValue(key="ml.prediction.confidence", value=AnyValue(double_value=0.5 + n / 4)),
                nested("ml.prediction.inputs", age=30 + n),
            ]
            pages.add(log_request(log("prediction", event_name="ml.prediction", attributes=attributes)))
        feedback = [attribute("ml.prediction.id", "p0"), attribute("ml.feedback.label", "no")]
        pages.add(log_request(log("feedback", event_name="ml.feedback", attributes=feedback)))
        yield pages


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('id = "order 0"', ["p0"]),
        ("label = no", ["p1"]),
        ("confidence > 0.5", ["p1"]),
        ("confidence >= 0.5", ["p0", "p1"]),
        ("input.age > 30", ["p1"]),
        ("input.age exists", ["p0", "p1"]),
        ("input.income exists", []),
        ("tag.country = DE", ["p0"]),
        ("model = churn service = svc", ["p0", "p1"]),
        ("ml.prediction.id ~ P1", ["p1"]),
    ],
)
def test_each_field_selects_predictions(predicted: HubPages, line: str, expected: list[str]) -> None:
    """Inputs and tags have a prefix; labels are found by the fields of their predictions."""
    items = predicted.client.get("/api/predictions", params={"filter": line}).json()["items"]
    assert sorted(item["prediction_id"] for item in items) == expected
    if line.split(maxsplit=1)[0] in {"id", "confidence", "input.age", "input.income", "tag.country"}:
        labels = predicted.client.get("/api/predictions", params={"filter": line, "outcome": "labelled"}).json()[
            "items"
        ]
        assert [item["prediction_id"] for item in labels] == [name for name in expected if name == "p0"]


def test_earlier_parameters_of_predictions_become_the_line(predicted: HubPages) -> None:
    """Model and version stay parameters, because they select the training data; an invalid line is explained."""
    query = urlencode({"model": "churn", "id": "order 0", "tag": "country=DE", "above": "0.4"})
    response = predicted.client.get(f"/predictions?{query}")
    assert response.status_code == 303
    moved = parse_qs(urlsplit(response.headers["location"]).query)
    assert moved == {"model": ["churn"], "filter": ['id = "order 0" tag.country = DE confidence > 0.4']}
    page = predicted.client.get(f"/{response.headers['location']}").text
    assert re.findall(r'<tr data-key="(p\d)"', page) == ["p0"]
    bad = predicted.client.get("/predictions", params={"filter": "confidence = high"})
    assert (bad.status_code, "character 14: confidence" in bad.text) == (422, True)


def test_the_help_of_a_page_has_every_field(
    traced: tuple[HubPages, dict[str, str]], logged: HubPages, predicted: HubPages
) -> None:
    """The page lists the fields of its filter line, those of predictions and LLM calls only where there are some."""
    hidden = {"output", "confidence", "llm_calls", "tokens"}
    for pages, path, fields in (
        (logged, "/logs", LOG_FIELDS),
        (predicted, "/predictions", PREDICTION_FIELDS),
        (predicted, "/predictions?outcome=labelled", LABEL_FIELDS),
        (traced[0], "/traces", TRACE_FIELDS),
        (traced[0], "/llm-calls", LLM_FIELDS),
    ):
        shown = set(re.findall(r"<dt><code>([\w.]+)</code></dt><dd>", pages.client.get(path).text))
        expected = {*fields.fields, *(f"{prefix}NAME" for prefix in (*fields.prefixes, *fields.prefixed))}
        assert shown == expected - (hidden if path == "/traces" else set()), path


@pytest.mark.parametrize("query", ["since=1h", "since=2026-01-31T12%3A00&until=2026-01-31T13%3A00%3A00Z"])
@pytest.mark.parametrize("path", ["/", "/traces", "/logs", "/models", "/predictions", "/t/{id}"])
def test_the_time_range_stays_across_pages(traced: tuple[HubPages, dict[str, str]], path: str, query: str) -> None:
    """Each link of the navigation carries the time range of the page."""
    pages, ids = traced
    path = path.format(id=next(iter(ids)))
    response = pages.client.get(f"{path}?{query}")
    assert response.status_code == 200
    navigation = re.findall(r'<nav aria-label="Pages">(.*?)</nav>', response.text, re.DOTALL)[0]
    targets = re.findall(r'href="([^"]*)"', navigation)
    assert len(targets) >= 4
    for target in targets:
        assert parse_qs(urlsplit(unescape(target)).query) == parse_qs(query)
        assert pages.client.get(f"/{unescape(target).removeprefix('../').removeprefix('./')}").status_code == 200


def test_rows_carry_the_time_range(traced: tuple[HubPages, dict[str, str]], logged: HubPages) -> None:
    """A link to a trace carries the time range of the list."""
    pages, ids = traced
    links = pages.links("/traces", pages.client.get("/traces?since=1h").text)
    assert {f"/t/{trace_id}?since=1h" for trace_id in ids} <= set(links)
    assert f"/t/{'ab' * 16}?span={'cd' * 8}&since=1h" in logged.links("/logs", logged.client.get("/logs?since=1h").text)


def test_a_range_of_dates_is_shown_in_its_fields(traced: tuple[HubPages, dict[str, str]]) -> None:
    """Times without a zone are UTC, as on the pages; an invalid range is explained."""
    pages = traced[0]
    html = pages.client.get("/traces?since=2026-01-31T12:00&until=2026-01-31T14:00%2B01:00").text
    assert re.findall(r'type="datetime-local"[^>]*value="([^"]*)"', html) == [
        "2026-01-31T12:00:00",
        "2026-01-31T13:00:00",
    ]
    assert "From: a time is RFC 3339" in pages.client.get("/traces?since=noon").text
    models = pages.client.get("/api/models?since=2026-01-31T12:00:30&until=2026-01-31T13:00:00").json()["window"]
    assert models == {"since_ns": 1769860800 * 10**9, "until_ns": 1769864400 * 10**9, "step_ns": 60 * 10**9}
    for query in ("since=2026-01-31T12:00&until=2026-01-31T11:00", "since=2025-01-31&until=2026-01-31", "since=1s"):
        assert pages.client.get(f"/api/models?{query}").status_code == 422


def test_a_misspelled_field_is_named(traced: tuple[HubPages, dict[str, str]]) -> None:
    """The error of a number has the closest field; a name that may be an attribute gets a hint on the page."""
    pages, _ = traced
    response = pages.client.get("/api/traces", params={"filter": "durtion > 100ms"})
    assert response.status_code == 422
    assert "character 1: there is no field durtion; is duration meant?" in response.json()["error"]["message"]
    for line, hint in (("statuss = 200", "Is <code>status</code> meant?"), ("zone = a http.statuss = 2", None)):
        text = pages.client.get("/traces", params={"filter": line}).text
        assert ("There is no field" in text, hint is None or hint in text) == (hint is not None, True)
