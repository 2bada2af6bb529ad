"""`modeltrace serve`."""

from collections.abc import Callable
from typing import Annotated

import typer

from modeltrace.imports import import_object
from modeltrace.settings import Settings, read_settings


def serve(
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]", help="A bundle's folder, a folder of bundles, FOLDER@VERSION, or models:/NAME@ALIAS."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            show_default="127.0.0.1", help="The address to listen on; any but loopback needs MODELTRACE_API_KEY."
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(show_default="8000", help="The port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(show_default="1", help="Worker processes.")] = None,
    expect_sha256: Annotated[
        str | None, typer.Option(help="Refuse any bundle whose model.json has another SHA-256.")
    ] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Listen beyond this machine without an API key.")
    ] = None,
    trust_pickle: Annotated[
        bool | None, typer.Option("--trust-pickle", help="Load joblib or pickle, which can run any code.")
    ] = None,
) -> None:
    """Serve a bundle over HTTP and send its telemetry over OTLP.

    Of a folder of bundles the highest version is served, a pre-release only when it is named: FOLDER@VERSION.
    models:/NAME@ALIAS and models:/NAME/NUMBER are in the MLflow registry that MLFLOW_TRACKING_URI or
    MLFLOW_REGISTRY_URI names.

    Every option is a setting, too (MODELTRACE_PORT, …); docs/settings.md lists all of them, and OpenTelemetry's own
    variables, which decide where telemetry goes.

    Example: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 modeltrace serve my-bundle
    """
    settings = read_settings(
        bundle=bundle,
        host=host,
        port=port,
        workers=workers,
        expect_sha256=expect_sha256,
        trust_pickle=trust_pickle,
        insecure=insecure,
    )
    # Imported when the settings are right: it takes a second, and help does without it.
    run: Callable[[Settings], None] = import_object("modeltrace.server:serve")
    run(settings)
