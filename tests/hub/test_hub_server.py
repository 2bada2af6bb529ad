"""The HTTP servers of the hub: upgrade offers, HEAD, redirects and limits."""

import http.client
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from tests.helpers.hub_pages import hub_pages
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.otlp_messages import span, trace_request

StartHub = Callable[..., AbstractContextManager[InProcessHub]]
OFFER = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
@pytest.mark.parametrize("chunked", [False, True])
def test_with_an_offered_upgrade_spans_are_stored(hub: InProcessHub, upgrade: str, chunked: bool) -> None:
    """A request that offers an upgrade is answered with 200 only if its spans are stored."""
    name = f"{upgrade} {chunked}"
    body = trace_request(span(name=name)).SerializeToString()
    connection = http.client.HTTPConnection("127.0.0.1", hub.settings.http_port, timeout=20)
    headers = {"Content-Type": "application/x-protobuf", **OFFER, "Upgrade": upgrade}
    connection.request(
        "POST", "/v1/traces", iter([body[:9], body[9:]]) if chunked else body, headers, encode_chunked=chunked
    )

    assert connection.getresponse().status == 200
    assert len(hub.rows("FROM spans WHERE name = ?", name)) == 1
    connection.close()


@pytest.mark.parametrize(
    "path", ["/", "/traces", "/models", "/healthz", "/api/traces", "/api/stats", "/static/style.css"]
)
def test_head_is_answered_like_get(hub: InProcessHub, path: str) -> None:
    """Every page and API call with GET has HEAD, without a body."""
    with httpx.Client(base_url=hub.page_url) as client:
        get, head = client.get(path), client.head(path)

    assert (head.status_code, head.headers["content-type"]) == (200, get.headers["content-type"])
    assert head.content == b""


@pytest.mark.slow
def test_every_route_with_get_has_head() -> None:
    """No page and no API call answers HEAD with another status than GET."""
    with hub_pages() as pages:
        paths = pages.paths(trace_ids=["7" * 32], models=["toy"])

        assert len(paths) > 30
        for path in paths:
            assert (path, pages.client.head(path).status_code) == (path, pages.client.get(path).status_code)


def test_head_is_not_documented(hub: InProcessHub) -> None:
    """The OpenAPI document lists GET only."""
    paths = httpx.get(f"{hub.page_url}/api/openapi.json").json()["paths"]

    assert not [path for path, calls in paths.items() if "head" in calls]


def test_redirects_name_no_host(hub: InProcessHub) -> None:
    """A trailing slash is redirected, at any public address of the hub."""
    assert httpx.get(f"{hub.page_url}/traces/?limit=5").headers["location"] == "../traces?limit=5"
    assert hub.client.post("/v1/traces/").headers["location"] == "../traces"


def test_both_ports_limit_headers(hub: InProcessHub) -> None:
    """Headers without an end get 431."""
    for port in (hub.settings.port, hub.settings.http_port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 400_000)
            assert connection.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_settings_limit_connections(start_hub: StartHub) -> None:
    """The hub closes connections with half a body, half of the headers or no data, after the configured time."""
    halves = (b"", b"POST /v1/tr", b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")
    with start_hub(header_timeout=0.2, body_timeout=0.2, keep_alive_timeout=0.2) as hub:
        for half, answered in zip(halves, (b"", b"HTTP/1.1 408 ", b"HTTP/1.1 4"), strict=True):
            with socket.create_connection(("127.0.0.1", hub.settings.http_port), timeout=20) as connection:
                connection.sendall(half)
                received = b""
                while piece := connection.recv(1000):
                    received += piece
            assert received.startswith(answered)
