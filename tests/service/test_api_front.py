"""The front: what it answers by itself, what it passes on, and what it writes down."""

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
from modeltrace.telemetry.provider import SidecarPipeline, Telemetry
from modeltrace.telemetry.records.trace import RequestTracer
from tests.helpers.in_process_services import RecordingQueue, RecordsService, records_service
from tests.helpers.services import ID_KEY

Rows = list[dict[str, float]]


@pytest.fixture
def ours(model: Model) -> Iterator[RecordsService]:
    """The service with its front."""
    with records_service(model) as found:
        yield found


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
def test_everything_else_is_passed_on(ours: RecordsService, method: str, path: str, status: int) -> None:
    """Other calls, and other methods of the prediction calls, are FastAPI's; they make no record."""
    assert ours.client.request(method, path).status_code == status
    assert ours.queue.requests == []


def test_the_documentation_still_has_the_prediction_calls(ours: RecordsService) -> None:
    """They are routes as well, which is where FastAPI documents them from."""
    assert {"/predict", "/predict/batch"} <= set(ours.client.get("/openapi.json").json()["paths"])


def test_requests_in_flight_are_counted_without_health_calls(model: Model) -> None:
    """Each is counted while it is answered, by method and scheme; machines that ask whether all is well are not."""
    with records_service(model) as ours:
        ours.client.get("/healthz")
        ours.client.get("/model")
        ours.client.post("/predict", json={})
        outermost: Any = ours.client.app  # takes queries off where features are private

    assert outermost._app._active_requests == {("GET", "http"): 0, ("POST", "http"): 0}


def test_access_lines_of_other_calls_are_the_servers(ours: RecordsService, caplog: pytest.LogCaptureFixture) -> None:
    """The front writes them in the words of the server, which writes none itself."""
    caplog.set_level(logging.INFO, "uvicorn.access")
    ours.client.get("/model?x=1")

    assert [record.getMessage() for record in caplog.records if record.name == "uvicorn.access"] == [
        'testclient:50000 - "GET /model?x=1 HTTP/1.1" 200'
    ]


def _send(app: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer a request whose body comes as these messages."""
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "scheme": "http",
        "http_version": "1.1", "server": None, "client": None, "headers": [],
    }  # fmt: skip
    answered: list[dict[str, Any]] = []
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    asyncio.run(app(scope, receive, send))
    return answered


def test_a_client_that_goes_away_is_not_answered(ours: RecordsService) -> None:
    """Its request is written down without a status; nothing is sent to nobody."""
    assert (
        _send(ours.client.app, [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
        == []
    )

    (request,) = ours.queue.requests
    assert request.status == 0
    assert request.end > 0


def test_a_body_in_pieces_is_one_body(ours: RecordsService) -> None:
    """Neither a server nor a client address is needed for an answer."""
    pieces = [b'{"features": ', b"{", b"}}"]
    messages = [{"type": "http.request", "body": piece, "more_body": piece != b"}}"} for piece in pieces]

    start, _ = _send(ours.client.app, messages)

    assert start["status"] == 422


def test_without_telemetry_there_is_no_trace_and_still_a_record(model: Model, rows: Rows) -> None:
    """Log lines are written with telemetry off, too, and IDs differ."""
    kept = RecordingQueue()
    records = SidecarPipeline(RequestTracer(None), kept, ExportHealth(), Counter())  # type: ignore[arg-type]  # what of it is used
    with TestClient(create_app(read_settings(id_key=ID_KEY), model, Telemetry(pipeline=records))) as client:
        answers = [client.post("/predict", json={"features": rows[0]}) for _ in range(2)]

    assert [answer.json()["trace_id"] for answer in answers] == [None, None]
    assert "x-trace-id" not in answers[0].headers
    assert len({answer.json()["prediction_id"] for answer in answers}) == 2
    assert [request.trace_id for request in kept.requests] == [bytes(16)] * 2
