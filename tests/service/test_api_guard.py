"""Who may ask the service: Host, Origin, the API key; and what proxies say."""

import base64
from collections.abc import Callable, Iterator
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
OUTSIDE = "0.0.0.0"  # noqa: S104  a value, nothing listens
Open = Callable[..., TestClient]


@pytest.fixture(scope="module")
def app(model: Model) -> Iterator[Any]:
    """The application without any guard."""
    with records_service(model) as service:
        yield service.client.app


@pytest.fixture
def client(app: Any) -> Open:
    """Clients of the application behind the guard of some settings."""

    def opened(host: str = "127.0.0.1", *, url: str = "http://localhost:8000", **settings: Any) -> TestClient:
        return TestClient(
            wrap_with_auth(app, read_settings(host=host, **settings)), base_url=url, follow_redirects=False
        )

    return opened


@pytest.mark.parametrize("path", ["/model", "/metrics", "/docs", "/openapi.json", "/nothing"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "[", "localhost."]
)
def test_on_loopback_another_host_is_refused(client: Open, host: str, path: str) -> None:
    """A Host that is no name of this machine, as DNS rebinding has it, is answered with 403."""
    answer = client().get(path, headers={"Host": host})

    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "forbidden"
    assert "MODELTRACE_ALLOWED_HOSTS" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8000", "[::1]:9", "LOCALHOST"])
def test_names_of_this_machine_are_answered(client: Open, host: str) -> None:
    """Any name for loopback is taken, whatever the port."""
    assert client().get("/model", headers={"Host": host}).status_code == 200


def test_two_hosts_must_both_be_known(client: Open) -> None:
    """A second Host cannot hide the first."""
    headers = [("Host", "evil.example"), ("Host", "localhost:8000")]

    assert client().get("/model", headers=headers).status_code == 403
    assert client().get("/model", headers=headers[::-1]).status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "http://localhost:8000.evil.example"]
)
@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
def test_another_origin_is_refused(client: Open, origin: str, content_type: str) -> None:
    """A page of another site cannot predict or label, with a content type that needs no preflight either."""
    for path in ("/predict", "/predict/batch", "/feedback"):
        answer = client().post(path, content=b"{}", headers={"Origin": origin, "Content-Type": content_type})
        assert answer.status_code == 403
        assert "MODELTRACE_ALLOWED_HOSTS" in answer.json()["error"]["message"]
        assert "access-control-allow-origin" not in answer.headers


def test_its_own_pages_may_ask(client: Open) -> None:
    """`/docs` sends requests of the service's own origin."""
    assert client().get("/model", headers={"Origin": "http://localhost:8000"}).status_code == 200


def test_allowed_hosts(client: Open) -> None:
    """Names from the settings are taken as Host and Origin; beyond loopback, others are refused once there are any."""
    inside = client(allowed_hosts=("ml.example",))
    outside = client(OUTSIDE, insecure=True, allowed_hosts=("ml.example",))
    for one in (inside, outside):
        assert one.get("/model", headers={"Host": "ml.example"}).status_code == 200
        assert one.get("/model", headers={"Origin": "https://ml.example"}).status_code == 200
        assert one.get("/model", headers={"Host": "evil.example"}).status_code == 403
        assert one.get("/model", headers={"Host": "ml.example", "Origin": "https://evil.example"}).status_code == 403
    assert outside.get("/model", headers={"Host": "10.1.2.3:8000"}).status_code == 200
    assert client(OUTSIDE, insecure=True).get("/model", headers={"Host": "any.example"}).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_open(client: Open, path: str) -> None:
    """Probes call by any address, without a key."""
    assert client(api_key=KEY).get(path, headers={"Host": "10.1.2.3:8000"}).status_code == 200


def _basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    "shown", [None, "Bearer wrong", f"Basic {KEY}", _basic("user:wrong"), KEY, f"Token {KEY}", "Basic \xff", "Bearer"]
)
def test_without_the_key_requests_are_refused(client: Open, shown: str | None) -> None:
    """No key, a wrong one, or one in another scheme is answered with 401; it says what to send."""
    headers = {"Authorization": shown.encode("latin-1")} if shown else {}
    for method, path in (("POST", "/predict"), ("GET", "/model"), ("GET", "/metrics"), ("GET", "/docs")):
        answer = client(OUTSIDE, api_key=KEY).request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("shown", [f"Bearer {KEY}", f"bearer {KEY}", f"Bearer  {KEY} ", _basic(f"anyone:{KEY}")])
def test_with_the_key_requests_are_answered(client: Open, shown: str) -> None:
    """As a bearer token, or as the password that a browser asks for."""
    assert client(OUTSIDE, api_key=KEY).get("/model", headers={"Authorization": shown}).status_code == 200


def test_refused_requests_are_logged(client: Open, caplog: pytest.LogCaptureFixture) -> None:
    """A warning says that somebody was refused, without what they have shown."""
    client(api_key=KEY).get("/model", headers={"Authorization": "Bearer guessed secret"})

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "guessed" not in caplog.text


