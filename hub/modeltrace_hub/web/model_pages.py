"""Serve the pages about models: the metrics of each model, and the predictions behind a number."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from modeltrace_hub.queries.list_parameters import MAX_ROW_INDEX
from modeltrace_hub.queries.model_parameters import DEFAULT_WINDOW, ModelPageView, PredictionFilter, Window
from modeltrace_hub.queries.model_schema import OUTPUT, Feature, read_schema
from modeltrace_hub.queries.models import read_models
from modeltrace_hub.queries.predictions import read_predictions
from modeltrace_hub.queries.quality import read_quality, step_names
from modeltrace_hub.queries.reader import Queries, Reader, Record
from modeltrace_hub.queries.spooled import describe_spooled_items
from modeltrace_hub.query_limits import QueryLimits
from modeltrace_hub.web.filter_form import move_to_line, parse_filters
from modeltrace_hub.web.model_charts import Link, bin_label, draw_bins, draw_confidence, draw_traffic, output_colours
from modeltrace_hub.web.model_links import difference_query, explain_query, prediction_link
from modeltrace_hub.web.quality_charts import draw_quality
from modeltrace_hub.web.rendering import Renderer
from modeltrace_hub.web.time_range import PARAMETERS

# Unless all features are requested, the page shows the drifting features, and fills up with others to this number.
MAX_FEATURES: Final = 12
# The page shows this many versions side by side; the table compares all.
MAX_VERSIONS: Final = 4
# Predictions of several models have a link to the explanation of each, up to this number.
MAX_EXPLAINED_MODELS: Final = 8


class ModelPages:
    """The routes of the pages about models."""

    def __init__(self, renderer: Renderer, queries: Queries, limits: QueryLimits) -> None:
        self._renderer = renderer
        self._queries = queries
        self._limits = limits

    def router(self) -> APIRouter:
        """Return the routes. They run in worker threads, because queries block."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/models", self._limits.expensive(self._models))
        router.add_api_route("/predictions", self._limits.expensive(self._predictions))
        return router

    def _models(self, request: Request, view: Annotated[ModelPageView, Query()]) -> Response:
        return self._renderer.respond(request, partial(self._render_models, request, view))

    def _render_models(self, request: Request, view: ModelPageView) -> Response:
        window = view.current_window()
        with self._queries.open_reader() as reader:
            models = [_model_context(reader, model, view, window) for model in read_models(reader, window, view.model)]
            # The charts read all predictions of a model, so only the page of one model has them.
            quality = read_quality(reader, view.model, window, view.over) if view.model and models else None
            spooled = "" if quality is None else describe_spooled_items(reader, ["logs"])
        if quality is not None:
            _add_charts(models[0], quality, spooled)
        return self._renderer.render(
            request,
            "models.html",
            "/models",
            view=view,
            window=window,
            default_window=DEFAULT_WINDOW,
            kept={
                name: value
                for name, value in request.query_params.items()
                if name in {"model", "over", "all"} and value
            },
            over=quality["over"] if quality else None,
            over_queries={name: urlencode(dict(request.query_params) | {"over": name}) for name in step_names(window)},
            models=models,
        )

    def _predictions(self, request: Request) -> Response:
        pairs = [(key, value) for key, value in request.query_params.multi_items() if value]
        filters, problem = parse_filters(PredictionFilter, pairs)
        # Model and version stay parameters: they select the training data with which the page compares values.
        moved = move_to_line(PredictionFilter, filters.field_set, pairs, excluded=("model", "version"))
        if moved is not None:
            return RedirectResponse(f"predictions?{urlencode(moved)}", status_code=303)
        parameters = dict(pairs)
        with self._queries.open_reader() as reader:
            result = read_predictions(reader, filters)
            schema = read_schema(reader, filters.model, filters.version) if filters.model and filters.bin else {}
        feature = schema.get(filters.feature or OUTPUT)
        # An explanation is about one model: the features of others differ.
        models = [filters.model] if filters.model else sorted({item.get("model") or "" for item in result["items"]})
        return self._renderer.render(
            request,
            "predictions.html",
            "/models",
            422 if problem else 200,
            filters=filters,
            field_set=filters.field_set,
            problem=problem,
            parameters=parameters,
            kept=tuple(name for name in parameters if name not in {"filter", *PARAMETERS}),
            query_without=lambda *keys: urlencode({key: value for key, value in parameters.items() if key not in keys}),
            bin_label=bin_label(filters.bin, feature) if filters.bin else None,
            explain_queries={
                model: explain_query({**parameters, "model": model})
                for model in models[:MAX_EXPLAINED_MODELS]
                if model and filters.kind != "violations"
            },
            max_row=MAX_ROW_INDEX,
            **result,
        )


