"""The delivery check reports why OTLP cannot be delivered; request errors are described in words."""

import httpx
import pytest

from modeltrace.client.service import describe_error
from modeltrace.doctor.delivery_check import check_otlp_delivery
from modeltrace.otel_settings import read_otel_settings
from tests.helpers.processes import free_port
from tests.helpers.receivers import Response, otlp_grpc, otlp_http


def check(variables: pytest.MonkeyPatch, **environ: str) -> list[str]:
    """Run the check with only these variables."""
    for name, value in environ.items():
        variables.setenv(name, value)
    return check_otlp_delivery(read_otel_settings(environ))


def test_working_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the endpoint accepts each signal, nothing is reported."""
    with otlp_http() as endpoint:
        assert check(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.url) == []
    assert {sent.path for sent in endpoint.requests} == {"/v1/traces", "/v1/metrics", "/v1/logs"}


def test_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line reports all signals with the same reason, with the URL."""
    url = f"http://127.0.0.1:{free_port()}"
    lines = check(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url)

    assert len(lines) == 1
    signals = "OTLP traces, metrics, logs"
    assert lines[0].startswith(
        f"with the variables of this terminal, {signals} cannot be delivered to {url}: nothing listens at "
    )


def test_each_signal_is_checked_by_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signal is sent by its protocol to its endpoint. A signal that is not exported is not checked."""
    with otlp_http() as http, otlp_grpc() as grpc:
        http.respond = lambda _: Response(401)
        lines = check(
            monkeypatch,
            OTEL_METRICS_EXPORTER="none",
            OTEL_EXPORTER_OTLP_ENDPOINT=http.url,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=grpc.url,
            OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc",
        )

    assert len(grpc.requests) == 1
    assert ["401 Unauthorized. Set its key in OTEL_EXPORTER_OTLP_HEADERS" in line for line in lines] == [True]
    assert "OTLP logs cannot" in lines[0]


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1", "nothing listens at http://127.0.0.1:"), ("service.invalid", "unknown host service.invalid")],
)
def test_request_error_is_described(host: str, reason: str) -> None:
    """The description is that of failed deliveries."""
    with pytest.raises(httpx.HTTPError) as failed:
        httpx.get(f"http://{host}:{free_port()}")

    assert describe_error(failed.value).startswith(reason)


def test_error_without_message_is_described_by_its_class() -> None:
    """The description of an unknown error without a message is its class."""
    assert describe_error(httpx.DecodingError("")) == "DecodingError"
