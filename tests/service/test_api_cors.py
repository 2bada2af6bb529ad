"""Web pages of listed origins may call the service from a browser."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from modeltrace.api.auth import wrap_with_auth
from modeltrace.api.rate_limit import build_rate_limit
from modeltrace.errors import SettingsError
from modeltrace.settings import read_settings

KEY = "a key of 16 signs"
ORIGIN = "https://app.example.com"
OTHER = "https://evil.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,traceparent,x-user-id",
}
CreateClient = Callable[..., TestClient]


@pytest.fixture
def client(app: Any) -> CreateClient:
    """Return a function that creates a client of a service that allows two origins."""

    def create(origins: str = f"{ORIGIN},http://127.0.0.1:3000", **settings: Any) -> TestClient:
        values = read_settings(cors_origins=origins, **settings)
        rate_limit = build_rate_limit(values, None, lambda: None)
        return TestClient(wrap_with_auth(app, values, rate_limit), base_url="http://localhost:8000")

    return create


@pytest.mark.parametrize("origin", [ORIGIN, "http://127.0.0.1:3000", ORIGIN.upper()])
def test_a_page_of_a_listed_origin_can_predict(client: CreateClient, rows: list[dict[str, float]], origin: str) -> None:
    """The preflight request needs no key; the page can read the answer and its trace ID."""
    service = client(api_key=KEY)
    preflight = service.options("/predict", headers={"Origin": origin, **PREFLIGHT})
    headers = {"Origin": origin, "Authorization": f"Bearer {KEY}"}
    answer = service.post("/predict", json={"features": rows[0]}, headers=headers)

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert "POST" in preflight.headers["access-control-allow-methods"]
    allowed = preflight.headers["access-control-allow-headers"].replace(" ", "").split(",")
    assert set(PREFLIGHT["Access-Control-Request-Headers"].split(",")) <= set(allowed)
    assert preflight.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in preflight.headers
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["vary"] == "Origin"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert "x-trace-id" in answer.headers
    assert {"X-Trace-Id", "Retry-After"} <= set(exposed)


def test_pages_can_read_errors(client: CreateClient) -> None:
    """Responses to a wrong key, to a missing path and beyond the rate limit have the headers, too."""
    service = client(api_key=KEY, rate_limit=0.001, rate_limit_burst=2)
    right = {"Origin": ORIGIN, "Authorization": f"Bearer {KEY}"}
    answers = [service.get("/model", headers={"Origin": ORIGIN})]
    answers += [service.get("/nothing", headers=right) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [401, 404, 404, 429]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {ORIGIN}


@pytest.mark.parametrize(
    "origin", [OTHER, f"{ORIGIN}.evil.example", f"{ORIGIN}:8443", "http://app.example.com", "null"]
)
def test_other_origins_are_forbidden(client: CreateClient, origin: str) -> None:
    """Other origins get 403 and no CORS header, as without the setting."""
    service = client()
    preflight = service.options("/predict", headers={"Origin": origin, **PREFLIGHT})
    answer = service.post("/predict", json={}, headers={"Origin": origin})

    assert preflight.status_code == 400
    assert answer.status_code == 403
    assert "MODELTRACE_CORS_ORIGINS" in answer.json()["error"]["message"]
    assert "access-control-allow-origin" not in {**preflight.headers, **answer.headers}


def test_without_the_setting_there_are_no_cors_headers(client: CreateClient) -> None:
    """A preflight request is a request of another origin."""
    service = client("")
    answer = service.options("/predict", headers={"Origin": ORIGIN, **PREFLIGHT})

    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "app.example.com",
        f"{ORIGIN}/",
        f"{ORIGIN}/page",
        f"{ORIGIN}:443",
        "http://a.example:80",
        "https://*.example",
    ],
)
def test_origins_that_no_browser_sends_are_rejected(origins: str) -> None:
    """The message names the setting and shows origins."""
    with pytest.raises(
        SettingsError, match=r"MODELTRACE_CORS_ORIGINS: must be origins such as https://app.example.com"
    ):
        read_settings(cors_origins=origins)
