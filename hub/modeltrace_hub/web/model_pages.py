"""The pages about models: what is known of each, and the predictions behind every figure."""

from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError

from modeltrace_hub.queries.filters import MOST_ROW
from modeltrace_hub.queries.model_schema import ANSWERS, read_schema
from modeltrace_hub.queries.models import read_models
from modeltrace_hub.queries.predictions import read_predictions
from modeltrace_hub.queries.queries import Queries, Reader, Record
from modeltrace_hub.queries.windows import CHOICES, DEFAULT, ModelView, PredictionFilter, Window
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.model_charts import draw_bins, draw_confidence, draw_traffic, name_bin
from modeltrace_hub.web.rendering import Renderer, first_problem

# Features that are shown unless all are asked for: those that drift, and the next ones up to this many.
MOST_FEATURES: Final = 12
# Versions that are drawn side by side; the table compares all.
MOST_VERSIONS: Final = 4
MOST_VIOLATIONS: Final = 8


class ModelPages:
    """The routes of these pages."""

    def __init__(self, renderer: Renderer, queries: Queries) -> None:
        self._renderer = renderer
        self._queries = queries

    def router(self) -> APIRouter:
        """The routes; they run on worker threads, since the database makes them wait."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/models", self._models)
        router.add_api_route("/predictions", self._predictions)
        return router

    def _models(self, request: Request) -> Response:
        try:
            view = ModelView.model_validate(dict(request.query_params))
        except ValidationError as error:
            return self._renderer.error(request, 422, first_problem(error))
        if (unchanged := self._renderer.unchanged(request)) is not None:
            return unchanged
        etag = self._renderer.etag()
        window = view.now()
        with self._queries.ask() as reader:
            models = [_shown(reader, model, view, window) for model in read_models(reader, window, view.model)]
        asked = request.query_params.get("window") or DEFAULT
        return self._renderer.render(
            request,
            "models.html",
            "/models",
            200,
            etag,
            view=view,
            window=window,
            asked=asked,
            choices=CHOICES,
            models=models,
        )

    def _predictions(self, request: Request) -> Response:
        given = {key: value for key, value in request.query_params.items() if value}
        try:
            asked = PredictionFilter.model_validate(given)
        except ValidationError as error:
            return self._renderer.error(request, 422, first_problem(error))
        with self._queries.ask() as reader:
            answer = read_predictions(reader, asked)
            schema = read_schema(reader, asked.model, asked.version) if asked.model and asked.bin else {}
        feature = schema.get(asked.feature or ANSWERS)
        return self._renderer.render(
            request,
            "predictions.html",
            "/models",
            asked=asked,
            given=given,
            without=lambda *keys: urlencode({key: value for key, value in given.items() if key not in keys}),
            bin_name=name_bin(asked.bin, feature) if asked.bin else None,
            most_row=MOST_ROW,
            **answer,
        )


def _shown(reader: Reader, model: Record, view: ModelView, window: Window) -> Record:
    """A model with all that its template draws."""
    versions = model["versions"]
    labels = {label for version in versions for label in version["predictions"]["labels"]}
    hues = fmt.hues(labels)
    most = max(
        (sum(step["labels"].values()) for version in versions for step in version["predictions"]["steps"]), default=0.0
    )
    for version in versions[:MOST_VERSIONS]:
        link = _links(model["name"], version["version"], window)
        schema = read_schema(reader, model["name"], version["version"])
        version["link"] = link
        version["names"] = {label: name_bin(label, schema.get(ANSWERS)) for label in version["predictions"]["labels"]}
        version["traffic"] = draw_traffic(version["predictions"], hues, link, most=most or 1.0)
        if (confidence := version["confidence"]) is not None and sum(confidence["counts"]):
            version["confidence_chart"] = draw_confidence(confidence, link)
        features = version["features"]
        urgent = sum(one["state"] == "drift" for one in features)
        shown = features if view.all else features[: max(urgent, MOST_FEATURES)]
        version["shown"] = [
            (one, draw_bins(one, schema.get(one["feature"]), _bins_link(link, one["feature"]))) for one in shown
        ]
        if version["answers"]:
            version["answers_chart"] = draw_bins(version["answers"], schema.get(ANSWERS), _answers_link(version))
    return {
        **model,
        "compared": versions,
        "versions": versions[:MOST_VERSIONS],
        "labels": sorted(labels),
        "hues": hues,
        "most": most,
    }


def _links(model: str, version: str, window: Window) -> Any:  # noqa: ANN401  a function
    """What makes the address of the predictions behind a figure of a version."""

    def link(**which: Any) -> str:  # noqa: ANN401  parameters of the page
        since = which.pop("since_ns", window.since_ns)
        until = which.pop("until_ns", window.until_ns)
        wanted = {name: value for name, value in which.items() if value is not None}
        named = {"model": model, **({"version": version} if version else {})}
        return f"predictions?{urlencode({**named, **wanted, 'since': _seconds(since), 'until': _seconds(until)})}"

    return link


def _bins_link(link: Any, feature: str) -> Any:  # noqa: ANN401  functions
    return lambda bin: link(feature=feature, bin=bin)  # noqa: A006  the parameter's name in the address


def _answers_link(version: Record) -> Any:  # noqa: ANN401  functions
    link, key = version["link"], "bin" if version["predictions"]["binned"] else "label"
    return lambda bin: link(**{key: bin})  # noqa: A006  as above


def _seconds(ns: int) -> str:
    """Unix seconds as an address has them."""
    whole, rest = divmod(ns, 10**9)
    return f"{whole}.{rest:09d}" if rest else str(whole)
