"""The fast path: which requests it answers, which it passes to FastAPI, and what it records."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from modeltrace.app import create_app
from modeltrace.inference.model import Model
from modeltrace.settings import read_settings
from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.providers import SidecarPipeline, Telemetry
from modeltrace.telemetry.records.trace import RequestTracer
from tests.helpers.in_process_services import RecordingQueue, RecordsService, records_service
from tests.helpers.services import ID_KEY

Rows = list[dict[str, float]]


@pytest.fixture
def service(model: Model) -> Iterator[RecordsService]:
    """Run the service with the fast path."""
    with records_service(model) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/predict/batch", 405),
        ("GET", "/model", 200),
        ("GET", "/nothing", 404),
        ("GET", "/docs", 200),
        ("POST", "/model", 405),
    ],
)
def test_other_requests_are_passed_to_fastapi(service: RecordsService, method: str, path: str, status: int) -> None:
    """FastAPI answers other routes, and other methods of the prediction routes; they are not recorded."""
    assert service.client.request(method, path).status_code == status
    assert service.queue.requests == []


def test_the_documentation_contains_the_prediction_routes(service: RecordsService) -> None:
    """FastAPI documents them, since they are FastAPI routes too."""
    assert {"/predict", "/predict/batch"} <= set(service.client.get("/openapi.json").json()["paths"])


def test_active_requests_are_counted_without_probes(model: Model) -> None:
    """Each request is counted by method and scheme while it is answered; probes are not counted."""
    with records_service(model) as service:
        service.client.get("/healthz")
        service.client.get("/model")
        service.client.post("/predict", json={})
        outermost: Any = service.client.app  # the middleware that redacts query strings

    assert outermost._app.active_requests == {("GET", "http"): 0, ("POST", "http"): 0}


def test_access_log_lines_have_the_format_of_the_server(
    service: RecordsService, caplog: pytest.LogCaptureFixture
) -> None:
    """The fast path writes the lines of other requests, since the access log of the server is disabled."""
    caplog.set_level(logging.INFO, "uvicorn.access")
    service.client.get("/model?x=1")

    assert [record.getMessage() for record in caplog.records if record.name == "uvicorn.access"] == [
        'testclient:50000 - "GET /model?x=1 HTTP/1.1" 200'
    ]


def _send(app: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send a request whose body consists of these messages, and return the response messages."""
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "scheme": "http",
        "http_version": "1.1", "server": None, "client": None, "headers": [],
    }  # fmt: skip
    sent: list[dict[str, Any]] = []
    remaining = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(remaining)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def test_a_disconnected_client_receives_no_response(service: RecordsService) -> None:
    """Its request is recorded without a status."""
    assert (
        _send(
            service.client.app, [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
        )
        == []
    )

    (request,) = service.queue.requests
    assert request.status == 0
    assert request.end > 0


def test_a_chunked_body_is_joined(service: RecordsService) -> None:
    """A request without server and client address is answered too."""
    chunks = [b'{"features": ', b"{", b"}}"]
    messages = [{"type": "http.request", "body": chunk, "more_body": chunk != b"}}"} for chunk in chunks]

    start, _ = _send(service.client.app, messages)

    assert start["status"] == 422


def test_without_telemetry_requests_are_recorded_without_a_trace(model: Model, rows: Rows) -> None:
    """Log lines need records even if telemetry is disabled; prediction IDs differ."""
    queue = RecordingQueue()
    pipeline = SidecarPipeline(RequestTracer(None), queue, ExportHealth(), Counter())  # type: ignore[arg-type]  # only the methods that are used
    with TestClient(create_app(read_settings(id_key=ID_KEY), model, Telemetry(pipeline=pipeline))) as client:
        answers = [client.post("/predict", json={"features": rows[0]}) for _ in range(2)]

    assert [answer.json()["trace_id"] for answer in answers] == [None, None]
    assert "x-trace-id" not in answers[0].headers
    assert len({answer.json()["prediction_id"] for answer in answers}) == 2
    assert [request.trace_id for request in queue.requests] == [bytes(16)] * 2
