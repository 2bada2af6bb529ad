"""Arguments, ports and environments of the processes that `up` starts."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from modeltrace.errors import SettingsError
from modeltrace.local.plan import (
    COLLECTOR_ENDPOINTS,
    StackTarget,
    UpConfig,
    UpError,
    check_collector_reachable,
    check_ports_free,
    collector_endpoint,
    describe_external_telemetry,
    hub_arguments,
    service_arguments,
    service_environment,
    traffic_arguments,
    traffic_environment,
)
from modeltrace.local.tls import UpTls, read_tls
from modeltrace.otel_settings import OtelSettings, read_otel_settings
from modeltrace.settings import read_settings
from modeltrace_http.tls import TlsFiles
from stack.components import Ports, read_components
from tests.helpers.processes import free_port


@pytest.fixture
def config() -> UpConfig:
    """The configuration of a service with a hub and traffic on free ports."""
    return UpConfig(
        source="bundle",
        bundle=Path("bundle"),
        host="127.0.0.1",
        port=free_port(),
        hub_port=free_port(),
        grpc_port=free_port(),
        http_port=free_port(),
        rate=20.0,
        external_telemetry=None,
        hub_has_key=False,
        log_dir=Path("logs"),
    )


@pytest.fixture
def otel() -> OtelSettings:
    """Default settings of OpenTelemetry."""
    return OtelSettings()


def test_service_sends_to_the_hub(config: UpConfig, otel: OtelSettings) -> None:
    """By default, OTLP goes to the hub's HTTP port."""
    env = service_environment({}, config, otel)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://127.0.0.1:{config.http_port}"


def test_tls_of_service_and_hub(config: UpConfig, otel: OtelSettings) -> None:
    """Clients trust the certificates themselves; --ca replaces them. Without TLS, no certificate is passed on."""
    service, hub = TlsFiles(Path("s.pem"), Path("s.key")), TlsFiles(Path("h.pem"))
    for ca, service_ca, hub_ca in ((None, "s.pem", "h.pem"), (Path("my ca.pem"), "my ca.pem", "my ca.pem")):
        secured = replace(config, tls=UpTls(service, hub, ca))
        env = service_environment({}, secured, otel)
        assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"https://127.0.0.1:{config.http_port}"
        assert env["OTEL_EXPORTER_OTLP_CERTIFICATE"] == hub_ca
        assert service_arguments(secured)[-4:] == ("--tls-certificate", "s.pem", "--tls-key", "s.key")
        arguments = traffic_arguments(secured, has_rows=False, has_labels=False, ready_timeout=60)
        assert " ".join(arguments).endswith(f"--ca {service_ca}")
        assert secured.hub_url == f"https://127.0.0.1:{config.hub_port}"
    assert secured.traffic_command == f"traffic https://127.0.0.1:{config.port} --ca 'my ca.pem'"

    assert "OTEL_EXPORTER_OTLP_CERTIFICATE" not in service_environment({}, config, otel)
    assert "--tls-certificate" not in service_arguments(config)
    assert config.traffic_command == f"traffic http://127.0.0.1:{config.port}"


def test_the_hub_gets_the_file_of_alerts(config: UpConfig) -> None:
    """Only if there is one."""
    assert "--alerts" not in hub_arguments(config)
    assert hub_arguments(replace(config, alerts=Path("alerts.toml")))[-2:] == ("--alerts", "alerts.toml")


def test_grpc_is_sent_to_the_grpc_port(config: UpConfig, otel: OtelSettings) -> None:
    """With the gRPC protocol, OTLP goes to the hub's gRPC port."""
    env = service_environment({}, config, otel.model_copy(update={"protocol": "grpc"}))
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://127.0.0.1:{config.grpc_port}"


