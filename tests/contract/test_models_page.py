"""The hub's page of models shows the counts of a running service, with links to the predictions behind them."""

import re
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from tests.helpers.hubs import running_hub
from tests.helpers.processes import wait_until
from tests.helpers.services import running_service

pytestmark = [pytest.mark.slow, pytest.mark.extended]
Rows = list[dict[str, float]]


@pytest.fixture
def hub() -> Iterator[tuple[str, str]]:
    """A hub for one test: the URLs of its pages and of OTLP."""
    with running_hub() as hub:
        yield hub.page_url, hub.otlp_url


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_with_traffic_is_on_the_page_of_models(
    bundle: Path, hub: tuple[str, str], rows: Rows, tmp_path: Path, workers: str
) -> None:
    """Counts by label, bin, confidence, violation and true label equal the requests, for one and two workers."""
    page, otlp = hub
    store = f"sqlite:///{tmp_path}/predictions.db"
    with running_service(bundle, otlp, "--workers", workers, MODELTRACE_STORE=store) as (_, url):
        answers = [post(url, "/predict", {"features": row}) for row in rows[:60]]
        refused = httpx.post(f"{url}/predict", json={"features": {**rows[0], "mean_radius": "wide"}}, timeout=30)
        assert refused.status_code == 422
        wrong = answers[0]
        truth = next(label for label in ("benign", "malignant") if label != wrong["label"])
        post(url, "/feedback", {"prediction_id": wrong["prediction_id"], "label": truth})

        def figures() -> dict[str, Any] | None:
            answer = httpx.get(f"{page}/api/models/breast-cancer", params={"window": "15m"}, timeout=30)
            (shown,) = answer.json()["versions"] if answer.status_code == 200 else [None]
            complete = (
                shown and shown["predictions"]["count"] == 60 and shown["feedback"]["count"] and shown["violations"]
            )
            return shown if complete else None

        shown = wait_until(figures, description="the figures of 60 predictions")

    assert shown["predictions"]["outputs"] == dict(sorted(Counter(answer["label"] for answer in answers).items()))
    assert sum(shown["confidence"]["counts"]) == 60
    assert {sum(part["observed"] for part in feature["bins"]) for feature in shown["features"]} == {60}
    assert {feature["state"] for feature in shown["features"]} == {"not enough data"}
    assert shown["violations"] == [{"feature": "mean_radius", "reason": "type", "count": 1, "allowed": 0}]
    assert shown["feedback"]["confusion"] == [{"true_label": truth, "predicted_label": wrong["label"], "count": 1}]

    params = {"model": "breast-cancer", "outcome": "incorrect"}
    incorrect = httpx.get(f"{page}/api/predictions", params=params, timeout=30).json()["items"]
    assert [prediction["trace_id"] for prediction in incorrect] == [wrong["trace_id"]]
    html = httpx.get(f"{page}/t/{wrong['trace_id']}", timeout=30).text
    assert "and their position in the training data" in html
    assert f"True label <strong>{truth}</strong>" in html


def test_a_regressors_bins_and_errors_lead_to_its_predictions(hub: tuple[str, str], tmp_path: Path) -> None:
    """Values are counted by the bins of the training targets; errors equal those of numpy and of the bundle."""
    page, otlp = hub
    data, target = load_diabetes(return_X_y=True, as_frame=True)
    bundle = pack(Ridge().fit(data, target), data, target, name="progression", out=tmp_path / "progression")
    manifest, _ = read_manifest(bundle)
    answers, held_out = manifest.output_reference, manifest.held_out
    assert answers
    assert answers.edges
    assert held_out
    assert held_out.mean_absolute_error is not None
    env: Any = {"MODELTRACE_STORE": f"sqlite:///{tmp_path}/predictions.db", "MODELTRACE_EVALUATION_INTERVAL": "0.5"}
    with running_service(bundle, otlp, **env) as (_, url):
        predictions = [post(url, "/predict", {"features": row}) for row in data[:60].to_dict(orient="records")]
        for prediction, truth in zip(predictions, target, strict=False):
            post(url, "/feedback", {"prediction_id": prediction["prediction_id"], "label": truth})

        def figures() -> dict[str, Any] | None:
            answer = httpx.get(f"{page}/api/models/progression", params={"window": "15m"}, timeout=30)
            (shown,) = answer.json()["versions"] if answer.status_code == 200 else [None]
            complete = shown and shown["predictions"]["count"] == shown["feedback"]["count"] == 60
            return shown if complete and shown["evaluation"] and shown["evaluation"].get("labels") == 60 else None

        shown = wait_until(figures, description="the figures of 60 labelled predictions")

    bins = Counter(f"{np.searchsorted(answers.edges, prediction['value']):02d}" for prediction in predictions)
    assert shown["predictions"]["outputs"] == dict(sorted(bins.items()))
    assert {part["bin"]: part["observed"] for part in shown["output"]["bins"] if part["observed"]} == bins
    assert shown["confidence"] is None
    errors = [abs(prediction["value"] - truth) for prediction, truth in zip(predictions, target, strict=False)]
    evaluation = shown["evaluation"]
    assert evaluation["absolute_error"]["0.5"] == pytest.approx(np.median(errors), rel=1e-9)
    assert evaluation["baseline"]["error"] == pytest.approx(held_out.mean_absolute_error, rel=1e-9)
    assert evaluation["baseline"]["increase"] == pytest.approx(np.mean(errors) - held_out.mean_absolute_error, abs=1e-9)
    assert evaluation["period"]["until_ns"] - evaluation["period"]["since_ns"] == pytest.approx(7 * 86400e9, rel=1e-9)
    assert sum(shown["feedback"]["errors"]["counts"]) == 60

    html = httpx.get(f"{page}/models", params={"model": "progression", "window": "15m", "all": "true"}, timeout=30).text
    links = {unescape(link) for link in re.findall(r'href="(predictions\?[^"]*)"', html)}
    behind = {link: httpx.get(f"{page}/api/{link}&limit=100", timeout=30).json()["items"] for link in links}
    of_bins = {(params.get("feature"), params["bin"]): link for link in links if "bin" in (params := query(link))}
    linked = Counter({key: len(behind[link]) for key, link in of_bins.items()})
    counted = {(of["feature"], part["bin"]): part["observed"] for of in shown["features"] for part in of["bins"]}
    answered = {(None, part["bin"]): part["observed"] for part in shown["output"]["bins"]}
    assert linked == Counter(counted | answered)
    assert [len(behind[link]) for link in links if query(link).get("outcome") == "labelled"] == [60]


def query(link: str) -> dict[str, str]:
    """Return the query parameters of a link."""
    return dict(parse_qsl(urlsplit(link).query))


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send a request, which must succeed, and return the response."""
    answer = httpx.post(f"{url}{path}", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    answered: dict[str, Any] = answer.json()
    return answered
