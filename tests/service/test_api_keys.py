"""Several API keys: their file, their scopes, and their names in telemetry and in the prediction store."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from modeltrace import api_keys
from modeltrace.api.auth import wrap_with_auth
from modeltrace.api_keys import ALL_SCOPES, ApiKey, KeyFile, read_key_file
from modeltrace.errors import SettingsError
from modeltrace.inference.model import Model
from modeltrace.keys import authorization_header, check_exposure, load_api_keys
from modeltrace.settings import read_settings
from modeltrace.store.rows import RowBuilder
from modeltrace.store.store import open_store
from tests.helpers.in_process_services import RecordsService, SdkService, records_service

Rows = list[dict[str, float]]
SHOP, JOB, SCRAPER, OPERATOR = (f"{name}-key-of-the-tests" for name in ("shop", "job", "scraper", "operator"))
FILE = f"""\
# name  key  scopes
web-shop {SHOP} predict

label.job\t{JOB}   feedback,model
 prometheus {SCRAPER} metrics
operator_1 {OPERATOR}
"""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file of four keys."""
    return write(tmp_path / "api.keys", FILE)


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """Write a key file."""
    path.write_text(text)
    path.chmod(mode)
    return path


def bearer(key: str) -> dict[str, str]:
    """Return the header with a key."""
    return {"Authorization": f"Bearer {key}"}


def test_a_file_of_keys(keys: Path) -> None:
    """Each line has a name, a key and scopes; without scopes, the key has all. Keys are not shown."""
    read = read_key_file(keys)

    assert read == (
        ApiKey("web-shop", SHOP, frozenset({"predict"})),
        ApiKey("label.job", JOB, frozenset({"feedback", "model"})),
        ApiKey("prometheus", SCRAPER, frozenset({"metrics"})),
        ApiKey("operator_1", OPERATOR, ALL_SCOPES),
    )
    assert not any(key.key in repr(read) for key in read)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no key"),
        ("# nothing\n", "contains no key"),
        (f"web-shop:{SHOP}", "line 1: write NAME KEY"),
        (f"\nweb-shop {SHOP} predict feedback", "line 2: write NAME KEY"),
        (f"web/shop {SHOP}", "line 1: the first word must be a name"),
        ("web-shop short", "line 1: the key of web-shop needs 16 or more"),
        ("web-shop schlüsselschlüssel", "line 1: the key of web-shop needs 16 or more printable ASCII"),
        (f"web-shop {SHOP} predict,write", "line 1: a scope of web-shop is unknown; scopes are predict, feedback"),
        (f"web-shop {SHOP}\nweb-shop {JOB}", "line 2: the name web-shop occurs twice"),
        (f"web-shop {SHOP}\nother {SHOP}", "line 2: other has the key of another name"),
    ],
)
def test_an_invalid_file_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    """The message names the setting, the file and the line, and contains no key."""
    path = write(tmp_path / "api.keys", text)

    with pytest.raises(SettingsError, match=message) as error:
        load_api_keys(read_settings(api_keys_file=path))
    assert f"MODELTRACE_API_KEYS_FILE ({path})" in str(error.value)
    assert not any(key in str(error.value) for key in (SHOP, JOB, "short", "schlüssel"))


def test_files_that_others_can_read_are_rejected(keys: Path) -> None:
    """The group may read the file, as for secrets of Kubernetes."""
    for mode in (0o644, 0o660, 0o606):
        keys.chmod(mode)
        with pytest.raises(SettingsError, match=rf"mode {mode:04o}\): chmod 600"):
            read_key_file(keys)
    for mode in (0o600, 0o440):
        keys.chmod(mode)
        assert len(read_key_file(keys)) == 4
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_key_file(keys.with_name("missing"))


@pytest.fixture
def client(app: Any, keys: Path) -> TestClient:
    """A client of the application with four named keys and one without a name."""
    settings = read_settings(api_keys_file=keys, api_key="the key of the settings")
    return TestClient(wrap_with_auth(app, settings), base_url="http://localhost:8000")


CALLS = {
    ("POST", "/predict"): "predict",
    ("POST", "/predict/batch"): "predict",
    ("POST", "/invocations"): "predict",
    ("POST", "/v2/models/breast-cancer/infer"): "predict",
    ("POST", "/v1/models/breast-cancer:predict"): "predict",
    ("POST", "/feedback"): "feedback",
    ("GET", "/metrics"): "metrics",
    ("GET", "/model"): "model",
    ("GET", "/docs"): "model",
    ("GET", "/openapi.json"): "model",
    ("GET", "/v2/models/breast-cancer"): "model",
    ("GET", "/nothing"): "model",
}
SCOPES = {
    SHOP: {"predict"},
    JOB: {"feedback", "model"},
    SCRAPER: {"metrics"},
    OPERATOR: {*ALL_SCOPES},
    "the key of the settings": {*ALL_SCOPES},
}


@pytest.mark.parametrize("key", SCOPES)
def test_a_key_can_be_used_for_its_scopes_only(client: TestClient, key: str) -> None:
    """Other calls are answered with 403, which names the scope; an unknown key with 401, whatever the call."""
    for (method, path), scope in CALLS.items():
        allowed = client.request(method, path, headers=bearer(key))
        unknown = client.request(method, path, headers=bearer(f"{key}!"))

        assert (allowed.status_code in (401, 403)) == (scope not in SCOPES[key]), (method, path)
        if scope not in SCOPES[key]:
            assert allowed.status_code == 403
            assert f"needs the scope '{scope}'" in allowed.text
            assert key not in allowed.text
        assert unknown.status_code == 401


