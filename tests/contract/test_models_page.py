"""What a live service counted is what the hub's page of models shows, and every figure leads to the requests behind it."""

import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.backends import Hub
from tests.contract.conftest import live_service
from tests.helpers.processes import until

pytestmark = pytest.mark.slow
Rows = list[dict[str, float]]


def test_a_service_with_traffic_is_on_the_page_of_models(bundle: Path, hub: Hub, rows: Rows, tmp_path: Path) -> None:
    """Counts by label, bins, confidence, violations and labels are those of the requests."""
    name, store = f"modelled-{secrets.token_hex(4)}", f"sqlite:///{tmp_path}/predictions.db"
    with live_service(bundle, hub.otlp, OTEL_SERVICE_NAME=name, MODELTRACE_STORE=store) as (_, url):
        answers = [ask(url, "/predict", {"features": row}) for row in rows[:60]]
        refused = httpx.post(f"{url}/predict", json={"features": {**rows[0], "mean_radius": "wide"}}, timeout=30)
        assert refused.status_code == 422
        wrong = answers[0]
        truth = next(label for label in ("benign", "malignant") if label != wrong["label"])
        ask(url, "/feedback", {"prediction_id": wrong["prediction_id"], "label": truth})

        def figures() -> dict[str, Any] | None:
            found = httpx.get(f"{hub.page}/api/models/breast-cancer", params={"window": "15m"}, timeout=30)
            versions = found.json()["versions"] if found.status_code == 200 else []
            mine = [one for one in versions if name in one["services"]]
            if not mine or mine[0]["predictions"]["count"] < 60 or not mine[0]["feedback"]["count"]:
                return None
            return mine[0] if mine[0]["violations"] else None

        # The hub is shared: nobody else serves this model to it within these minutes.
        found = until(figures, seconds=60, what="the figures of 60 predictions")

        labels = [answer["label"] for answer in answers]
        assert found["predictions"]["count"] >= 60
        assert set(found["predictions"]["labels"]) >= set(labels)
        feature = next(one for one in found["features"] if one["feature"] == "mean_radius")
        assert sum(part["observed"] for part in feature["bins"]) == found["predictions"]["count"]
        assert feature["state"] in {"not enough data", "ok", "drift"}
        assert sum(found["confidence"]["counts"]) == found["predictions"]["count"]
        assert {"feature": "mean_radius", "reason": "type", "count": 1} in found["violations"]
        assert {"truth": truth, "predicted": wrong["label"], "count": 1} in found["feedback"]["confusion"]

        asked = {"model": "breast-cancer", "outcome": "wrong"}
        led = httpx.get(f"{hub.page}/api/predictions", params=asked, timeout=30)
        assert wrong["trace_id"] in {one["trace_id"] for one in led.json()["found"]}
        page = httpx.get(f"{hub.page}/t/{wrong['trace_id']}", timeout=30).text
        assert "marked on the training data" in page
        assert f"True label <strong>{truth}</strong>" in page


def ask(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request."""
    answer = httpx.post(f"{url}{path}", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
