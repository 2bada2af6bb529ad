"""`GET /model`, `/healthz`, `/readyz`, `/metrics`. The last three are polled by machines and create no spans."""

from threading import Lock

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from modeltrace.api.responses import error_payload, json_response
from modeltrace.serving.router import ModelRouter

# Probes of this service, of the Open Inference Protocol and of MLflow
PROBE_PATHS = ("healthz", "readyz", "v2/health/live", "v2/health/ready", "ping", "health")
UNTRACED_PATHS = (*PROBE_PATHS, "metrics")


def health_routes(model_router: ModelRouter, registry: CollectorRegistry | None) -> APIRouter:
    """Return the routes; `registry` has the metrics of `/metrics`, `None` if the Prometheus exporter is disabled."""
    router = APIRouter(tags=["service"])
    scrape_lock = Lock()  # two scrapes at the same time would take each other's metrics from the SDK's collector

    @router.get("/model", summary="Name, version and feature schema of the model")
    async def describe_model() -> Response:
        return json_response(model_router.describe())

    @router.get("/healthz", summary="Liveness probe")
    async def live() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", summary="Readiness probe")
    async def ready() -> JSONResponse:
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", summary="Metrics in the Prometheus text format", response_class=Response)
    def metrics() -> Response:
        if registry is None:
            message = "disabled; enable it with OTEL_METRICS_EXPORTER=otlp,prometheus"
            return json_response(error_payload("not_implemented", message), status=501)
        with scrape_lock:
            text = generate_latest(registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return router