def _model_context(reader: Reader, model: Record, view: ModelPageView, window: Window) -> Record:
    """Return a model with its charts."""
    versions = model["versions"]
    outputs = {output for version in versions for output in version["predictions"]["outputs"]}
    colours = output_colours(outputs, binned=any(version["predictions"]["binned"] for version in versions))
    max_count = max(
        (sum(step["outputs"].values()) for version in versions for step in version["predictions"]["steps"]), default=0.0
    )
    has_confidence = False
    for version, previous in zip(versions, [*versions[1:], None], strict=True):
        version["compared_with"] = previous and previous["version"]
        version["difference_query"] = difference_query(model["name"], version, previous, window)
    for version in versions[:MAX_VERSIONS]:
        link = prediction_link(model["name"], version["version"], window)
        schema = read_schema(reader, model["name"], version["version"], version["hash"])
        version["link"] = link
        version["output_labels"] = {
            output: bin_label(output, schema.get(OUTPUT))
            for output in [*version["predictions"]["outputs"], *(bin_["bin"] for bin_ in _output_bins(version))]
        }
        version["traffic"] = draw_traffic(
            version["predictions"], colours, version["output_labels"], link, max_count=max_count or 1.0
        )
        is_regressor = version["predictions"]["binned"] or any(bin_["ordered"] for bin_ in _output_bins(version))
        has_confidence = has_confidence or not is_regressor
        if (confidence := version["confidence"]) is not None and sum(confidence["counts"]):
            version["confidence_chart"] = draw_confidence(confidence, link)
        features = _sort_by_importance(version["features"], schema)
        version["features"] = features
        version["importances"] = {name: feature.importance for name, feature in schema.items()}
        version["has_importance"] = any(value is not None for value in version["importances"].values())
        drifting = sum(feature["state"] == "drift" for feature in features)
        version["shown_features"] = [
            (feature, draw_bins(feature, schema.get(feature["feature"]), _feature_link(link, feature["feature"])))
            for feature in (features if view.all else features[: max(drifting, MAX_FEATURES)])
        ]
        if version["output"]:
            version["output_chart"] = draw_bins(version["output"], schema.get(OUTPUT), _output_link(version))
    return {
        **model,
        "compared_versions": versions,
        "versions": versions[:MAX_VERSIONS],
        "colours": colours,
        "max_count": max_count,
        # Regressors have none.
        "has_confidence": has_confidence,
    }


def _sort_by_importance(features: list[Record], schema: Mapping[str, Feature]) -> list[Record]:
    """Sort features: those in drift first, then by PSI, weighted with the importance for the model if it is known."""
    if all(feature.importance is None for feature in schema.values()):
        return features

    def weighted(item: Record) -> float:
        described = schema.get(item["feature"])
        psi = item["statistics"].get("psi", {}).get("value")
        return (psi or 0.0) * ((described.importance if described else None) or 0.0)

    return sorted(features, key=lambda item: (item["state"] != "drift", -weighted(item)))


def _add_charts(model: Record, quality: Record, spooled: str) -> None:
    """Add the charts of labelled predictions to the shown versions of a model."""
    for version in model["versions"]:
        # Models can have the same version although the metrics name one only: one replaced the other in the window.
        figures = [
            item
            for item in quality["versions"]
            if item["version"] == version["version"] and version["hash"] in {None, item["hash"]}
        ]
        version["quality_charts"] = [
            draw_quality(item, quality["over"], quality["step_ns"], version["link"], spooled)
            for item in figures or [None]
        ]


def _output_bins(version: Record) -> list[Record]:
    """Return the bins of the output; empty without a reference."""
    return version["output"]["bins"] if version["output"] else []


def _feature_link(link: Link, feature: str) -> Link:
    return lambda bin: link(feature=feature, bin=bin)  # noqa: A006  the parameter's name in the address


def _output_link(version: Record) -> Link:
    link, key = version["link"], "bin" if version["predictions"]["binned"] else "label"
    return lambda bin: link(**{key: bin})  # noqa: A006  as above
