"""What `/api/models` says of telemetry that a hub has taken in."""

from typing import Any

import httpx

from tests.browser.models import Feature, ModelService
from tests.browser.telemetry import Sender
from tests.hub.conftest import LiveHub

FEATURES = (Feature("age", shift=1.0), Feature("salary"), Feature("city", ("bern", "basel")))


def service(hub: LiveHub, name: str, instance: str = "1", **fields: Any) -> ModelService:
    """A service that sends to the hub."""
    sender = Sender(f"http://127.0.0.1:{hub.settings.http_port}", instance=instance)
    return ModelService(sender, name, **{"features": FEATURES, **fields})


def ask(hub: LiveHub, path: str, **parameters: str) -> Any:
    """The answer to a call."""
    answer = httpx.get(f"{hub.page}/api/{path}", params=parameters, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def version(hub: LiveHub, name: str, **parameters: str) -> Any:
    """The figures of a model with one version."""
    (found,) = ask(hub, f"models/{name}", **parameters)["versions"]
    return found


def test_nothing_is_no_model(hub: LiveHub) -> None:
    """A hub that has heard of no model says so, and does not know one by name."""
    assert ask(hub, "models", window="15m")["models"] == []
    answer = httpx.get(f"{hub.page}/api/models/none")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")


def test_counts_of_instances_add_up(hub: LiveHub) -> None:
    """Two workers that count apart are one model with the predictions of both."""
    for instance in "12":
        one = service(hub, "added", instance)
        one.predict(30)
        one.export()
        one.predict(12)
        one.export()

    found = version(hub, "added")

    assert (found["predictions"]["count"], sum(found["predictions"]["labels"].values())) == (84, 84)
    assert sum(sum(step["labels"].values()) for step in found["predictions"]["steps"]) == 84
    assert (found["instances"], sum(found["confidence"]["counts"])) == (2, 84)


def test_a_feature_that_moved_drifts(hub: LiveHub) -> None:
    """One whose values moved by a deviation is said to drift, the others not; it stands first."""
    one = service(hub, "moved")
    one.begin()
    one.predict(1000)
    one.export()

    found = version(hub, "moved")

    states = {feature["feature"]: feature["state"] for feature in found["features"]}
    assert states == {"age": "drift", "salary": "ok", "city": "ok"}
    assert found["features"][0]["feature"] == "age"
    assert found["features"][0]["statistics"]["psi"]["value"] > 0.5
    assert found["answers"]["state"] == "ok"
