"""Build the OTLP exporters of the OpenTelemetry SDK as its environment variables configure them.

The exporters resolve endpoints, headers, compression and proxies. This module corrects three errors of the
exporters: certificates of a single signal, compression over gRPC, and the precedence of REQUESTS_CA_BUNDLE over
OTEL_EXPORTER_OTLP_CERTIFICATE.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modeltrace.otel_env.environment import read_option
from modeltrace.otel_env.table import OTLP_PREFIX, OtlpProtocol, Signal
from modeltrace.otlp.failures import Target
from modeltrace.otlp.tls import TlsFiles, tls_files

if TYPE_CHECKING:
    import grpc
    import requests
    from opentelemetry.metrics import MeterProvider

DEFAULT_GRPC_ENDPOINT: Final = "http://localhost:4317"
DEFAULT_HTTP_ENDPOINT: Final = "http://localhost:4318"
_EXPORTERS: Final[dict[Signal, tuple[str, str]]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


def sdk_exporter(
    signal: Signal, *, protocol: OtlpProtocol, timeout_seconds: float, meter_provider: "MeterProvider | None" = None
) -> Any:  # noqa: ANN401  six classes without a common base
    """Build the exporter of a signal; the classes of a protocol are imported only when it is in use."""
    options = _grpc_options(signal) if protocol == "grpc" else {"session": _session(signal)}
    module, name = _EXPORTERS[signal]
    package = "grpc" if protocol == "grpc" else "http"
    exporter = getattr(import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}"), name)
    return exporter(timeout=timeout_seconds, meter_provider=meter_provider, **options)


def target(signal: Signal, *, protocol: OtlpProtocol, timeout_seconds: float) -> Target:
    """Return the destination of a signal, for messages about failures."""
    from opentelemetry.util.re import parse_env_headers  # noqa: PLC0415  as late as the exporters

    endpoint_variable, endpoint = read_option(signal, "ENDPOINT")
    headers_variable, headers = read_option(signal, "HEADERS")
    if protocol == "grpc":
        url = endpoint or DEFAULT_GRPC_ENDPOINT
        if "://" not in url and not _is_insecure(signal, url):
            url = f"https://{url}"
    else:
        url = endpoint or DEFAULT_HTTP_ENDPOINT
        if endpoint_variable == OTLP_PREFIX + "ENDPOINT":
            url = f"{url.removesuffix('/')}/v1/{signal}"
    values = parse_env_headers(headers, liberal=True).values()
    secrets = {part for value in values for part in (value, value.split()[-1] if value else "") if len(part) > 3}
    return Target(
        url,
        grpc=protocol == "grpc",
        timeout_seconds=timeout_seconds,
        endpoint_variable=endpoint_variable,
        headers_variable=headers_variable,
        secrets=tuple(sorted(secrets, key=len, reverse=True)),
    )


def usable_tls_files(signal: Signal, *, protocol: OtlpProtocol) -> TlsFiles | None:
    """Return the certificate files of a signal; `None` without TLS or with a credential provider."""
    if _has_credential_provider(signal, protocol):
        return None
    url = read_option(signal, "ENDPOINT").value
    if protocol == "grpc":
        plain_text = _is_insecure(signal, url or DEFAULT_GRPC_ENDPOINT)
    else:
        plain_text = not url.lower().startswith("https:")
    return None if plain_text else tls_files(signal)


def _session(signal: Signal) -> "requests.Session | None":
    """Build a session in which OTEL_EXPORTER_OTLP_CERTIFICATE takes precedence over REQUESTS_CA_BUNDLE.

    Returns:
        `None` if the SDK builds the session: the variable is not set, or there is a credential provider, which this
        session would override.
    """
    if _has_credential_provider(signal, "http/protobuf") or not read_option(signal, "CERTIFICATE").value:
        return None
    import requests  # noqa: PLC0415  only when HTTP is in use

    class Session(requests.Session):
        def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:  # noqa: ANN401  passed on
            return super().merge_environment_settings(url, proxies, stream, verify or self.verify, cert)

    return Session()


def _grpc_options(signal: Signal) -> dict[str, Any]:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # no messages of its C code on stderr; see `failures`
    import grpc  # noqa: PLC0415  only when gRPC is in use

    compressions = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
    compression = read_option(signal, "COMPRESSION").value.strip().lower()
    endpoint = read_option(signal, "ENDPOINT").value or DEFAULT_GRPC_ENDPOINT
    files = usable_tls_files(signal, protocol="grpc")
    return {
        "endpoint": endpoint,
        "insecure": _is_insecure(signal, endpoint),
        "credentials": credentials(files) if files else None,
        "compression": compressions.get(compression, grpc.Compression.NoCompression),
    }


def credentials(files: TlsFiles) -> "grpc.ChannelCredentials":
    """Build gRPC credentials from certificate files; default credentials if the files cannot be used."""
    import grpc  # noqa: PLC0415  only when gRPC is in use

    if files.find_problem(allow_folder=False):
        return grpc.ssl_channel_credentials()
    ca = Path(files.ca.path).read_bytes() if files.ca else None
    chain = Path(files.certificate.path).read_bytes() if files.certificate else None
    key = Path(files.key.path).read_bytes() if files.key else chain
    return grpc.ssl_channel_credentials(ca, key, chain)


def _is_insecure(signal: Signal, endpoint: str) -> bool:
    """Return whether gRPC uses plain text: by the scheme of the endpoint, or by a variable if it has none."""
    scheme = endpoint.partition("://")[0].lower() if "://" in endpoint else ""
    return scheme == "http" or (scheme != "https" and read_option(signal, "INSECURE").value.lower() == "true")


def _has_credential_provider(signal: Signal, protocol: OtlpProtocol) -> bool:
    prefix = f"OTEL_PYTHON_EXPORTER_OTLP_{'GRPC' if protocol == 'grpc' else 'HTTP'}_"
    names = (f"{prefix}CREDENTIAL_PROVIDER", f"{prefix}{signal.upper()}_CREDENTIAL_PROVIDER")
    return any(os.environ.get(name) for name in names)
