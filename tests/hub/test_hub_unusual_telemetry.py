"""Every page and API call handles any telemetry that the store accepts."""

import random
import time
from collections.abc import Iterator
from html.parser import HTMLParser

import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import log_request
from tests.helpers.unusual_telemetry import MODEL, model_requests, replace_fields, trace_ids

pytestmark = pytest.mark.slow

TRACE = bytes(range(16))
FOLLOWED = 8
TRACES = 3
CALLS = (
    *("/models?window=24h&all=true", "/models?window=31d", f"/api/models/{MODEL}?window=31d"),
    *("/api/metrics?name=ml.predictions", "/api/logs?severity=warn", "/traces?error=true", "/traces?min_duration=0ns"),
    *("/traces?until=9223372036", "/traces?since=0", "/api/logs?until=9223372036", "/api/predictions?until=9223372036"),
    *(f"/predictions?model={MODEL}&feature=age&bin={name}" for name in ("00", "09", "missing", "other", "7")),
    *(f"/predictions?model={MODEL}&{rest}" for rest in ("bin=yes", "violation=any", "outcome=wrong", "truth=no")),
)


@pytest.fixture(scope="module")
def pages() -> Iterator[HubPages]:
    """Yield the pages of one hub; each test starts with an empty store."""
    with hub_pages() as pages:
        yield pages


@given(st.integers(0, 2**32 - 1))
@settings(
    max_examples=settings.default.max_examples // 16, phases=[Phase.explicit, Phase.generate]
)  # a seed does not shrink
def test_every_route_works(pages: HubPages, seed: int) -> None:
    """No value of any field makes a page or API call fail."""
    chance = random.Random(seed)  # noqa: S311  the same telemetry for a seed
    pages.clear()
    requests = replace_fields(model_requests(), chance, chance.choice((5, 40, 150)))
    pages.add(*requests)
    ids = trace_ids(requests)
    ids = chance.sample(ids, min(TRACES, len(ids)))
    seen = [*pages.paths(trace_ids=ids, models=[MODEL, "9" * 5000]), *CALLS]
    result: list[str] = []
    for path in seen:
        result += pages.links(path, check(pages, path))
    more = sorted(set(result) - set(seen))
    for path in chance.sample(more, min(FOLLOWED, len(more))):
        check(pages, path)


@pytest.mark.parametrize("row", [-5, 2**40])
def test_missing_values_of_a_prediction_are_dashes(pages: HubPages, row: int) -> None:
    """Python's None is never shown, and a row number out of range is not part of a link."""
    pages.clear()
    events = ("ml.prediction", "ml.feedback", "ml.data.violation")
    attributes = [KeyValue(key="ml.prediction.row", value=AnyValue(int_value=row))]
    pages.add(log_request(*(LogRecord(event_name=name, trace_id=TRACE, attributes=attributes) for name in events)))
    for path in ("/predictions", "/predictions?violation=any", "/predictions?outcome=labelled", f"/t/{TRACE.hex()}"):
        html = check(pages, path)
        assert "None<" not in html, path
        for link in pages.links(path, html):
            assert not link.startswith("/t/") or pages.client.get(link).status_code == 200, link


def test_a_prediction_sent_twice_counts_once(pages: HubPages) -> None:
    """Labels and violations that are sent again are shown once, too."""
    pages.clear()
    attributes = [
        KeyValue(key="ml.prediction.id", value=AnyValue(string_value="p1")),
        KeyValue(key="ml.prediction.trace_id", value=AnyValue(string_value=TRACE.hex())),
    ]
    now = time.time_ns()
    request = log_request(
        *(
            LogRecord(event_name=name, trace_id=TRACE, time_unix_nano=now, attributes=attributes)
            for name in ("ml.prediction", "ml.feedback", "ml.data.violation")
        )
    )
    pages.add(request, received_ns=now)
    pages.add(request, received_ns=now + 1)

    trace = pages.client.get(f"/api/traces/{TRACE.hex()}").json()
    assert (trace["prediction_count"], len(trace["predictions"])) == (1, 1)
    for query in ("", "outcome=labelled", "violation=any"):
        assert len(pages.client.get(f"/api/predictions?{query}").json()["items"]) == 1, query
    html = check(pages, f"/t/{TRACE.hex()}")
    assert ">Prediction<" in html
    assert "1\u202ftrue label sent by this request" in html


def check(pages: HubPages, path: str) -> str:
    """Request a path and return its text. The response is not a 5xx, and is JSON or a complete page."""
    response = pages.client.get(path)
    assert response.status_code < 500, (path, response.text[:500])
    kind = response.headers.get("content-type", "")
    if kind.startswith("application/json"):
        orjson.loads(response.content)
    elif kind.startswith("text/html") and response.content:
        HTMLParser().feed(response.text)
        assert response.text.rstrip().endswith("</html>"), path
    return response.text
