"""The SDK's OTLP exporters, as OpenTelemetry's variables ask for them.

They resolve endpoints, headers, compression and proxies. What they get wrong is resolved here: certificates of one
signal, compression over gRPC, and a certificate's variable beside REQUESTS_CA_BUNDLE.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from modeltrace.otel_env.table import OTLP_PREFIX, Signal
from modeltrace.otlp.failures import Target
from modeltrace.otlp.tls import TlsFiles, tls_files

if TYPE_CHECKING:
    import grpc
    import requests
    from opentelemetry.metrics import MeterProvider

Protocol = Literal["http/protobuf", "grpc"]
DEFAULT_GRPC_ENDPOINT: Final = "http://localhost:4317"
DEFAULT_HTTP_ENDPOINT: Final = "http://localhost:4318"


def sdk_exporter(
    signal: Signal, *, protocol: Protocol, timeout_seconds: float, meter_provider: "MeterProvider | None" = None
) -> Any:  # noqa: ANN401  six classes without a common base
    """Build the exporter of a signal. Each protocol's classes are imported only when they are in use."""
    if protocol == "grpc":
        return _grpc_exporter(signal, timeout_seconds, meter_provider)
    options: dict[str, Any] = {
        "timeout": timeout_seconds,
        "session": _session(signal),
        "meter_provider": meter_provider,
    }
    if signal == "traces":
        from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415  see above

        return trace_exporter.OTLPSpanExporter(**options)
    if signal == "metrics":
        from opentelemetry.exporter.otlp.proto.http import metric_exporter  # noqa: PLC0415  see above

        return metric_exporter.OTLPMetricExporter(**options)
    from opentelemetry.exporter.otlp.proto.http import _log_exporter  # noqa: PLC0415  see above

    return _log_exporter.OTLPLogExporter(**options)


def target(signal: Signal, *, protocol: Protocol, timeout_seconds: float) -> Target:
    """Where a signal goes, for what is said of it."""
    from opentelemetry.util.re import parse_env_headers  # noqa: PLC0415  as late as the exporters

    own_variable = f"{OTLP_PREFIX}{signal.upper()}_ENDPOINT"
    configured = _read_variable(signal, "ENDPOINT")
    if protocol == "grpc":
        url = configured or DEFAULT_GRPC_ENDPOINT
        if "://" not in url and not _is_insecure(signal, url):
            url = f"https://{url}"
    else:
        base = configured or DEFAULT_HTTP_ENDPOINT
        url = base if os.environ.get(own_variable) else f"{base.removesuffix('/')}/v1/{signal}"
    values = parse_env_headers(_read_variable(signal, "HEADERS"), liberal=True).values()
    secrets = {part for value in values for part in (value, value.split()[-1] if value else "") if len(part) > 3}
    return Target(
        url,
        grpc=protocol == "grpc",
        timeout_seconds=timeout_seconds,
        endpoint_variable=own_variable if os.environ.get(own_variable) else OTLP_PREFIX + "ENDPOINT",
        headers_variable=name
        if os.environ.get(name := f"{OTLP_PREFIX}{signal.upper()}_HEADERS")
        else OTLP_PREFIX + "HEADERS",
        secrets=tuple(sorted(secrets, key=len, reverse=True)),
    )


def usable_tls_files(signal: Signal, *, protocol: Protocol) -> TlsFiles | None:
    """The certificate files that a signal uses; `None` where it speaks no TLS, or gets its credentials elsewhere."""
    if any(os.environ.get(name) for name in _credential_provider_variables(signal, protocol)):
        return None
    url = _read_variable(signal, "ENDPOINT")
    plain = (
        _is_insecure(signal, url or DEFAULT_GRPC_ENDPOINT)
        if protocol == "grpc"
        else not url.lower().startswith("https:")
    )
    return None if plain else tls_files(signal)


def _session(signal: Signal) -> "requests.Session | None":
    """A session in which a certificate's variable beats REQUESTS_CA_BUNDLE, which it does not in the SDK's.

    None where the SDK's will do. It would hide a credential provider's, which comes first therefore.
    """
    if any(
        os.environ.get(name) for name in _credential_provider_variables(signal, "http/protobuf")
    ) or not _read_variable(signal, "CERTIFICATE"):
        return None
    import requests  # noqa: PLC0415  only when HTTP is in use

    class Session(requests.Session):
        def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:  # noqa: ANN401  passed on
            return super().merge_environment_settings(url, proxies, stream, verify or self.verify, cert)

    return Session()


def _grpc_exporter(signal: Signal, timeout_seconds: float, meter_provider: "MeterProvider | None") -> Any:  # noqa: ANN401  see above
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C code writes to stderr what `failures` says better
    import grpc  # noqa: PLC0415  only when gRPC is in use

    compressions = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
    compression = _read_variable(signal, "COMPRESSION").strip().lower()
    endpoint = _read_variable(signal, "ENDPOINT") or DEFAULT_GRPC_ENDPOINT
    files = usable_tls_files(signal, protocol="grpc")
    options: dict[str, Any] = {
        "endpoint": endpoint,
        "insecure": _is_insecure(signal, endpoint),
        "credentials": credentials(files) if files else None,
        "timeout": timeout_seconds,
        "compression": compressions.get(compression, grpc.Compression.NoCompression),
        "meter_provider": meter_provider,
    }
    if signal == "traces":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter  # noqa: PLC0415  see above

        return trace_exporter.OTLPSpanExporter(**options)
    if signal == "metrics":
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter  # noqa: PLC0415  see above

        return metric_exporter.OTLPMetricExporter(**options)
    from opentelemetry.exporter.otlp.proto.grpc import _log_exporter  # noqa: PLC0415  see above

    return _log_exporter.OTLPLogExporter(**options)


def credentials(files: TlsFiles) -> "grpc.ChannelCredentials":
    """Credentials of files that can be used; of none where they cannot."""
    import grpc  # noqa: PLC0415  only when gRPC is in use

    if files.find_problem(allow_folder=False):
        return grpc.ssl_channel_credentials()
    authorities = Path(files.ca.path).read_bytes() if files.ca else None
    chain = Path(files.certificate.path).read_bytes() if files.certificate else None
    key = Path(files.key.path).read_bytes() if files.key else chain
    return grpc.ssl_channel_credentials(authorities, key, chain)


def _is_insecure(signal: Signal, endpoint: str) -> bool:
    """Whether gRPC speaks no TLS: the scheme says, or, where there is none, the variable."""
    scheme = endpoint.partition("://")[0].lower() if "://" in endpoint else ""
    return scheme == "http" or (scheme != "https" and _read_variable(signal, "INSECURE").lower() == "true")


def _read_variable(signal: Signal, name: str) -> str:
    """A signal's own variable, or the one for all signals; an empty one is as good as none."""
    return os.environ.get(f"{OTLP_PREFIX}{signal.upper()}_{name}") or os.environ.get(OTLP_PREFIX + name) or ""


def _credential_provider_variables(signal: Signal, protocol: Protocol) -> tuple[str, str]:
    kind = "GRPC" if protocol == "grpc" else "HTTP"
    prefix = f"OTEL_PYTHON_EXPORTER_OTLP_{kind}_"
    return f"{prefix}CREDENTIAL_PROVIDER", f"{prefix}{signal.upper()}_CREDENTIAL_PROVIDER"
