"""Who may talk to the hub: Host, Origin and the key."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest

from modeltrace_hub.auth import COOKIE
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import trace_request

KEY = "a key with ~16 signs"
BODY = trace_request().SerializeToString()
PROTOBUF = {"Content-Type": "application/x-protobuf"}

StartHub = Callable[..., AbstractContextManager[InProcessHub]]


@pytest.fixture(scope="module")
def locked() -> Iterator[InProcessHub]:
    """A hub with a key."""
    with in_process_hub(key=KEY) as hub:
        yield hub


def _send(hub: InProcessHub, **headers: str) -> httpx.Response:
    return hub.client.post("/v1/traces", content=BODY, headers={**PROTOBUF, **headers})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4318", "127.0.0.1.evil.example", "10.0.0.1"])
def test_another_host_is_refused(hub: InProcessHub, host: str) -> None:
    """A Host that is not a name of this machine, as DNS rebinding has it, is answered with 403 on both ports."""
    assert _send(hub, Host=host).status_code == 403
    assert httpx.get(f"{hub.page}/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_names_of_this_machine_are_fine(hub: InProcessHub, host: str) -> None:
    """Any name for loopback is taken, whatever the port."""
    assert _send(hub, Host=host).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", "http://[x]"])
def test_another_origin_is_refused(hub: InProcessHub, origin: str) -> None:
    """A page of another site, or of another port, is answered with 403 on both ports, and gets no CORS header."""
    for answer in (_send(hub, Origin=origin), httpx.get(f"{hub.page}/healthz", headers={"Origin": origin})):
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_its_own_origin_is_fine(hub: InProcessHub) -> None:
    """The hub's own pages may ask the hub."""
    assert httpx.get(f"{hub.page}/healthz", headers={"Origin": hub.page}).status_code == 200


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}])
def test_without_the_key_senders_are_refused(locked: InProcessHub, header: dict[str, str]) -> None:
    """No key, a wrong one, or one in another scheme is answered with 401."""
    answer = _send(locked, **header)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_with_the_key_senders_are_taken(locked: InProcessHub) -> None:
    """`Authorization: Bearer KEY` opens the OTLP port."""
    assert _send(locked, Authorization=f"Bearer {KEY}").status_code == 200


def test_pages_ask_for_the_key(locked: InProcessHub) -> None:
    """A page without the key is 401; health is told to anyone."""
    assert httpx.get(f"{locked.page}/api/traces").status_code == 401
    assert httpx.get(f"{locked.page}/healthz").status_code == 200


def test_one_visit_with_the_key_lets_a_browser_in(locked: InProcessHub) -> None:
    """The key in the address becomes a cookie that scripts cannot read, and leaves the address."""
    with httpx.Client(base_url=locked.page) as browser:
        answer = browser.get("/healthz/x", params={"key": KEY, "limit": "5"})
        assert (answer.status_code, answer.headers["location"]) == (303, "./x?limit=5")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert KEY not in cookie
        assert browser.get("/healthz/x").status_code == 404
        browser.cookies.set(COOKIE, "forged")
        assert browser.get("/healthz/x").status_code == 401


def test_a_wrong_key_in_the_address_is_refused(locked: InProcessHub) -> None:
    """Another key in the address sets no cookie."""
    answer = httpx.get(f"{locked.page}/", params={"key": "wrong"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_beyond_loopback_any_host_name_will_do(start_hub: StartHub) -> None:
    """A hub that others reach by a name it cannot know asks for the key instead of the name."""
    with start_hub(host="0.0.0.0", key=KEY) as hub:  # noqa: S104  with a key
        assert _send(hub, Host="hub.internal", Authorization=f"Bearer {KEY}").status_code == 200
        assert _send(hub, Host="hub.internal").status_code == 401


def test_pages_of_named_origins_may_send(start_hub: StartHub) -> None:
    """A preflight is answered, and what follows is stored; on the other port and from elsewhere nothing changes."""
    named, other = {"Origin": "https://app.example.com"}, {"Origin": "https://evil.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-key"}
    with start_hub(cors_origins="https://app.example.com") as hub:
        preflight = hub.client.options("/v1/traces", headers={**named, **asked})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == named["Origin"]
        assert preflight.headers["access-control-allow-credentials"] == "true"
        assert "x-key" in preflight.headers["access-control-allow-headers"]
        answer = _send(hub, **named)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, named["Origin"])
        assert answer.headers["access-control-expose-headers"] == "Retry-After"

        refused = hub.client.options("/v1/traces", headers={**other, **asked})
        assert "access-control-allow-origin" not in refused.headers
        answer = _send(hub, **other)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        assert httpx.get(f"{hub.page}/api/traces", headers=named).status_code == 403


def test_named_origins_need_the_key(start_hub: StartHub) -> None:
    """An origin is no key, and the answer can be read by the page."""
    with start_hub(cors_origins="https://app.example.com", key="0123456789abcdef") as hub:
        answer = _send(hub, Origin="https://app.example.com")
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
