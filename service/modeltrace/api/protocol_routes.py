"""Paths of inference protocols of other servers: requests for predictions, and descriptions of server and models."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, Final, NamedTuple

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from modeltrace.api.predict import Handler
from modeltrace.api.protocol_handlers import ProtocolHandlers
from modeltrace.api.protocol_openapi import MODEL_NAME, MODEL_VERSION, OPEN_INFERENCE, V1, describe_get
from modeltrace.api.responses import TypedBody, current_trace_id, encoded_response
from modeltrace.errors import UnknownModelError
from modeltrace.protocols.open_inference import EXTENSIONS, describe_model
from modeltrace.serving.router import ModelRouter
from modeltrace.telemetry.records.trace import RequestTrace

INFER: Final = "/v2/models/{name}/infer"
INFER_VERSION: Final = "/v2/models/{name}/versions/{version}/infer"
PREDICT_VERB: Final = ":predict"
PREDICT_V1: Final = f"/v1/models/{{name}}{PREDICT_VERB}"
INVOCATIONS: Final = "/invocations"


class Endpoint(NamedTuple):
    """The handler of a path, and the template of the path."""

    route: str
    handler: Handler


class ProtocolRoutes:
    """Finds the handlers of POST requests."""

    def __init__(self, handlers: ProtocolHandlers) -> None:
        self._routes: list[tuple[re.Pattern[str], str, Callable[..., Awaitable[bytes | TypedBody]]]] = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route)), route, handler)
            for route, handler in (
                (INFER, handlers.infer),
                (INFER_VERSION, handlers.infer),
                (PREDICT_V1, handlers.predict_v1),
                (INVOCATIONS, handlers.invocations),
            )
        ]

    def find(self, path: str) -> Endpoint | None:
        """Return the endpoint of a path; `None` if it has none."""
        for pattern, route, handler in self._routes:
            if match := pattern.fullmatch(path):
                return Endpoint(route, partial(handler, **match.groupdict()))
        return None

    async def handle(self, body: bytes, trace: RequestTrace) -> bytes | TypedBody:
        """Answer a request with the handler of its path."""
        endpoint = self.find(trace.http.path.removeprefix(trace.http.root_path))
        if endpoint is None:
            raise UnknownModelError("the path names no model")
        return await endpoint.handler(body, trace)


def description_routes(model_router: ModelRouter) -> APIRouter:
    """Return the routes that describe the server and its models."""
    router = APIRouter()
    _add_open_inference(router, model_router)
    _add_kserve(router, model_router)
    _add_mlflow(router)
    return router


def _add_open_inference(router: APIRouter, model_router: ModelRouter) -> None:
    @router.get("/v2", **describe_get(OPEN_INFERENCE, "Server metadata"))
    async def describe_server() -> Response:
        return _json({"name": "modeltrace", "version": version("modeltrace"), "extensions": EXTENSIONS})

    @router.get("/v2/health/live", **describe_get(OPEN_INFERENCE, "Server live"))
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @router.get("/v2/health/ready", **describe_get(OPEN_INFERENCE, "Server ready"))
    async def ready() -> JSONResponse:
        return JSONResponse({"ready": True})

    async def describe(request: Request) -> Response:
        found = model_router.find(**request.path_params).model
        versions = [served.model for served in model_router.answering_versions()]
        return _json(describe_model(found, [served.version for served in versions if served.name == found.name]))

    async def model_ready(request: Request) -> Response:
        return _json({"name": model_router.find(**request.path_params).model.name, "ready": True})

    for path, parameters in (
        ("/v2/models/{name}", [MODEL_NAME]),
        ("/v2/models/{name}/versions/{version}", [MODEL_NAME, MODEL_VERSION]),
    ):
        metadata = describe_get(OPEN_INFERENCE, "Model metadata", parameters)
        router.add_api_route(path, describe, methods=["GET"], **metadata)
        readiness = describe_get(OPEN_INFERENCE, "Model ready", parameters)
        router.add_api_route(f"{path}/ready", model_ready, methods=["GET"], **readiness)


def _add_kserve(router: APIRouter, model_router: ModelRouter) -> None:
    @router.get("/v1/models", **describe_get(V1, "Names of the models"))
    async def list_models() -> Response:
        return _json({"models": sorted({served.model.name for served in model_router.answering_versions()})})

    @router.get("/v1/models/{name}", **describe_get(V1, "Model ready", [MODEL_NAME]))
    async def ready_v1(request: Request) -> Response:
        name: str = request.path_params["name"]
        try:
            model = model_router.find(name).model
        except UnknownModelError:
            if name.endswith(PREDICT_VERB):  # the path of predictions, which this route matches, too
                raise HTTPException(405, headers={"Allow": "POST"}) from None
            raise
        return _json({"name": model.name, "ready": True})


def _add_mlflow(router: APIRouter) -> None:
    text: dict[str, Any] = {"response_class": PlainTextResponse}

    async def ping() -> PlainTextResponse:
        return PlainTextResponse("\n")

    for path in ("/ping", "/health"):
        router.add_api_route(path, ping, methods=["GET"], **text, **describe_get("mlflow", "Liveness probe"))

    @router.get("/version", **text, **describe_get("mlflow", "Version of this service"))
    async def show_version() -> PlainTextResponse:
        return PlainTextResponse(version("modeltrace"))


def _json(payload: Mapping[str, Any]) -> Response:
    return encoded_response(orjson.dumps(payload), current_trace_id())
