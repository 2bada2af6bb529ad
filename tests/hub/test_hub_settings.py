"""The settings of the hub: an error names the variable."""

from datetime import timedelta

import pytest

from modeltrace_hub.errors import SettingsError
from modeltrace_hub.settings import HubSettings, read_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HubSettings.model_fields:
        monkeypatch.delenv(f"MODELTRACE_HUB_{name.upper()}", raising=False)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with the hub's prefix is a setting."""
    monkeypatch.setenv("MODELTRACE_HUB_PORT", "5000")
    assert read_settings().port == 5000


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Command-line options override the environment; None means that an option was not given."""
    monkeypatch.setenv("MODELTRACE_HUB_PORT", "5000")
    assert read_settings(port=6000, http_port=None).port == 6000


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("36h", timedelta(hours=36)),
        ("7d", timedelta(days=7)),
        ("P2DT1H", timedelta(days=2, hours=1)),
    ],
)
def test_an_age_has_a_unit_or_is_iso_8601(monkeypatch: pytest.MonkeyPatch, text: str, age: timedelta) -> None:
    """`MODELTRACE_HUB_MAX_AGE` accepts both."""
    monkeypatch.setenv("MODELTRACE_HUB_MAX_AGE", text)
    assert read_settings().max_age == age


@pytest.mark.parametrize(("text", "size"), [("20000000", 20_000_000), ("500MB", 500_000_000), ("1GiB", 2**30)])
def test_a_size_may_have_a_unit(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    """`MODELTRACE_HUB_MAX_SIZE` accepts bytes, or a unit."""
    monkeypatch.setenv("MODELTRACE_HUB_MAX_SIZE", text)
    assert read_settings().max_size == size


@pytest.mark.parametrize(
    ("name", "text"), [("MAX_AGE", "0s"), ("MAX_AGE", "soon"), ("MAX_SIZE", "1KB"), ("PORT", "0"), ("PORT", "70000")]
)
def test_an_invalid_value_is_rejected(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """The error names the variable."""
    monkeypatch.setenv(f"MODELTRACE_HUB_{name}", text)
    with pytest.raises(SettingsError, match=f"MODELTRACE_HUB_{name}: "):
        read_settings()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hub.example"])  # noqa: S104  what is to be refused
def test_a_non_loopback_address_needs_a_key(host: str) -> None:
    """An address that others can reach is rejected without a key, and the message says what to set."""
    with pytest.raises(SettingsError, match="MODELTRACE_HUB_KEY"):
        read_settings(host=host)
    assert not read_settings(host=host, key="0123456789abcdef").is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_address_needs_no_key(host: str) -> None:
    """A loopback address is accepted without a key."""
    assert read_settings(host=host).is_loopback


def test_an_error_names_the_variable_and_keeps_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is too short is not repeated in the message."""
    monkeypatch.setenv("MODELTRACE_HUB_KEY", "hush")
    with pytest.raises(SettingsError, match="MODELTRACE_HUB_KEY") as caught:
        read_settings()
    assert "hush" not in str(caught.value)


def test_a_key_is_not_shown() -> None:
    """Printing the settings does not reveal the key."""
    assert "0123456789abcdef" not in repr(read_settings(key="0123456789abcdef"))


def test_a_queue_below_the_request_size_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of the maximum size would never fit, so the hub does not start."""
    monkeypatch.setenv("MODELTRACE_HUB_MAX_QUEUE_BYTES", "1MiB")
    with pytest.raises(SettingsError, match=r"QUEUE_BYTES .1048576. is below MODELTRACE_HUB_MAX_REQUEST_BYTES"):
        read_settings()
    assert read_settings(max_request_bytes=2**20).max_queue_bytes == 2**20


def test_origins_are_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Origins are separated by commas and spaces; unset means none."""
    assert read_settings().cors_origins == ()
    monkeypatch.setenv("MODELTRACE_HUB_CORS_ORIGINS", "https://App.example.com, http://localhost:3000")
    assert read_settings().cors_origins == ("https://app.example.com", "http://localhost:3000")


@pytest.mark.parametrize(
    "text", ["*", "app.example.com", "https://app.example.com/path", "https://*.example.com", "null"]
)
def test_an_invalid_origin_is_rejected(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """An asterisk is rejected, because senders use credentials."""
    monkeypatch.setenv("MODELTRACE_HUB_CORS_ORIGINS", text)
    with pytest.raises(SettingsError, match=r"MODELTRACE_HUB_CORS_ORIGINS: .*is not an origin"):
        read_settings()


@pytest.mark.parametrize(
    "key", ["too short", "schlüssel-für-den-hub", "0123456789abcdef\n", " 0123456789abcdef"], ids=ascii
)
def test_a_key_that_no_header_can_carry_is_rejected(key: str) -> None:
    """No sender could present it."""
    with pytest.raises(SettingsError, match="MODELTRACE_HUB_KEY: a key has 16 or more printable ASCII characters"):
        read_settings(key=key)


@pytest.mark.parametrize("proxies", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1,,10.0.0.2"])
def test_a_proxy_is_an_address_or_a_network(proxies: str) -> None:
    """Anything else would never equal the address of a proxy."""
    with pytest.raises(SettingsError, match="MODELTRACE_HUB_TRUSTED_PROXIES: "):
        read_settings(trusted_proxies=proxies)
    assert read_settings(trusted_proxies="10.0.0.7, ::1,10.1.0.0/16").trusted_proxies
