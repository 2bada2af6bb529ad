"""What `/api/models` says of telemetry that a hub has taken in."""

import time
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from modeltrace_hub.queries.models import MOST_TWINS, _newest
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.metric_points import SECOND
from tests.helpers.model_features import Feature
from tests.helpers.model_telemetry import ModelService
from tests.helpers.otlp_sender import Sender

FEATURES = (Feature("age", shift=1.0), Feature("salary"), Feature("city", ("bern", "basel")))


def service(hub: InProcessHub, name: str, instance: str = "1", **fields: Any) -> ModelService:
    """A service that sends to the hub."""
    sender = Sender(f"http://127.0.0.1:{hub.settings.http_port}", instance=instance)
    return ModelService(sender, name, **{"features": FEATURES, **fields})


def ask(hub: InProcessHub, path: str, **parameters: str) -> Any:
    """The answer to a call."""
    answer = httpx.get(f"{hub.page}/api/{path}", params=parameters, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def version(hub: InProcessHub, name: str, **parameters: str) -> Any:
    """The figures of a model with one version."""
    (found,) = ask(hub, f"models/{name}", **parameters)["versions"]
    return found


def test_nothing_is_no_model(hub: InProcessHub) -> None:
    """A hub that has heard of no model says so, and does not know one by name."""
    assert ask(hub, "models", window="15m")["models"] == []
    answer = httpx.get(f"{hub.page}/api/models/none")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["org/churn", "a/b/c", "100 %", "ä?#"])
def test_any_name_can_stand_in_a_path(hub: InProcessHub, name: str) -> None:
    """A model is found by its name, percent-encoded, whatever is in it."""
    one = service(hub, name)
    one.predict(3)
    one.export()

    assert version(hub, quote(name, safe=""))["predictions"]["count"] == 3


def test_counts_of_instances_add_up(hub: InProcessHub) -> None:
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


def test_a_feature_that_moved_drifts(hub: InProcessHub) -> None:
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


def test_without_references_nothing_is_called_drift(hub: InProcessHub) -> None:
    """A service that says no thresholds, or none of its labels: figures are absent, not wrong."""
    one = service(hub, "bare")
    one.predict(300)
    one.export()

    found = version(hub, "bare")

    assert (found["features"], found["answers"]) == ([], None)
    assert (found["evaluation"], found["concept_drift"], found["feedback"]["count"]) == (None, None, 0)
    assert (found["confidence"]["threshold"], found["confidence"]["low_share"]) == (None, None)


def test_labels_make_a_table_of_true_and_answered(hub: InProcessHub) -> None:
    """Right and wrong ones are counted by arrival; what is published by time of prediction stands beside them."""
    one = service(hub, "labelled")
    traces = one.predict(4, recorded=4)
    for trace_id, truth in zip(traces, ("yes", "yes", "no", "yes"), strict=True):
        one.label(trace_id, "yes", truth)
    one.evaluate(accuracy=0.75, precision__yes=0.8, label_coverage=1.0, concept_drift_level=2)
    one.export()

    found = version(hub, "labelled")

    assert (found["feedback"]["count"], found["feedback"]["wrong"], found["feedback"]["accuracy"]) == (4, 1, 0.75)
    assert found["feedback"]["confusion"] == [
        {"truth": "no", "predicted": "yes", "count": 1},
        {"truth": "yes", "predicted": "yes", "count": 3},
    ]
    assert found["evaluation"]["accuracy"] == 0.75
    assert found["evaluation"]["classes"] == {"yes": {"precision": 0.8}}
    assert found["concept_drift"]["level"] == "drift"


def test_low_confidence_is_judged_by_its_limit(hub: InProcessHub) -> None:
    """Few unsure answers are fine, many are drift; of few predictions nothing is said."""
    states = {}
    for name, count, lowest in (("sure", 1000, 0.7), ("unsure", 1000, 0.0), ("hardly", 50, 0.0)):
        one = service(hub, name)
        one.begin()
        one.predict(count, lowest=lowest)
        one.export()
        states[name] = version(hub, name)["confidence"]["state"]

    assert states == {"sure": "ok", "unsure": "drift", "hardly": "not enough data"}