def test_a_key_from_a_file(tmp_path: Path) -> None:
    """Its spaces and newline at the end do not count; commands send it, too."""
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
    """The start ends with a line that says what is wrong with the file."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(SettingsError, match=message) as error:
        load_api_key(read_settings(api_key_file=file, **settings))
    assert "MODELTRACE_API_KEY_FILE" in str(error.value)
    assert KEY not in str(error.value)


@pytest.mark.parametrize("host", [OUTSIDE, "::", "192.0.2.1", "service.example"])
def test_beyond_loopback_a_key_is_needed(host: str) -> None:
    """Unless the settings say that none is wanted; the log says how the service is reached."""
    with pytest.raises(SettingsError, match="MODELTRACE_API_KEY"):
        check_exposure(read_settings(host=host))

    for settings in (read_settings(host=host, api_key=KEY), read_settings(host=host, insecure=True)):
        check_exposure(settings)
    assert describe_access(read_settings(host=host, api_key=KEY)).endswith("with the API key")
    assert "without an API key" in describe_access(read_settings(host=host, insecure=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_no_key_is_needed(host: str) -> None:
    """Only this machine reaches it, and the log has nothing to say."""
    settings = read_settings(host=host)
    check_exposure(settings)

    assert describe_access(settings) == ""


def links(page: httpx.Response) -> list[httpx.URL]:
    """What a page loads, as a browser that got it from its URL sees it."""
    parts = page.text.replace("url: '", 'src="').replace("',", '"').split('src="')[1:] + page.text.split('href="')[1:]
    return [page.url.join(part.partition('"')[0]) for part in parts]


@pytest.mark.parametrize("passed_on", [True, False], ids=["path-passed-on", "path-left-out"])
def test_below_a_path(client: Open, passed_on: bool) -> None:
    """The service answers below a path that its proxy leaves out or passes on, and its page loads from there."""
    prefix = "/ml/churn"
    inside = client(root_path=f"{prefix}/")
    before = prefix if passed_on else ""

    assert inside.get(f"{before}/model").status_code == 200
    assert inside.post(f"{before}/predict", json={}).json()["error"]["type"] == "malformed_request"
    assert inside.get(f"{before}/docs").status_code == 200
    assert inside.get(f"{before}/static-offline-docs/swagger-ui.css").status_code == 200
    assert inside.get(f"{before}/openapi.json").json()["servers"] == [{"url": prefix}]
    assert inside.get(f"{before}/healthz", headers={"Host": "10.0.0.9"}).status_code == 200


def test_what_the_page_loads_is_relative_to_it(client: Open) -> None:
    """It works below any path, known to the service or not."""
    page = client().get("/docs")
    page.request.url = httpx.URL("https://ml.example/deep/down/docs")

    found = links(page)
    assert {str(url).rpartition("/")[0] for url in found} == {
        "https://ml.example/deep/down", "https://ml.example/deep/down/static-offline-docs"
    }  # fmt: skip
    for url in found:
        assert client().get(url.path.removeprefix("/deep/down")).status_code == 200


def test_the_page_is_titled_by_its_model_and_by_nothing_else(model: Model) -> None:
    """A name is text, and not part of the page's markup."""
    with records_service(replace(model, name="</title><script>", version="<2>")) as service:
        page = service.client.get("/docs").text

    assert "<title>&lt;/title&gt;&lt;script&gt; &lt;2&gt; - Swagger UI</title>" in page


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Prefix": "/ml"}, {"X-Forwarded-Proto": "https"}])
@pytest.mark.parametrize(("path", "location"), [("/model/", "../model"), ("/model//?a=b", "../../model?a=b")])
def test_redirects_name_no_host(client: Open, headers: dict[str, str], path: str, location: str) -> None:
    """They are relative, so neither a Host nor a scheme can lead elsewhere."""
    answer = client(trusted_proxies=("testclient",)).get(path, headers=headers)

    assert (answer.status_code, answer.headers["location"]) == (307, location)


def test_only_trusted_proxies_are_believed(client: Open, caplog: pytest.LogCaptureFixture) -> None:
    """The prefix, scheme and client address that others claim count for nothing; nor does a prefix that is no path."""
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
def test_a_root_path_that_is_none(path: str) -> None:
    """It is refused at the start, by name."""
    with pytest.raises(SettingsError, match=r"MODELTRACE_ROOT_PATH: must be a path like /ml/churn"):
        read_settings(root_path=path)


@pytest.mark.parametrize(
    "names", ["*", "*.ml.example", "https://ml.example", "ml.example:8000", "[::1]", "ml.example/", "ml.example,a b"]
)
def test_an_allowed_host_that_is_none(names: str) -> None:
    """No Host would ever equal it, so it is refused at the start, by name."""
    with pytest.raises(SettingsError, match=r"MODELTRACE_ALLOWED_HOSTS: must .*without scheme, port or wildcard"):
        read_settings(allowed_hosts=names)


def test_allowed_hosts_are_names_and_addresses() -> None:
    """An address of IPv6 stands without brackets."""
    assert read_settings(allowed_hosts="ml.example, 10.0.0.7,fd00::7,my_host").allowed_hosts == (
        "ml.example", "10.0.0.7", "fd00::7", "my_host"
    )  # fmt: skip


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,x/y"])
def test_a_network_of_proxies_that_is_none(networks: str) -> None:
    """It would trust nobody, so it is refused at the start, by name."""
    with pytest.raises(
        SettingsError, match=r"MODELTRACE_TRUSTED_PROXIES: must be addresses, networks such as 10.0.0.0/8"
    ):
        read_settings(trusted_proxies=networks)


def test_a_route_below_a_path_is_recorded_without_it(model: Model) -> None:
    """`http.route` stays what the routes are, `url.path` is what was asked for."""
    with records_service(model) as service:
        below = TestClient(
            wrap_with_auth(service.client.app, Settings(root_path="/ml")), base_url="http://localhost:8000"
        )
        below.post("/ml/predict", json={})

    (request,) = service.queue.requests
    assert (request.route, request.path) == ("/predict", "/ml/predict")
