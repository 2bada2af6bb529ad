"""Serve the metrics of the hub at `/internal/metrics`. `/metrics` is the page of the metrics that the hub received."""

from fastapi import APIRouter
from fastapi.responses import Response

from modeltrace_hub.hub_metrics.definitions import collect_metrics
from modeltrace_hub.store import Store
from modeltrace_hub.writer import Writer


def hub_metrics_router(store: Store, writer: Writer) -> APIRouter:
    """Return the route."""
    router = APIRouter()

    @router.get("/internal/metrics", response_class=Response, include_in_schema=False)
    def internal_metrics() -> Response:
        """Return the metrics of the hub as Prometheus text."""
        from modeltrace_hub.hub_metrics.prometheus import CONTENT_TYPE, render_text  # noqa: PLC0415  few hubs are scraped

        return Response(render_text(collect_metrics(store, writer)), media_type=CONTENT_TYPE)

    return router
