"""`GET /docs`: what it loads is named relative to it, so that it works wherever a proxy publishes the service."""

from html import escape

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

# Where `fastapi_offline` serves what the page needs.
STATIC_PATH = "static-offline-docs"


def documentation_routes(app: FastAPI) -> APIRouter:
    """Return the route of the page that describes an application."""
    router = APIRouter()

    @router.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            # The title is that of the version that is served now; FastAPI writes it into the page as it stands.
            title=escape(f"{app.openapi()['info']['title']} - Swagger UI"),
            swagger_js_url=f"{STATIC_PATH}/swagger-ui-bundle.js",
            swagger_css_url=f"{STATIC_PATH}/swagger-ui.css",
            swagger_favicon_url=f"{STATIC_PATH}/favicon.png",
        )

    return router
