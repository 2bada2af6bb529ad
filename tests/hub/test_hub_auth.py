"""Access control of the hub: Host, Origin and the key."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest

from modeltrace_hub.auth import COOKIE_NAME
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import trace_request

KEY = "a key with ~16 signs"
BODY = trace_request().SerializeToString()
PROTOBUF = {"Content-Type": "application/x-protobuf"}

StartHub = Callable[..., AbstractContextManager[InProcessHub]]


@pytest.fixture(scope="module")
def hub_with_key() -> Iterator[InProcessHub]:
    """Yield a hub with a key."""
    with in_process_hub(key=KEY) as hub:
        yield hub


def _send(hub: InProcessHub, **headers: str) -> httpx.Response:
    return hub.client.post("/v1/traces", content=BODY, headers={**PROTOBUF, **headers})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4318", "127.0.0.1.evil.example", "10.0.0.1"])
def test_an_unknown_host_is_rejected(hub: InProcessHub, host: str) -> None:
    """A Host that is not a name of this machine (DNS rebinding) gets 403 on both ports."""
    assert _send(hub, Host=host).status_code == 403
    assert httpx.get(f"{hub.page_url}/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_loopback_names_are_accepted(hub: InProcessHub, host: str) -> None:
    """Any loopback name is accepted, with any port."""
    assert _send(hub, Host=host).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", "http://[x]"])
def test_another_origin_is_rejected(hub: InProcessHub, origin: str) -> None:
    """A page of another site or port gets 403 on both ports, and no CORS header."""
    for response in (_send(hub, Origin=origin), httpx.get(f"{hub.page_url}/healthz", headers={"Origin": origin})):
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers


def test_its_own_origin_is_accepted(hub: InProcessHub) -> None:
    """The hub's own pages may call the hub."""
    assert httpx.get(f"{hub.page_url}/healthz", headers={"Origin": hub.page_url}).status_code == 200


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}])
def test_senders_without_the_key_are_rejected(hub_with_key: InProcessHub, header: dict[str, str]) -> None:
    """A missing key, a wrong key and another scheme get 401."""
    response = _send(hub_with_key, **header)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


def test_senders_with_the_key_are_accepted(hub_with_key: InProcessHub) -> None:
    """`Authorization: Bearer KEY` is accepted on the OTLP port."""
    assert _send(hub_with_key, Authorization=f"Bearer {KEY}").status_code == 200


def test_pages_need_the_key(hub_with_key: InProcessHub) -> None:
    """A page without the key is 401; the health check needs no key."""
    assert httpx.get(f"{hub_with_key.page_url}/api/traces").status_code == 401
    assert httpx.get(f"{hub_with_key.page_url}/healthz").status_code == 200


def test_a_browser_gets_a_cookie_for_the_key(hub_with_key: InProcessHub) -> None:
    """The key in the address is replaced by a cookie that scripts cannot read."""
    with httpx.Client(base_url=hub_with_key.page_url) as browser:
        response = browser.get("/healthz/x", params={"key": KEY, "limit": "5"})
        assert (response.status_code, response.headers["location"]) == (303, "./x?limit=5")
        cookie = response.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert KEY not in cookie
        assert browser.get("/healthz/x").status_code == 404
        browser.cookies.set(COOKIE_NAME, "forged")
        assert browser.get("/healthz/x").status_code == 401


def test_a_wrong_key_in_the_address_is_rejected(hub_with_key: InProcessHub) -> None:
    """A wrong key in the address sets no cookie."""
    response = httpx.get(f"{hub_with_key.page_url}/", params={"key": "wrong"})
    assert response.status_code == 401
    assert "set-cookie" not in response.headers


def test_a_non_loopback_hub_accepts_any_host(start_hub: StartHub) -> None:
    """A hub that others reach by an unknown name checks the key instead of the name."""
    with start_hub(host="0.0.0.0", key=KEY) as hub:  # noqa: S104  with a key
        assert _send(hub, Host="hub.internal", Authorization=f"Bearer {KEY}").status_code == 200
        assert _send(hub, Host="hub.internal").status_code == 401


def test_allowed_origins_may_send(start_hub: StartHub) -> None:
    """A preflight and its request succeed; the page port and other origins are not affected."""
    named, other = {"Origin": "https://app.example.com"}, {"Origin": "https://evil.example"}
    parameters = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-key"}
    with start_hub(cors_origins="https://app.example.com") as hub:
        preflight = hub.client.options("/v1/traces", headers={**named, **parameters})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == named["Origin"]
        assert preflight.headers["access-control-allow-credentials"] == "true"
        assert "x-key" in preflight.headers["access-control-allow-headers"]
        response = _send(hub, **named)
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, named["Origin"])
        assert response.headers["access-control-expose-headers"] == "Retry-After"

        refused = hub.client.options("/v1/traces", headers={**other, **parameters})
        assert "access-control-allow-origin" not in refused.headers
        response = _send(hub, **other)
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers
        assert httpx.get(f"{hub.page_url}/api/traces", headers=named).status_code == 403


def test_allowed_origins_need_the_key(start_hub: StartHub) -> None:
    """An allowed origin still needs the key, and the page can read the error."""
    with start_hub(cors_origins="https://app.example.com", key="0123456789abcdef") as hub:
        response = _send(hub, Origin="https://app.example.com")
        assert response.status_code == 401
        assert response.headers["access-control-allow-origin"] == "https://app.example.com"