def test_probes_need_no_key(client: TestClient) -> None:
    """Probes have no scope."""
    assert client.get("/readyz").status_code == client.get("/v2/health/ready").status_code == 200


def test_a_changed_file_is_read_again(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    """New keys apply and removed ones do not. Keys of an invalid, or of a missing file stay as they were."""
    caplog.set_level(logging.INFO, "modeltrace.api")
    source = KeyFile(keys)

    def find(key: str) -> str | None:
        source._next_check = 0.0  # as after a second
        entry = source.find(key.encode())
        return None if entry is None else entry.name

    assert (find(SHOP), find("a new key of a client")) == ("web-shop", None)
    write(keys, "client-2 a-new-key-of-a-client\n")
    assert (find(SHOP), find("a-new-key-of-a-client")) == (None, "client-2")
    assert "1 API keys read" in caplog.text

    write(keys, "client-2 short\n")
    assert find("a-new-key-of-a-client") == "client-2"
    keys.unlink()
    assert find("a-new-key-of-a-client") == "client-2"
    assert caplog.text.count("API keys stay as they were") == 2

    write(keys.with_name("another"), FILE).replace(keys)
    assert (find(SHOP), find("a-new-key-of-a-client")) == ("web-shop", None)


def test_the_file_is_checked_once_a_second(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request costs no system call."""
    now = 100.0
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: now)
    source = KeyFile(keys)
    write(keys, "client-2 a-new-key-of-a-client\n")

    assert source.find(SHOP.encode()) is not None
    now += api_keys.CHECK_INTERVAL
    assert source.find(SHOP.encode()) is None


def test_a_file_of_keys_allows_other_addresses(keys: Path) -> None:
    """A service with a file of keys may listen on all addresses, like a service with the key of the settings."""
    check_exposure(read_settings(host="192.0.2.1", api_keys_file=keys))


def test_commands_send_a_key_with_all_scopes(keys: Path) -> None:
    """The key of the settings takes precedence. If there is none with all scopes, the error says what to set."""
    assert authorization_header(read_settings(api_keys_file=keys)) == {"authorization": f"Bearer {OPERATOR}"}
    own = read_settings(api_keys_file=keys, api_key="the key of the settings")
    assert authorization_header(own) == {"authorization": "Bearer the key of the settings"}
    write(keys, f"web-shop {SHOP} predict\n")
    with pytest.raises(SettingsError, match=r"no key with all scopes.*MODELTRACE_API_KEY"):
        authorization_header(read_settings(api_keys_file=keys))


@contextmanager
def guarded(service: RecordsService | SdkService, keys: Path) -> Iterator[TestClient]:
    """Return a client of a service with the keys of a file."""
    app = wrap_with_auth(service.client.app, read_settings(api_keys_file=keys, api_key="the key of the settings"))
    yield TestClient(app, base_url="http://localhost:8000")


def test_both_paths_record_the_name_of_the_key(
    record: Callable[..., SdkService], model: Model, rows: Rows, keys: Path
) -> None:
    """It is on the SERVER span, the prediction log record, and the span and log record of a label."""
    sdk = record(model)
    with records_service(model) as sidecar:
        for service in (sdk, sidecar):
            with guarded(service, keys) as client:
                for key in (OPERATOR, "the key of the settings"):
                    answer = client.post("/predict", json={"features": rows[0]}, headers=bearer(key))
                    label = {"prediction_id": answer.json()["prediction_id"], "label": answer.json()["label"]}
                    assert client.post("/feedback", json=label, headers=bearer(key)).status_code == 200
        spans = sidecar.spans()
        records = sidecar.queue.requests

    expected = [(name, key) for name in ("POST /feedback", "POST /predict", "feedback") for key in ("", "operator_1")]
    recorded = [(s.name, (s.attributes or {}).get("enduser.id", "")) for s in sdk.span_exporter.get_finished_spans()]
    encoded = [
        (span.name, {item.key: item.value.string_value for item in span.attributes}.get("enduser.id", ""))
        for span in spans
    ]
    for names in (recorded, encoded):
        assert sorted((str(name), str(key)) for name, key in names if name in dict(expected)) == expected
    for scope in ("modeltrace.prediction", "modeltrace.feedback"):
        logs = [dict(log.log_record.attributes or {}).get("enduser.id") for log in sdk.logs(scope)]
        assert logs == ["operator_1", None]
    assert [row.api_key_name for request in records for row in RowBuilder("1").build(request)] == ["operator_1", None]


def test_the_prediction_store_has_the_names(model: Model, rows: Rows, keys: Path, tmp_path: Path) -> None:
    """A row has the names of the keys with which the prediction was requested and the label was sent."""
    store_path = str(tmp_path / "predictions.db")
    with records_service(model, store=store_path) as service, guarded(service, keys) as client:
        answer = client.post("/predict", json={"features": rows[0]}, headers=bearer(SHOP)).json()
        label = {"prediction_id": answer["prediction_id"], "label": answer["label"]}
        assert client.post("/feedback", json=label, headers=bearer(JOB)).status_code == 200
        requests = service.queue.requests
    with open_store(store_path) as store:
        store.add_predictions([row for request in requests for row in RowBuilder("1").build(request)])
        stored = store.find(answer["prediction_id"])

    assert stored is not None
    assert (stored.api_key_name, stored.label_api_key_name) == ("web-shop", "label.job")