@pytest.mark.parametrize(("repeated", "expected"), [(600, None), (800, "rows repeat")])
def test_rows_that_repeat_are_no_drift(hub: InProcessHub, repeated: int, expected: str | None) -> None:
    """Beyond the service's limit the state says so, of features, answers and confidence; below it nothing changes."""
    name = f"again{repeated}"
    one = service(hub, name)
    one.begin()
    one.predict(1000, lowest=0.0)
    one.repeat(repeated, limit=0.7)
    one.export()
    found = version(hub, name)

    assert (found["repeated"]["count"], found["repeated"]["distinct"]) == (repeated, 1000 - repeated)
    assert found["repeated"]["repeat"] == (expected is not None)
    states = {feature["feature"]: feature["state"] for feature in found["features"]}
    assert states == {"age": expected or "drift", "salary": expected or "ok", "city": expected or "ok"}
    assert found["answers"]["state"] == (expected or "ok")
    assert found["confidence"]["state"] == (expected or "drift")
    page = httpx.get(f"{hub.page}/models", params={"model": name}).text
    assert ("distinct of 1,000" in page) == (expected is not None)


def test_two_models_of_one_version_are_not_added_up(hub: InProcessHub) -> None:
    """Each has figures of its own, by its hash, whichever processes serve it; the page shows both."""
    for instance, model_hash, count in (("1", "ab" * 32, 300), ("2", "ab" * 32, 30), ("3", "cd" * 32, 500)):
        one = service(hub, "twins", instance, hash=model_hash)
        one.begin()
        one.predict(count, lowest=0.0 if instance == "3" else 0.7)
        one.export()
    (model,) = [ask(hub, "models/twins")]

    found = {one["hash"]: one for one in model["versions"]}
    assert {key: one["predictions"]["count"] for key, one in found.items()} == {"ab" * 32: 330, "cd" * 32: 500}
    assert {key: one["instances"] for key, one in found.items()} == {"ab" * 32: 2, "cd" * 32: 1}
    assert {key: one["confidence"]["state"] for key, one in found.items()} == {"ab" * 32: "ok", "cd" * 32: "drift"}
    assert {one["features"][0]["n"] for one in found.values()} == {330, 500}
    page = httpx.get(f"{hub.page}/models", params={"model": "twins"}).text
    assert "Several models call themselves twins 1.0.0" in page
    assert page.count("cd" * 6) >= 1


def test_versions_are_in_order(hub: InProcessHub) -> None:
    """The highest version stands first, whichever was heard of last."""
    for number in ("1.10.0", "1.9.0", "2.0.0", "1.10.0-rc"):
        one = service(hub, "ordered", number, version=number)
        one.predict(1)
        one.export()

    (model,) = [one for one in ask(hub, "models")["models"] if one["name"] == "ordered"]

    assert [one["version"] for one in model["versions"]] == ["2.0.0", "1.10.0", "1.10.0-rc", "1.9.0"]


@pytest.mark.slow
def test_predictions_are_found_by_what_they_are(hub: InProcessHub) -> None:
    """By label, confidence, and the bin of a value: those that fit and no others."""
    one = service(hub, "found")
    one.begin()
    one.predict(40, recorded=40)
    asked = {"model": "found", "version": "1.0.0"}

    every = ask(hub, "predictions", **asked)["found"]
    yes = ask(hub, "predictions", **asked, label="yes")["found"]
    sure = ask(hub, "predictions", **asked, above="0.8", below="0.95")["found"]
    high = ask(hub, "predictions", **asked, feature="age", bin="09")
    bern = ask(hub, "predictions", **asked, feature="city", bin="bern")["found"]
    new = ask(hub, "predictions", **asked, feature="city", bin="other")["found"]

    assert len(every) == 40
    assert {found["trace_id"] for found in yes} == {found["trace_id"] for found in every if found["answer"] == "yes"}
    assert len(sure) == sum(0.8 < found["confidence"] <= 0.95 for found in every)
    assert {float(found["value"]) > 1.28 for found in high["found"]} == {True}
    assert (high["bin"]["low"], high["bin"]["high"]) == (1.28, None)
    assert {found["value"] for found in bern} == {"bern"}
    assert new == []


