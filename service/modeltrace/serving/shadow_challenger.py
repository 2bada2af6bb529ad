"""Build the challenger that receives shadow requests."""

from functools import partial

from opentelemetry.trace import SpanKind

from modeltrace.serving.router import ModelRouter
from modeltrace.serving.shadow_queue import Challenger, LocalChallenger
from modeltrace.settings import Settings
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.providers import SidecarPipeline
from modeltrace.telemetry.sdk.recorder import SDKRecorder


def build_challenger(
    settings: Settings,
    model_router: ModelRouter,
    pipeline: SidecarPipeline | None,
    recorder: SDKRecorder,
    catalog: ModelCatalog,
) -> Challenger:
    """Return the challenger that receives shadow requests: another service, or the challenger in this process."""
    url = settings.remote_challenger_url()
    if url is None:
        if pipeline:
            return LocalChallenger(model_router, pipeline.record_shadow, pipeline.queue.enqueue_batch)
        return LocalChallenger(model_router, recorder.record_shadow, recorder.record_batch)
    from modeltrace.serving.remote_challenger import RemoteChallenger  # noqa: PLC0415  only this needs an HTTP client

    secret = settings.challenger_api_key
    api_key = secret.get_secret_value() if secret else None
    if pipeline:
        return RemoteChallenger(url, pipeline.record_shadow, catalog.redact_rows, api_key=api_key)
    # The SDK recorder has redacted the rows before it passes them on.
    start_shadow = partial(recorder.record_shadow, kind=SpanKind.CLIENT)
    return RemoteChallenger(url, start_shadow, lambda _, rows: rows, api_key=api_key)
