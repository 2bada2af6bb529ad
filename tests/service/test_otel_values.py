"""Values of OpenTelemetry's variables that are refused, ignored or changed, and how commands report them."""

import os
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from modeltrace.cli import main
from modeltrace.errors import SettingsError
from modeltrace.otel_env import parsers
from modeltrace.otel_env.environment import read_variables
from modeltrace.otel_env.parsers import mask
from modeltrace.otel_env.table import VARIABLES
from modeltrace.otel_settings import read_otel_settings
from modeltrace.telemetry.logging import OTEL_LOG_LEVELS

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal", "none")


def test_all_refused_values_are_named_at_once() -> None:
    """One start reports every refused value."""
    with pytest.raises(SettingsError) as refused:
        read_variables({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318", "OTEL_LOGS_EXPORTER": "syslog"})

    assert all(name in str(refused.value) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_LOGS_EXPORTER"))


def test_with_telemetry_disabled_only_propagators_are_refused() -> None:
    """A user can disable telemetry to start in spite of invalid settings."""
    off = {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}

    assert read_variables(off).values["OTEL_SDK_DISABLED"] == "true"
    with pytest.raises(SettingsError, match="OTEL_PROPAGATORS"):
        read_variables({**off, "OTEL_PROPAGATORS": "b3"})


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("localhost:4318", "has no scheme (localhost:4318): write http://localhost:4318, or https:// for TLS"),
        ("collector", "write http://collector"),
        ("127.0.0.1:4318/v1/traces", "has no scheme"),
        ("user:password@collector:4318", r"has no scheme (***@collector:4318)"),
        ("ftp://collector", "has no scheme"),
        ("unix:///run/otlp", "has no scheme"),
        ("http://", "is not a URL"),
        ("http://:4318", "is not a URL"),
        ("http://collector:port", "is not a URL"),
        ("http://collector:99999", "is not a URL"),
        ("http://collector :4318", "is not a URL"),
        ("http://[::1:4318", "is not a URL"),
        ("http://collector:0", "is not a URL"),
        ("http://collector\u202e:4318", "is not a URL"),
    ],
)
@pytest.mark.parametrize("signal", ["", "LOGS_"])
def test_an_invalid_endpoint(endpoint: str, words: str, signal: str) -> None:
    """It is refused with the name of the variable, and shown without its password."""
    with pytest.raises(SettingsError) as refused:
        read_variables({f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT": endpoint})

    assert str(refused.value).startswith(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT ")
    assert words in str(refused.value)
    assert "password" not in str(refused.value)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://collector:4318/v1/traces", "(http://collector:4318/v1/traces), which is appended: write http://coll"),
        ("http://user:password@collector/otlp/v1/logs/", "write http://***@collector/otlp, or set OTEL_EXPORTER_OTLP"),
        ("https://collector/otlp?key=password", "has a query or fragment (https://collector/otlp?***)"),
        ("https://collector/#otlp", "has a query or fragment"),
    ],
)
def test_the_path_of_a_signal_must_fit_the_shared_endpoint(endpoint: str, words: str) -> None:
    """The exporters append it: `/v1/traces/v1/traces` would lose all data. A signal's own endpoint is used as it is."""
    with pytest.raises(SettingsError) as refused:
        read_variables({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})

    assert words in str(refused.value)
    assert "password" not in str(refused.value)
    own = {f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": endpoint for signal in ("TRACES", "METRICS", "LOGS")}
    assert read_variables(own).values == own
    assert read_variables({**own, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}).warnings == ()


GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}


@pytest.mark.parametrize("target", ["collector:4317", "unix:///run/otlp", "dns:///collector:4317"])
def test_a_grpc_target_needs_a_decision_on_tls(target: str) -> None:
    """Targets of gRPC are valid if a variable decides on TLS."""
    environment = {**GRPC, "OTEL_EXPORTER_OTLP_ENDPOINT": target}

    with pytest.raises(SettingsError, match="or set OTEL_EXPORTER_OTLP_INSECURE"):
        read_variables(environment)
    assert read_variables({**environment, "OTEL_EXPORTER_OTLP_INSECURE": "true"}).values == {
        **environment,
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
    }


def test_a_user_name_in_the_url_is_valid_for_http_only() -> None:
    """HTTP sends it as a header, gRPC cannot."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:password@collector:4318"}

    assert read_variables(environment).values == environment
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_HEADERS"):
        read_variables({**environment, **GRPC})


@pytest.mark.parametrize(
    "value", ["secret", "authorization", "a=b,authorization:secret", "x=secret%0Ab", "x=secret%E2"]
)
def test_invalid_headers(value: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are refused, and neither the message nor the log contains a value."""
    with pytest.raises(SettingsError, match=r"^OTEL_EXPORTER_OTLP_HEADERS has an entry \(number [12]\)") as refused:
        read_variables({"OTEL_EXPORTER_OTLP_HEADERS": value})

    assert "secret" not in f"{refused.value}{caplog.text}"


def test_headers_are_not_printed() -> None:
    """Printed settings contain no secret."""
    assert "secret" not in repr(read_otel_settings({"OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret"}))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://collector:4318/otlp", "http://collector:4318/otlp"),
        ("https://user:p%40ss@collector", "https://***@collector"),
        ("https://user:p/ss@collector:1/a", "https://***@collector:1/a"),
        ("http://collector?key=secret#x", "http://collector?***"),
        ("http://collector/\x1b[31m\x9b", "http://collector/%1B[31m%C2%9B"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, shown: str) -> None:
    """It has no user, no password, no query and no control characters."""
    assert mask(url) == shown


def test_a_batch_is_no_larger_than_the_queue() -> None:
    """Otherwise the SDK does not start: the batch size is reduced to the size of a small queue."""
    small = read_variables({"OTEL_BSP_MAX_QUEUE_SIZE": "100"})
    both = read_variables({"OTEL_BLRP_MAX_QUEUE_SIZE": "100", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "200"})

    assert (small.values["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"], small.warnings) == ("100", ())
    assert both.values["OTEL_BLRP_MAX_EXPORT_BATCH_SIZE"] == "100"
    assert len(both.warnings) == 1


def test_a_sampler_argument_without_its_sampler() -> None:
    """It is ignored with a warning."""
    read = read_variables({"OTEL_TRACES_SAMPLER_ARG": "0.5", "OTEL_TRACES_SAMPLER": "always_on"})

    assert "OTEL_TRACES_SAMPLER_ARG" not in read.values
    assert "traceidratio" in read.warnings[0]


def test_an_invalid_attribute_does_not_affect_others() -> None:
    """The SDK ignores it, too; here there is a warning."""
    read = read_variables({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,team, b=%2C"})

    assert read.values == {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a, b=%2C"}
    assert read.warnings == ("OTEL_RESOURCE_ATTRIBUTES has an entry that is not KEY=VALUE; the entry is ignored",)


@pytest.mark.parametrize("variable", ["OTEL_SERVICE_NAME=caf\udce9", "OTEL_RESOURCE_ATTRIBUTES=service.name=caf\udce9"])
def test_invalid_utf8_is_replaced(variable: str) -> None:
    """OTLP cannot represent it: the service would have no name."""
    name, _, value = variable.partition("=")

    assert read_variables({name: value}).values[name].endswith("caf\ufffd")


def test_a_warning_about_invalid_utf8_names_the_reason() -> None:
    """The message can be printed, and names the reason of the warning."""
    variables = read_variables({"OTEL_BSP_SCHEDULE_DELAY": "\udce9"})
    assert variables.warnings == (
        "OTEL_BSP_SCHEDULE_DELAY is %3F, not an integer number of milliseconds, 1 or more; it is ignored",
    )
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"):
        read_variables({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://caf\udce9:4318"})


def test_a_propagator_whose_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is valid if the SDK finds the entry point."""
    monkeypatch.setattr(parsers, "entry_points", lambda *, group: [EntryPoint("b3", "package:B3", group)])

    assert read_variables({"OTEL_PROPAGATORS": "B3, tracecontext"}).values == {"OTEL_PROPAGATORS": "b3,tracecontext"}


def test_signals_have_their_own_protocol_and_timeout() -> None:
    """The variable of a signal takes precedence over the one for all signals."""
    otel = read_otel_settings(
        {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "HTTP/protobuf",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "500",
            "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "3000",
        }
    )

    assert [otel.protocol_for(s) for s in ("traces", "metrics", "logs")] == ["grpc", "grpc", "http/protobuf"]
    assert [otel.timeout_for(s) for s in ("traces", "metrics", "logs")] == [0.5, 3.0, 0.5]


def test_lists_of_exporters() -> None:
    """A list may have several exporters, in any spelling, or `none`."""
    otel = read_otel_settings({"OTEL_TRACES_EXPORTER": "console, OTLP", "OTEL_LOGS_EXPORTER": "None"})

    assert otel.exporters_for("traces") == ("console", "otlp")
    assert otel.otlp_signals() == ("traces", "metrics")


def test_commands_report_ignored_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ignored value causes one line on stderr, before OpenTelemetry is imported."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "5s")
    result = CliRunner().invoke(main.app, ["doctor", "--backend", "nothing"])

    assert result.stderr.startswith(
        "modeltrace: OTEL_BSP_SCHEDULE_DELAY is 5s, not an integer number of milliseconds, 1 or more; it is ignored\n"
    )
    assert "OTEL_BSP_SCHEDULE_DELAY" not in os.environ


def test_commands_report_refused_values_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused value causes one line; `--help` works in spite of it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")
    assert isinstance(CliRunner().invoke(main.app, ["doctor"]).exception, SettingsError)

    result = CliRunner().invoke(main.app, ["doctor", "--help"])
    assert (result.exit_code, result.stderr) == (0, "")


@given(
    name=st.sampled_from([name for variable in VARIABLES for name in variable.names()]),
    value=st.text(max_size=40) | st.from_regex(r"[a-z]{0,5}(://)?[a-z@:\[\]0-9/?#%=, ]{0,20}", fullmatch=True),
    grpc=st.booleans(),
)
def test_no_value_causes_a_traceback(name: str, value: str, grpc: bool) -> None:
    """Any value is read, ignored or refused, with one printable line."""
    try:
        lines = read_variables({**(GRPC if grpc else {}), name: value}).warnings
    except SettingsError as error:
        lines = (str(error),)

    assert all(line.startswith(name) and line.isprintable() for line in lines)


@pytest.mark.parametrize("level", LEVELS)
def test_every_log_level_of_the_sdk(level: str) -> None:
    """Every value of the variable is a level of logging, in their order."""
    assert read_variables({"OTEL_LOG_LEVEL": level}).values == {"OTEL_LOG_LEVEL": level}
    assert sorted(OTEL_LOG_LEVELS, key=OTEL_LOG_LEVELS.__getitem__) == list(LEVELS)
