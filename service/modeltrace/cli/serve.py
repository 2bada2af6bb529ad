"""`modeltrace serve`."""

from collections.abc import Callable
from typing import Annotated

import typer

from modeltrace.cli.options import TrustCode, TrustPickle
from modeltrace.imports import import_object
from modeltrace.settings import Settings, read_settings
from modeltrace_http.tls_options import TlsCertificate, TlsClientCa, TlsKey


def serve(
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            show_default="MODELTRACE_BUNDLE",
            help="A bundle's folder, a folder of bundles, FOLDER@VERSION, or models:/NAME@ALIAS.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            show_default="127.0.0.1",
            help="The address to listen on. Addresses other than loopback require MODELTRACE_API_KEY.",
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(show_default="8000", help="The port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(show_default="1", help="The number of worker processes.")] = None,
    expect_sha256: Annotated[
        str | None, typer.Option(metavar="HASH", help="Reject bundles whose model.json has another SHA-256.")
    ] = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="Allow any --host without an API key.")] = None,
    trust_pickle: TrustPickle = None,
    trust_code: TrustCode = None,
) -> None:
    """Serve a bundle over HTTP and send its telemetry over OTLP.

    For a folder of bundles, the highest release is served. A pre-release (2.0.0rc1) is served only if the folder has no
    intact release, or if it is named: FOLDER@VERSION.
    models:/NAME@ALIAS and models:/NAME/NUMBER name a version in an MLflow registry (MLFLOW_TRACKING_URI or
    MLFLOW_REGISTRY_URI).

    Each option is also an environment variable (MODELTRACE_PORT, …). OpenTelemetry's variables determine where
    telemetry is sent. docs/settings.md lists all variables.

    Example: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 modeltrace serve my-bundle
    """
    settings = read_settings(
        bundle=bundle,
        host=host,
        port=port,
        workers=workers,
        expect_sha256=expect_sha256,
        trust_pickle=trust_pickle,
        trust_code=trust_code,
        insecure=insecure,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
    )
    # Imported after the settings are valid, because the import takes a second.
    run: Callable[[Settings], None] = import_object("modeltrace.server:serve")
    run(settings)
