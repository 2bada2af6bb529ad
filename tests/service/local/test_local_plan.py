"""What `up` starts, on which ports and with which environment."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from modeltrace.local.plan import (
    COLLECTOR_ENDPOINTS,
    StackTarget,
    UpConfig,
    UpError,
    check_collector_reachable,
    check_ports_free,
    collector_endpoint,
    describe_external_telemetry,
    service_environment,
    traffic_arguments,
    traffic_environment,
)
from modeltrace.settings import OtelSettings, read_otel_settings
from stack.components import Ports, read_components
from tests.helpers.processes import free_port


@pytest.fixture
def local() -> UpConfig:
    """A service with a hub and traffic, on free ports."""
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
    """OpenTelemetry's settings in an environment that says nothing."""
    return OtelSettings()


def test_the_service_sends_to_the_hub(local: UpConfig, otel: OtelSettings) -> None:
    """Without settings of the user's, OTLP goes to the hub's HTTP port."""
    env = service_environment({}, local, otel)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://127.0.0.1:{local.http_port}"


def test_grpc_goes_to_the_grpc_port(local: UpConfig, otel: OtelSettings) -> None:
    """With the gRPC protocol, OTLP goes to the hub's gRPC port."""
    env = service_environment({}, local, otel.model_copy(update={"protocol": "grpc"}))
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://127.0.0.1:{local.grpc_port}"


