"""`GET /docs`. The page loads its files by relative URLs, so it works below any path of a proxy."""

from html import escape

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

# Path of the static files that `fastapi_offline` serves.
STATIC_PATH = "static-offline-docs"


def documentation_routes(app: FastAPI) -> APIRouter:
    """Return the route of the documentation page of an application."""
    router = APIRouter()

    @router.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            # The title names the current model version. FastAPI does not escape it.
            title=escape(f"{app.openapi()['info']['title']} - Swagger UI"),
            swagger_js_url=f"{STATIC_PATH}/swagger-ui-bundle.js",
            swagger_css_url=f"{STATIC_PATH}/swagger-ui.css",
            swagger_favicon_url=f"{STATIC_PATH}/favicon.png",
        )

    return router
