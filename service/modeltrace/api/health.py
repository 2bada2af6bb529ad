"""`GET /model`, `/healthz`, `/readyz`, `/metrics`. The last three are asked by machines, often, and make no spans."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from modeltrace.api.responses import error_payload, json_response
from modeltrace.serving.router import ModelRouter

UNTRACED_PATHS = ("healthz", "readyz", "metrics")


def health_routes(serving: ModelRouter, registry: CollectorRegistry | None, *, workers: int) -> APIRouter:
    """What is served, and whether it is well. `registry` is what `/metrics` shows; `None` when that is switched off."""
    router = APIRouter(tags=["service"])

    @router.get("/model", summary="What is served: name, version, feature schema")
    async def describe_model() -> Response:
        return json_response(serving.describe())

    @router.get("/healthz", summary="Live")
    async def live() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", summary="Ready to predict")
    async def ready() -> JSONResponse:
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", summary="The metrics as Prometheus text", response_class=Response)
    def metrics() -> Response:
        if workers > 1:
            return _not_here(
                f"{workers} workers serve this port and a scrape would reach one of them; "
                "take the metrics over OTLP (OTEL_EXPORTER_OTLP_ENDPOINT), where every worker's arrive and add up"
            )
        if registry is None:
            return _not_here("switched off; OTEL_METRICS_EXPORTER=otlp,prometheus switches it on")
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _not_here(message: str) -> Response:
    return json_response(error_payload("not_implemented", message), status=501)