def test_a_signal_with_another_protocol_goes_to_its_port(local: UpConfig) -> None:
    """To the hub's, or to the Collector's."""
    otel = read_otel_settings(
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf"}
    )
    env = service_environment({}, local, otel)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://127.0.0.1:{local.grpc_port}"
    assert env["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] == f"http://127.0.0.1:{local.http_port}/v1/logs"
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" not in env

    real = replace(local, stack=StackTarget(collector_endpoint(otel), (), ""))
    env = service_environment({}, real, otel)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == COLLECTOR_ENDPOINTS["grpc"]
    assert env["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] == f"{COLLECTOR_ENDPOINTS['http/protobuf']}/v1/logs"


def test_with_the_real_stack_it_sends_to_the_collector(local: UpConfig, otel: OtelSettings) -> None:
    """The hub's key does not go there."""
    real = replace(local, stack=StackTarget("http://127.0.0.1:4318", (), ""))
    env = service_environment({"MODELTRACE_HUB_KEY": "a key"}, real, otel)
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in env


def test_the_collector_is_where_the_stack_has_it_listen(otel: OtelSettings) -> None:
    """By protocol, on the ports of stack/components.toml; the user's own endpoint wins."""
    ports = Ports.default(read_components())
    assert collector_endpoint(otel) == ports.fill("http://{host}:{otelcol.http}")
    assert COLLECTOR_ENDPOINTS["grpc"] == ports.fill("http://{host}:{otelcol.grpc}")
    assert collector_endpoint(otel.model_copy(update={"endpoint": "http://there:1"})) == "http://there:1"


def test_what_the_user_set_stands(local: UpConfig, otel: OtelSettings) -> None:
    """A variable that is set wins over our default; one that is empty is not set."""
    outer = {"OTEL_METRIC_EXPORT_INTERVAL": "1000", "OTEL_BSP_SCHEDULE_DELAY": ""}
    env = service_environment(outer, local, otel)
    assert env["OTEL_METRIC_EXPORT_INTERVAL"] == "1000"
    assert env["OTEL_BSP_SCHEDULE_DELAY"] == "200"


def test_the_hub_key_goes_along(local: UpConfig, otel: OtelSettings) -> None:
    """A hub with a key gets it from the service, encoded as OTLP's header variable wants it."""
    env = service_environment({"MODELTRACE_HUB_KEY": "a key, a=b"}, local, otel)
    assert env["OTEL_EXPORTER_OTLP_HEADERS"] == "authorization=Bearer%20a%20key%2C%20a%3Db"


def test_the_lines_of_the_service_go_to_a_file(local: UpConfig, otel: OtelSettings) -> None:
    """The terminal stays quiet; the file is beside the other logs."""
    assert service_environment({}, local, otel)["MODELTRACE_LOG_FILE"] == str(local.log_dir / "service.jsonl")


@pytest.mark.parametrize(("held_out", "labelled"), [(False, False), (True, False), (True, True)])
def test_traffic_sends_labels_where_there_are_any(local: UpConfig, held_out: bool, labelled: bool) -> None:
    """Rows of the bundle if it has some, and their labels if they have."""
    arguments = traffic_arguments(local, has_rows=held_out, has_labels=labelled, ready_timeout=60)

    assert ("--bundle" in arguments, "--feedback" in arguments) == (held_out, labelled)


def test_only_the_traffic_of_the_example_counts(local: UpConfig) -> None:
    """To any other bundle it is marked as synthetic."""
    for example in (True, False):
        arguments = traffic_arguments(replace(local, example=example), has_rows=True, has_labels=True, ready_timeout=60)
        assert ("--unmarked" in arguments) == example


def test_shifts_are_passed_on(local: UpConfig) -> None:
    """Each of them, with the time after which they begin; without any the options are not there."""
    shifted = replace(local, shifts=("a+=1sd", "b=2"), shift_after=300.0)
    arguments = " ".join(traffic_arguments(shifted, has_rows=True, has_labels=True, ready_timeout=60))
    assert "--shift a+=1sd --shift b=2 --shift-after 300s" in arguments
    assert "--shift" not in traffic_arguments(local, has_rows=True, has_labels=True, ready_timeout=60)


def test_traffic_has_its_own_name(local: UpConfig, otel: OtelSettings) -> None:
    """The name that the user gave the service is not the traffic's."""
    service = service_environment({"OTEL_SERVICE_NAME": "scores"}, local, otel)
    assert service["OTEL_SERVICE_NAME"] == "scores"
    assert "OTEL_SERVICE_NAME" not in traffic_environment(service)


@pytest.mark.parametrize("user", ["", "user:password@"])
def test_an_endpoint_of_the_users_means_no_hub(otel: OtelSettings, user: str) -> None:
    """Telemetry goes where the user says, and the line says so, without a password."""
    there = otel.model_copy(update={"endpoint": f"http://{user}collector:4318"})
    shown = "http://***@collector:4318" if user else "http://collector:4318"
    assert describe_external_telemetry(there) == f"telemetry goes to {shown} (OTEL_EXPORTER_OTLP_ENDPOINT)"


def test_a_name_among_the_resource_attributes_stands(local: UpConfig, otel: OtelSettings) -> None:
    """The service gets no other name, which would win over it."""
    assert "OTEL_SERVICE_NAME" not in service_environment({"OTEL_RESOURCE_ATTRIBUTES": "service.name=x"}, local, otel)


@pytest.mark.parametrize(
    ("field", "option"),
    [("port", "--port"), ("hub_port", "--hub-port"), ("grpc_port", "--grpc-port"), ("http_port", "--http-port")],
)
def test_a_port_in_use_is_named(local: UpConfig, field: str, option: str) -> None:
    """The message names the port and the option that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UpError, match=rf"port {port} .* {option}$"):
            check_ports_free(replace(local, **{field: port}))


def test_a_hubs_ports_do_not_matter_without_a_hub(local: UpConfig) -> None:
    """Where no hub is started its ports may be in use."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check_ports_free(replace(local, hub_port=taken.getsockname()[1], external_telemetry="telemetry goes elsewhere"))


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:{}", "http://127.0.0.1:{}/otlp", "http://[::ffff:127.0.0.1]:{}", "127.0.0.1:{}"]
)
def test_a_collector_is_found_where_it_listens(endpoint: str) -> None:
    """Whichever form the endpoint has; where nothing listens, the message says what to start."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = StackTarget(endpoint.format(listening.getsockname()[1]), (), "")
        check_collector_reachable(there)
    with pytest.raises(UpError, match=r"^no Collector answers at .*: Connection refused\. .* \./dev stack up$"):
        check_collector_reachable(there)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("0.0.0.0", "http://127.0.0.1:1"), ("::1", "http://[::1]:1")],  # noqa: S104  a value, nothing listens
)
def test_the_service_is_reached_where_it_listens(local: UpConfig, host: str, url: str) -> None:
    """An address that stands for all of them is reached over loopback."""
    assert replace(local, host=host, port=1).service_url == url
