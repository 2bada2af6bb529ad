"""Access control by Host, Origin and API key, and the headers of proxies."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from modeltrace.api.auth import wrap_with_auth
from modeltrace.errors import SettingsError
from modeltrace.inference.model import Model
from modeltrace.keys import authorization_header, check_exposure, describe_access, load_api_key
from modeltrace.settings import Settings, read_settings
from tests.helpers.in_process_services import records_service

KEY = "a key of 16 signs"
OUTSIDE = "0.0.0.0"  # noqa: S104  nothing listens there
CreateClient = Callable[..., TestClient]


@pytest.fixture
def client(app: Any) -> CreateClient:
    """Return a function that creates a client of the application with access control."""

    def create(host: str = "127.0.0.1", *, url: str = "http://localhost:8000", **settings: Any) -> TestClient:
        return TestClient(
            wrap_with_auth(app, read_settings(host=host, **settings)), base_url=url, follow_redirects=False
        )

    return create


@pytest.mark.parametrize("path", ["/model", "/metrics", "/docs", "/openapi.json", "/nothing"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "[", "localhost."]
)
def test_on_loopback_another_host_is_forbidden(client: CreateClient, host: str, path: str) -> None:
    """A Host that is not a name of this machine, as with DNS rebinding, is answered with 403."""
    answer = client().get(path, headers={"Host": host})

    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "forbidden"
    assert "MODELTRACE_ALLOWED_HOSTS" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8000", "[::1]:9", "LOCALHOST"])
def test_names_of_this_machine_are_allowed(client: CreateClient, host: str) -> None:
    """Any loopback name with any port is allowed."""
    assert client().get("/model", headers={"Host": host}).status_code == 200


def test_several_host_headers_must_all_be_allowed(client: CreateClient) -> None:
    """A second Host header does not hide the first."""
    headers = [("Host", "evil.example"), ("Host", "localhost:8000")]

    assert client().get("/model", headers=headers).status_code == 403
    assert client().get("/model", headers=headers[::-1]).status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "http://localhost:8000.evil.example"]
)
@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
def test_another_origin_is_forbidden(client: CreateClient, origin: str, content_type: str) -> None:
    """A page of another site can neither predict nor send labels, even with a content type without preflight."""
    for path in ("/predict", "/predict/batch", "/feedback"):
        answer = client().post(path, content=b"{}", headers={"Origin": origin, "Content-Type": content_type})
        assert answer.status_code == 403
        assert "MODELTRACE_ALLOWED_HOSTS" in answer.json()["error"]["message"]
        assert "access-control-allow-origin" not in answer.headers


def test_pages_of_the_service_are_allowed(client: CreateClient) -> None:
    """The page `/docs` sends requests with the origin of the service."""
    assert client().get("/model", headers={"Origin": "http://localhost:8000"}).status_code == 200


def test_allowed_hosts(client: CreateClient) -> None:
    """The setting allows names as Host and Origin; on other than loopback addresses, it forbids all other names."""
    inside = client(allowed_hosts=("ml.example",))
    outside = client(OUTSIDE, insecure=True, allowed_hosts=("ml.example",))
    for caller in (inside, outside):
        assert caller.get("/model", headers={"Host": "ml.example"}).status_code == 200
        assert caller.get("/model", headers={"Origin": "https://ml.example"}).status_code == 200
        assert caller.get("/model", headers={"Host": "evil.example"}).status_code == 403
        assert caller.get("/model", headers={"Host": "ml.example", "Origin": "https://evil.example"}).status_code == 403
    assert outside.get("/model", headers={"Host": "10.1.2.3:8000"}).status_code == 200
    assert client(OUTSIDE, insecure=True).get("/model", headers={"Host": "any.example"}).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_public(client: CreateClient, path: str) -> None:
    """Probes are answered with any Host header and without a key."""
    assert client(api_key=KEY).get(path, headers={"Host": "10.1.2.3:8000"}).status_code == 200


def _basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", f"Basic {KEY}", _basic("user:wrong"), KEY, f"Token {KEY}", "Basic \xff", "Bearer"]
)
def test_requests_without_the_key_are_unauthorized(client: CreateClient, header: str | None) -> None:
    """A missing or wrong key, or another scheme, is answered with 401 and the expected scheme."""
    headers = {"Authorization": header.encode("latin-1")} if header else {}
    for method, path in (("POST", "/predict"), ("GET", "/model"), ("GET", "/metrics"), ("GET", "/docs")):
        answer = client(OUTSIDE, api_key=KEY).request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"Bearer  {KEY} ", _basic(f"anyone:{KEY}")])
def test_requests_with_the_key_are_answered(client: CreateClient, header: str) -> None:
    """The key is a bearer token, or the password of a browser."""
    assert client(OUTSIDE, api_key=KEY).get("/model", headers={"Authorization": header}).status_code == 200


def test_rejected_requests_are_logged(client: CreateClient, caplog: pytest.LogCaptureFixture) -> None:
    """The warning does not contain the key that the client sent."""
    client(api_key=KEY).get("/model", headers={"Authorization": "Bearer guessed secret"})

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "guessed" not in caplog.text


def test_a_key_from_a_file(tmp_path: Path) -> None:
    """Surrounding white space is ignored; commands send the key too."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    settings = read_settings(api_key_file=file)

    assert load_api_key(settings) == KEY
    assert authorization_header(settings) == {"authorization": f"Bearer {KEY}"}
    assert authorization_header(read_settings()) == {}
    assert authorization_header(read_settings(api_key=f" {KEY} ")) == {"authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (None, {}, "cannot be read: No such file"),
        (b"short\n", {}, "needs 16 or more printable ASCII characters"),
        ("a key of 16 signs ä".encode(), {}, "needs 16 or more printable ASCII characters"),
        (b"a key of\n two lines", {}, "needs 16 or more printable ASCII characters"),
        (b"\xff" * 20, {}, "it is not text"),
        (KEY.encode(), {"api_key": KEY}, "both set"),
    ],
)
def test_a_file_without_a_key(tmp_path: Path, content: bytes | None, settings: dict[str, str], message: str) -> None:
    """The error message says what is wrong with the file."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(SettingsError, match=message) as error:
        load_api_key(read_settings(api_key_file=file, **settings))
    assert "MODELTRACE_API_KEY_FILE" in str(error.value)
    assert KEY not in str(error.value)


@pytest.mark.parametrize("host", [OUTSIDE, "::", "192.0.2.1", "service.example"])
def test_other_than_loopback_addresses_need_a_key(host: str) -> None:
    """Without a key, only `insecure` allows such an address, and the startup log says who can call the service."""
    with pytest.raises(SettingsError, match="MODELTRACE_API_KEY"):
        check_exposure(read_settings(host=host))

    for settings in (read_settings(host=host, api_key=KEY), read_settings(host=host, insecure=True)):
        check_exposure(settings)
    assert describe_access(read_settings(host=host, api_key=KEY)).endswith("with an API key")
    assert "without an API key" in describe_access(read_settings(host=host, insecure=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_addresses_need_no_key(host: str) -> None:
    """The startup log says nothing about access."""
    settings = read_settings(host=host)
    check_exposure(settings)

    assert describe_access(settings) == ""


def links(page: httpx.Response) -> list[httpx.URL]:
    """Return the URLs that a page loads, resolved as a browser does."""
    parts = page.text.replace("url: '", 'src="').replace("',", '"').split('src="')[1:] + page.text.split('href="')[1:]
    return [page.url.join(part.partition('"')[0]) for part in parts]


@pytest.mark.parametrize("keeps_path", [True, False], ids=["proxy keeps path", "proxy strips path"])
def test_root_path(client: CreateClient, keeps_path: bool) -> None:
    """The service answers below a path that the proxy strips or keeps, and its page loads from there."""
    prefix = "/ml/churn"
    behind_proxy = client(root_path=f"{prefix}/")
    before = prefix if keeps_path else ""

    assert behind_proxy.get(f"{before}/model").status_code == 200
    assert behind_proxy.post(f"{before}/predict", json={}).json()["error"]["type"] == "malformed_request"
    assert behind_proxy.get(f"{before}/docs").status_code == 200
    assert behind_proxy.get(f"{before}/static-offline-docs/swagger-ui.css").status_code == 200
    assert behind_proxy.get(f"{before}/openapi.json").json()["servers"] == [{"url": prefix}]
    assert behind_proxy.get(f"{before}/healthz", headers={"Host": "10.0.0.9"}).status_code == 200


def test_the_page_loads_relative_urls(client: CreateClient) -> None:
    """The page works below any path, even if the service does not know it."""
    page = client().get("/docs")
    page.request.url = httpx.URL("https://ml.example/deep/down/docs")

    urls = links(page)
    assert {str(url).rpartition("/")[0] for url in urls} == {
        "https://ml.example/deep/down", "https://ml.example/deep/down/static-offline-docs"
    }  # fmt: skip
    for url in urls:
        assert client().get(url.path.removeprefix("/deep/down")).status_code == 200


def test_the_title_of_the_page_is_escaped(model: Model) -> None:
    """The name of a model is text and not markup."""
    with records_service(replace(model, name="</title><script>", version="<2>")) as service:
        page = service.client.get("/docs").text

    assert "<title>&lt;/title&gt;&lt;script&gt; &lt;2&gt; - Swagger UI</title>" in page


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Prefix": "/ml"}, {"X-Forwarded-Proto": "https"}])
@pytest.mark.parametrize(("path", "location"), [("/model/", "../model"), ("/model//?a=b", "../../model?a=b")])
def test_redirects_are_relative(client: CreateClient, headers: dict[str, str], path: str, location: str) -> None:
    """Neither the Host header nor the scheme can change the target."""
    answer = client(trusted_proxies=("testclient",)).get(path, headers=headers)

    assert (answer.status_code, answer.headers["location"]) == (307, location)


def test_only_headers_of_trusted_proxies_are_applied(client: CreateClient, caplog: pytest.LogCaptureFixture) -> None:
    """Headers of other clients are ignored, and so is a prefix that is not a path."""
    headers = {"X-Forwarded-Prefix": "/ml", "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
    caplog.set_level("INFO", "uvicorn.access")

    def described(**settings: Any) -> Any:
        caplog.clear()
        document = client(**settings).get("/openapi.json", headers=headers).json()
        client_address = caplog.messages[-1].split(":")[0]
        return document.get("servers"), client_address

    assert described() == (None, "testclient")
    assert described(trusted_proxies=("10.0.0.0/8",)) == (None, "testclient")
    assert described(trusted_proxies=("10.0.0.0/8", "testclient")) == ([{"url": "/ml"}], "192.0.2.7")
    headers["X-Forwarded-Prefix"] = "//evil.example"
    assert described(trusted_proxies=("*",)) == (None, "192.0.2.7")


@pytest.mark.parametrize("path", ["ml", "/ml churn", "//evil.example", "/a?b", "https://ml.example/x"])
def test_an_invalid_root_path_is_rejected(path: str) -> None:
    """The message names the setting."""
    with pytest.raises(SettingsError, match=r"MODELTRACE_ROOT_PATH: must be a path like /ml/churn"):
        read_settings(root_path=path)


@pytest.mark.parametrize(
    "names", ["*", "*.ml.example", "https://ml.example", "ml.example:8000", "[::1]", "ml.example/", "ml.example,a b"]
)
def test_an_invalid_allowed_host_is_rejected(names: str) -> None:
    """No Host header could ever equal it. The message names the setting."""
    with pytest.raises(SettingsError, match=r"MODELTRACE_ALLOWED_HOSTS: must .*without scheme, port or wildcard"):
        read_settings(allowed_hosts=names)


def test_allowed_hosts_are_names_and_addresses() -> None:
    """IPv6 addresses have no brackets."""
    assert read_settings(allowed_hosts="ml.example, 10.0.0.7,fd00::7,my_host").allowed_hosts == (
        "ml.example", "10.0.0.7", "fd00::7", "my_host"
    )  # fmt: skip


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,x/y"])
def test_an_invalid_proxy_network_is_rejected(networks: str) -> None:
    """Such a network would match no proxy, so it is an error. The message names the setting."""
    with pytest.raises(
        SettingsError, match=r"MODELTRACE_TRUSTED_PROXIES: must be addresses, networks such as 10.0.0.0/8"
    ):
        read_settings(trusted_proxies=networks)


def test_http_route_does_not_contain_the_root_path(model: Model) -> None:
    """`http.route` is the route, `url.path` the requested path."""
    with records_service(model) as service:
        client = TestClient(
            wrap_with_auth(service.client.app, Settings(root_path="/ml")), base_url="http://localhost:8000"
        )
        client.post("/ml/predict", json={})

    (request,) = service.queue.requests
    assert (request.route, request.path) == ("/predict", "/ml/predict")