def test_signal_with_another_protocol_is_sent_to_its_port(config: UpConfig) -> None:
    """The port is that of the hub, or of the Collector."""
    otel = read_otel_settings(
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf"}
    )
    env = service_environment({}, config, otel)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://127.0.0.1:{config.grpc_port}"
    assert env["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] == f"http://127.0.0.1:{config.http_port}/v1/logs"
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" not in env

    with_stack = replace(config, stack=StackTarget(collector_endpoint(otel), (), ""))
    env = service_environment({}, with_stack, otel)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == COLLECTOR_ENDPOINTS["grpc"]
    assert env["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] == f"{COLLECTOR_ENDPOINTS['http/protobuf']}/v1/logs"


def test_service_sends_to_the_collector_of_a_stack(config: UpConfig, otel: OtelSettings) -> None:
    """The hub's key is not sent to the Collector."""
    with_stack = replace(config, stack=StackTarget("http://127.0.0.1:4318", (), ""))
    env = service_environment({"MODELTRACE_HUB_KEY": "a key"}, with_stack, otel)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in env


def test_default_endpoint_of_the_collector(otel: OtelSettings) -> None:
    """The endpoint has the port of its protocol in stack/components.toml; the user's endpoint takes precedence."""
    ports = Ports.default(read_components())
    assert collector_endpoint(otel) == ports.fill("http://{host}:{otelcol.http}")
    assert COLLECTOR_ENDPOINTS["grpc"] == ports.fill("http://{host}:{otelcol.grpc}")
    assert collector_endpoint(otel.model_copy(update={"endpoint": "http://there:1"})) == "http://there:1"


def test_variables_of_the_user_take_precedence(config: UpConfig, otel: OtelSettings) -> None:
    """A variable of the user replaces the default, unless it is empty."""
    environ = {"OTEL_METRIC_EXPORT_INTERVAL": "1000", "OTEL_BSP_SCHEDULE_DELAY": ""}
    env = service_environment(environ, config, otel)
    assert env["OTEL_METRIC_EXPORT_INTERVAL"] == "1000"
    assert env["OTEL_BSP_SCHEDULE_DELAY"] == "200"


def test_hub_key_is_sent(config: UpConfig, otel: OtelSettings) -> None:
    """The service sends the hub's key, percent-encoded in the variable for OTLP headers."""
    env = service_environment({"MODELTRACE_HUB_KEY": "a key, a=b"}, config, otel)
    assert env["OTEL_EXPORTER_OTLP_HEADERS"] == "authorization=Bearer%20a%20key%2C%20a%3Db"


def test_log_of_the_service_is_a_file(config: UpConfig, otel: OtelSettings) -> None:
    """Log records of the service are written to a file in the folder of logs, not to the terminal."""
    assert service_environment({}, config, otel)["MODELTRACE_LOG_FILE"] == str(config.log_dir / "service.jsonl")


@pytest.mark.parametrize(("has_rows", "has_labels"), [(False, False), (True, False), (True, True)])
def test_traffic_sends_labels_if_the_bundle_has_them(config: UpConfig, has_rows: bool, has_labels: bool) -> None:
    """Traffic uses the test rows and the true labels of the bundle if it has them."""
    arguments = traffic_arguments(config, has_rows=has_rows, has_labels=has_labels, ready_timeout=60)

    assert ("--bundle" in arguments, "--feedback" in arguments) == (has_rows, has_labels)


def test_only_traffic_of_the_example_is_unmarked(config: UpConfig) -> None:
    """Traffic for any other bundle is marked as synthetic."""
    for is_example in (True, False):
        arguments = traffic_arguments(
            replace(config, is_example=is_example), has_rows=True, has_labels=True, ready_timeout=60
        )
        assert ("--unmarked" in arguments) == is_example


def test_shifts_are_passed_on(config: UpConfig) -> None:
    """The arguments contain each shift and its delay; without shifts there are no such options."""
    shifted = replace(config, shifts=("a+=1sd", "b=2"), shift_after=300.0)
    arguments = " ".join(traffic_arguments(shifted, has_rows=True, has_labels=True, ready_timeout=60))
    assert "--shift a+=1sd --shift b=2 --shift-after 300s" in arguments
    assert "--shift" not in traffic_arguments(config, has_rows=True, has_labels=True, ready_timeout=60)


def test_traffic_has_its_own_service_name(config: UpConfig, otel: OtelSettings) -> None:
    """The user's OTEL_SERVICE_NAME applies to the service, not to traffic."""
    service = service_environment({"OTEL_SERVICE_NAME": "scores"}, config, otel)
    assert service["OTEL_SERVICE_NAME"] == "scores"
    assert "OTEL_SERVICE_NAME" not in traffic_environment(service)


@pytest.mark.parametrize("user", ["", "user:password@"])
def test_endpoint_of_the_user_is_described(otel: OtelSettings, user: str) -> None:
    """The description contains the user's endpoint without its password."""
    settings = otel.model_copy(update={"endpoint": f"http://{user}collector:4318"})
    shown = "http://***@collector:4318" if user else "http://collector:4318"
    assert describe_external_telemetry(settings) == f"sent to {shown} (OTEL_EXPORTER_OTLP_ENDPOINT)"


def test_service_name_in_resource_attributes_is_kept(config: UpConfig, otel: OtelSettings) -> None:
    """OTEL_SERVICE_NAME, which would take precedence, is not set."""
    assert "OTEL_SERVICE_NAME" not in service_environment({"OTEL_RESOURCE_ATTRIBUTES": "service.name=x"}, config, otel)


@pytest.mark.parametrize(
    ("field", "option"),
    [("port", "--port"), ("hub_port", "--hub-port"), ("grpc_port", "--grpc-port"), ("http_port", "--http-port")],
)
def test_port_in_use_is_an_error(config: UpConfig, field: str, option: str) -> None:
    """The message names the port and the option that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UpError, match=rf"port {port} .* {option}$"):
            check_ports_free(replace(config, **{field: port}))


def test_ports_of_the_hub_are_not_checked_without_a_hub(config: UpConfig) -> None:
    """If no hub is started, its ports may be in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check_ports_free(replace(config, hub_port=listener.getsockname()[1], external_telemetry="sent elsewhere"))


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:{}", "http://127.0.0.1:{}/otlp", "http://[::ffff:127.0.0.1]:{}", "127.0.0.1:{}"]
)
def test_collector_is_reached_at_its_endpoint(endpoint: str) -> None:
    """Any form of the endpoint works; if nothing listens, the message says how to start the stack."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stack = StackTarget(endpoint.format(listening.getsockname()[1]), (), "")
        check_collector_reachable(stack)
    with pytest.raises(UpError, match=r"^no Collector answers at .*: Connection refused\. .* \./dev stack up$"):
        check_collector_reachable(stack)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("0.0.0.0", "http://127.0.0.1:1"), ("::1", "http://[::1]:1")],  # noqa: S104  a value, nothing listens
)
def test_url_of_the_service(config: UpConfig, host: str, url: str) -> None:
    """A wildcard address is replaced by loopback."""
    assert replace(config, host=host, port=1).service_url == url


def test_a_ca_file_is_checked_without_tls(tmp_path: Path) -> None:
    """A missing file, and one without certificates, are errors."""
    file = tmp_path / "ca.pem"
    with pytest.raises(SettingsError, match=r"--ca .*ca\.pem cannot be read"):
        read_tls(read_settings(), file)
    file.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"--ca .*ca\.pem must contain certificates"):
        read_tls(read_settings(), file)
