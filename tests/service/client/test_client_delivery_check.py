"""Whether OTLP can be delivered from here, and why a request fails."""

import httpx
import pytest

from modeltrace.client.service import describe_error
from modeltrace.doctor.delivery_check import check_otlp_delivery
from modeltrace.settings import read_otel_settings
from tests.helpers.processes import free_port
from tests.helpers.receivers import Response, otlp_grpc, otlp_http


def checked(variables: pytest.MonkeyPatch, **environ: str) -> list[str]:
    """Check with these variables alone."""
    for name, value in environ.items():
        variables.setenv(name, value)
    return check_otlp_delivery(read_otel_settings(environ))


def test_an_endpoint_that_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to say; each signal was sent."""
    with otlp_http() as endpoint:
        assert checked(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.url) == []
    assert {sent.path for sent in endpoint.requests} == {"/v1/traces", "/v1/metrics", "/v1/logs"}


def test_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for all signals says where, why, and what to do."""
    url = f"http://127.0.0.1:{free_port()}"
    lines = checked(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url)

    assert len(lines) == 1
    assert lines[0].startswith(
        f"with this terminal's variables, OTLP traces, metrics, logs cannot be delivered to {url}: nothing listens at "
    )


def test_each_signal_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its protocol, to its endpoint; what is not exported is not sent."""
    with otlp_http() as http, otlp_grpc() as grpc:
        http.respond = lambda _: Response(401)
        lines = checked(
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
    ("host", "why"),
    [("127.0.0.1", "nothing listens at http://127.0.0.1:"), ("service.invalid", "unknown host service.invalid")],
)
def test_why_a_request_fails(host: str, why: str) -> None:
    """In the words that deliveries have."""
    with pytest.raises(httpx.HTTPError) as failed:
        httpx.get(f"http://{host}:{free_port()}")

    assert describe_error(failed.value).startswith(why)


def test_a_failure_that_has_no_words_is_named() -> None:
    """By the class of the error."""
    assert describe_error(httpx.DecodingError("")) == "DecodingError"
