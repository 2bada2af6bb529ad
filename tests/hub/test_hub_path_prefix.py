"""The pages behind a proxy that serves them below a path, with and without TLS."""

from collections.abc import Iterator
from urllib.parse import urljoin

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.helpers.hub_pages import BASE, HubPages, hub_pages
from tests.helpers.in_process_hubs import in_process_hub
from tests.helpers.unusual_telemetry import MODEL, model_requests, trace_ids

pytestmark = pytest.mark.slow

PREFIX = "/tools/hub"
KEY = "a-key-of-sixteen-characters"


class StrippingProxy:
    """Remove the prefix from the path and pass the request on, without forwarded headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        inside = {
            "path": scope["path"].removeprefix(PREFIX),
            "raw_path": scope["raw_path"].removeprefix(PREFIX.encode()),
        }
        await self._app({**scope, **inside}, receive, send)


@pytest.fixture(scope="module")
def pages() -> Iterator[tuple[HubPages, list[str]]]:
    """Yield the pages of a hub with a model's telemetry, and the trace IDs."""
    with hub_pages() as pages:
        requests = model_requests()
        pages.add(*requests)
        yield pages, trace_ids(requests)


@pytest.mark.parametrize("proxy", ["stripped", "mounted"])
def test_every_link_stays_below_the_path(pages: tuple[HubPages, list[str]], proxy: str) -> None:
    """All links of pages and of an error page stay below the path of the proxy, without a setting."""
    hub, ids = pages
    app = StrippingProxy(hub.app) if proxy == "stripped" else Starlette(routes=[Mount(PREFIX, hub.app)])
    client = TestClient(app, base_url=BASE, follow_redirects=False)
    waiting = [f"{PREFIX}/", f"{PREFIX}/t/{ids[0]}", f"{PREFIX}/models?model={MODEL}"]
    outside, kinds = [], set()
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        kind = path.partition("?")[0]
        # Of each path one page is enough: its query does not change the targets of its links.
        if path in seen or (kind in kinds and "?" in path):
            continue
        seen.add(path)
        kinds.add(kind)
        response = client.get(path)
        assert response.status_code < 400, path
        links = hub.links(path, response.text)
        outside += [link for link in links if not link.startswith(f"{PREFIX}/")]
        waiting += [link for link in links if "/t/" not in link]
    assert outside == []
    assert {f"{PREFIX}/static/style.css", f"{PREFIX}/traces", f"{PREFIX}/models", f"{PREFIX}/predictions"} <= kinds
    lost = client.get(f"{PREFIX}/no/such/page")
    assert lost.status_code == 404
    assert f"{PREFIX}/static/style.css" in hub.links(f"{PREFIX}/no/such/page", lost.text)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/t?id=AB-CD", "/t/abcd"),
        ("/t?id=", "/traces"),
        ("/traces?attr=a%3Db&limit=5", "/traces?limit=5&filter=a+%3D+b"),
    ],
)
def test_every_redirect_stays_below_the_path(pages: tuple[HubPages, list[str]], path: str, target: str) -> None:
    """Redirects are relative: they contain neither a host nor an absolute path."""
    client = TestClient(StrippingProxy(pages[0].app), base_url=BASE, follow_redirects=False)
    response = client.get(PREFIX + path)
    assert response.status_code == 303
    assert urljoin(PREFIX + path, response.headers["location"]) == PREFIX + target


def test_a_slash_too_many_leads_to_the_page(pages: tuple[HubPages, list[str]]) -> None:
    """The redirect is relative, so it contains neither a host nor the prefix."""
    response = pages[0].client.get("/traces/", follow_redirects=False)
    assert urljoin(f"{PREFIX}/traces/", response.headers["location"]) == f"{PREFIX}/traces"


def test_the_server_in_openapi_is_relative(pages: tuple[HubPages, list[str]]) -> None:
    """A client that reads `/api/openapi.json` below a path calls the API below that path."""
    (server,) = pages[0].client.get("/api/openapi.json").json()["servers"]
    assert urljoin(f"{PREFIX}/api/openapi.json", server["url"]) == f"{PREFIX}/"


@pytest.mark.parametrize(("trusted", "secure"), [(None, False), ("10.0.0.0/8", False), ("10.0.0.0/8,127.0.0.1", True)])
def test_only_a_trusted_proxy_sets_the_scheme(trusted: str | None, secure: bool) -> None:
    """The cookie with the key is secure only if a trusted proxy reports HTTPS."""
    with in_process_hub(key=KEY, trusted_proxies=trusted) as hub:
        response = httpx.get(f"{hub.page_url}/", params={"key": KEY}, headers={"X-Forwarded-Proto": "https"})
        assert response.status_code == 303
        assert ("Secure" in response.headers["set-cookie"]) is secure
        assert response.headers["location"] == "./."