def test_the_newest_predictions_come_first_and_the_limit_is_said(hub: InProcessHub) -> None:
    """`whole` is false when there are more; a bad parameter is named."""
    one = service(hub, "limited")
    traces = one.predict(5, recorded=5)

    found = ask(hub, "predictions", model="limited", limit="2")

    assert [entry["trace_id"] for entry in found["found"]] == traces[:-3:-1]
    assert not found["whole"]
    assert ask(hub, "predictions", model="limited", limit="5")["whole"]
    refused = httpx.get(f"{hub.page}/api/predictions", params={"outcome": "perhaps"})
    assert (refused.status_code, refused.json()["error"]["parameter"]) == (422, "outcome")


@pytest.mark.parametrize("window", ["1s", "400d", "soon"])
def test_a_window_has_bounds(hub: InProcessHub, window: str) -> None:
    """From a minute to 31 days."""
    answer = httpx.get(f"{hub.page}/api/models", params={"window": window})

    assert (answer.status_code, answer.json()["error"]["parameter"]) == (422, "window")


def test_traffic_before_the_window_is_not_in_it(hub: InProcessHub) -> None:
    """The sum over a short window is what came in it, that over a long one all."""
    one = service(hub, "sliding")
    now = time.time_ns()
    one.predict(70)
    one.export(now - 40 * 60 * SECOND)
    one.predict(5)
    one.export(now)

    counts = {window: version(hub, "sliding", window=window)["predictions"]["count"] for window in ("15m", "1h")}

    assert counts == {"15m": 5, "1h": 75}


def test_what_was_let_through_is_no_second_observation(hub: InProcessHub) -> None:
    """A missing value that refused its row counts beside the observations; one that was let through is one of them."""
    shares = {}
    for name, action in (("refusing", "rejected"), ("letting", "counted")):
        one = service(hub, name)
        one.begin()
        one.predict(300)
        said = (("ml.feature.name", "age"), ("ml.data.violation.reason", "missing"))
        one.counts["ml.data.violations", (*one.said, *said, ("ml.data.violation.action", action))] += 100
        one.export()
        found = version(hub, name)
        shares[name] = [missing["share"] for missing in found["missing"]], found["violations"][0]["allowed"]

    assert shares == {"refusing": ([0.25], 0), "letting": ([], 100)}


@pytest.mark.slow
def test_a_feature_that_is_told_by_its_bin_is_found_by_it(hub: InProcessHub) -> None:
    """The record of a prediction has the name of the bin instead of the value."""
    one = service(hub, "bucket", features=[Feature("income", privacy="bucket")])
    one.begin()
    one.predict(40, recorded=40)

    found = ask(hub, "predictions", model="bucket", version="1.0.0", feature="income", bin="04")["found"]

    assert {entry["value"] for entry in found} == {"04"}


def test_a_label_is_no_prediction(hub: InProcessHub) -> None:
    """The trace that brought a label is counted among labels, not among the predictions that it speaks of."""
    one = service(hub, "brought")
    (trace_id,) = one.predict(1, recorded=1)
    brought = one.label(trace_id, "yes", "no")
    one.export()

    counted = {point["name"] for point in ask(hub, f"traces/{brought}")["metrics"]}

    assert "ml.feedback" in counted
    assert {name for name in counted if name.startswith("ml.prediction")} == set()


def test_of_many_models_of_one_version_the_newest_are_shown() -> None:
    """Each version keeps the one that was loaded last, and the questions about all of them stay few."""
    twins = {
        ("m", version): [{"hash": f"{version}-{number}", "loaded_ns": base - number} for number in range(MOST_TWINS)]
        for version, base in (("1", 1000), ("2", 500))
    }

    shown = _newest(twins)

    assert sum(map(len, shown.values())) == MOST_TWINS
    for version in ("1", "2"):
        kept = {twin["hash"] for twin in shown["m", version]}
        assert kept == {f"{version}-{number}" for number in range(MOST_TWINS // 2)}


def test_a_model_is_found_by_name_however_many_there_are(hub: InProcessHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on what is listed hides no model that is asked for."""
    monkeypatch.setattr("modeltrace_hub.queries.models.MOST_MODELS", 1)
    for name in ("many-a", "many-b"):
        model = service(hub, name)
        model.begin()
        model.predict(1)
        model.export()

    assert version(hub, "many-b")["predictions"]["count"] == 1
