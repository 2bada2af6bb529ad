"""When the stock set-up tells predictions instead of records."""

import pytest

from service.settings import read_settings
from service.telemetry.recorded import STOCK_ONLY, needs_stock


def test_records_are_the_default() -> None:
    """Nothing but a wish for more leads away from them."""
    assert needs_stock(read_settings()) is None


def test_a_setting_switches_back() -> None:
    """`MODELTRACE_INSTRUMENTATION=stock` is all it takes."""
    assert needs_stock(read_settings(instrumentation="stock")) == "MODELTRACE_INSTRUMENTATION"


@pytest.mark.parametrize("name", STOCK_ONLY)
def test_what_only_the_stock_set_up_can_do_switches_to_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable of OpenTelemetry's keeps its meaning."""
    monkeypatch.setenv(name, "1")

    assert needs_stock(read_settings()) == name


@pytest.mark.parametrize("signal", ["TRACES", "METRICS", "LOGS"])
def test_the_console_is_the_sdks(monkeypatch: pytest.MonkeyPatch, signal: str) -> None:
    """What goes to the console is made of the SDK's objects."""
    monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "console")

    assert needs_stock(read_settings()) is not None
