"""The hub over TLS: pages, OTLP over HTTP and gRPC, and errors in its settings."""

import re
import ssl
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from modeltrace_hub.errors import SettingsError
from modeltrace_hub.settings import read_settings
from tests.helpers.certificates import self_signed
from tests.helpers.hubs import HubPorts
from tests.helpers.processes import running, wait_until

pytestmark = pytest.mark.slow
KEY = "a key of 16 signs"


def send_span(exporter: SpanExporter) -> str:
    """Send a span with an exporter of the SDK, and return its trace ID."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = provider.get_tracer("test").start_span("a span")
    span.end()
    provider.shutdown()
    return f"{span.get_span_context().trace_id:032x}"


def test_all_ports_have_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's exporters deliver with the CA of the certificate, and the cookie of the key is for https only."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # `requests` prefers them to the file of the exporter
        monkeypatch.delenv(name, raising=False)
    certificate, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate)
    ports = HubPorts.reserve()
    pages, otlp = f"https://127.0.0.1:{ports.page}", f"https://127.0.0.1:{ports.http}"
    arguments = ["modeltrace_hub", "--memory", *ports.options]
    arguments += ["--tls-certificate", str(certificate), "--tls-key", str(key)]

    def is_ready() -> bool:
        try:
            return httpx.get(f"{pages}/healthz", verify=trusting).status_code == 200
        except httpx.TransportError:
            return False

    with running(arguments, env={"MODELTRACE_HUB_KEY": KEY}) as process:
        wait_until(is_ready, description=f"the hub at {pages}")
        headers = {"authorization": f"Bearer {KEY}"}
        traces = [
            send_span(HttpExporter(f"{otlp}/v1/traces", certificate_file=str(certificate), headers=headers)),
            send_span(
                GrpcExporter(
                    f"https://127.0.0.1:{ports.grpc}",
                    credentials=grpc.ssl_channel_credentials(certificate.read_bytes()),
                    headers=[("authorization", f"Bearer {KEY}")],
                )
            ),
        ]
        with httpx.Client(base_url=pages, verify=trusting, headers=headers) as client:
            for trace_id in traces:
                assert client.get(f"/api/traces/{trace_id}").json()["spans"][0]["name"] == "a span"
            assert client.get("/", headers={"Origin": pages}).status_code == 200
        cookie = httpx.get(f"{pages}/?key={KEY}", verify=trusting).headers["set-cookie"]
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{ports.page}/healthz")
        log = process.log

    assert "Secure" in cookie
    addresses = re.findall(r"https?://\S+", log)
    assert addresses == [pages, otlp, f"https://127.0.0.1:{ports.grpc}"]


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    """The error names the variable and the file, before the hub opens its database."""
    certificate, key = self_signed(tmp_path)
    for settings, message in (
        ({"tls_key": key}, "MODELTRACE_HUB_TLS_KEY needs MODELTRACE_HUB_TLS_CERTIFICATE"),
        ({"tls_client_ca": key}, "MODELTRACE_HUB_TLS_CLIENT_CA needs MODELTRACE_HUB_TLS_CERTIFICATE"),
        ({"tls_certificate": key}, r"must contain a certificate.*\(MODELTRACE_HUB_TLS_CERTIFICATE"),
        ({"tls_certificate": tmp_path / "missing.pem"}, r"missing\.pem cannot be read: No such file or directory"),
    ):
        with pytest.raises(SettingsError, match=message):
            read_settings(**settings).check_tls(SettingsError)
    assert read_settings(tls_certificate=certificate, tls_key=key).check_tls(SettingsError)
    assert read_settings().check_tls(SettingsError) is None
