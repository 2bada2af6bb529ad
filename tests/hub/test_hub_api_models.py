"""`/api/models` and `/api/predictions` return the metrics and predictions of received telemetry."""

import re
import time
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from modeltrace_hub.queries.model_parameters import MINUTE_NS, Window
from modeltrace_hub.queries.models import MAX_CONFLICTING_MODELS, _newest_conflicting
from modeltrace_hub.web.model_charts import deciding_statistic
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.metric_points import SECOND
from tests.helpers.model_features import Feature
from tests.helpers.model_telemetry import ModelService
from tests.helpers.otlp_sender import Sender

FEATURES = (Feature("age", shift=1.0), Feature("salary"), Feature("city", ("bern", "basel")))


def service(hub: InProcessHub, name: str, instance: str = "1", **fields: Any) -> ModelService:
    """Return a model service that sends to the hub."""
    sender = Sender(f"http://127.0.0.1:{hub.settings.http_port}", instance=instance)
    return ModelService(sender, name, **{"features": FEATURES, **fields})


def get(hub: InProcessHub, path: str, **parameters: str) -> Any:
    """Return the JSON of an API call."""
    response = httpx.get(f"{hub.page_url}/api/{path}", params=parameters, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


def version(hub: InProcessHub, name: str, **parameters: str) -> Any:
    """Return the metrics of a model with one version."""
    (result,) = get(hub, f"models/{name}", **parameters)["versions"]
    return result


def visible_text(hub: InProcessHub, path: str, **parameters: str) -> str:
    """Return the text of a page, with single spaces."""
    html = httpx.get(f"{hub.page_url}{path}", params=parameters, timeout=30).text
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\u202f", " ").split())


def test_an_empty_hub_has_no_models(hub: InProcessHub) -> None:
    """A hub without telemetry lists no models, and an unknown name is 404."""
    assert get(hub, "models", window="15m")["models"] == []
    response = httpx.get(f"{hub.page_url}/api/models/none")
    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found")


def test_the_first_page_lists_the_models(hub: InProcessHub) -> None:
    """Each version has its predictions and a link to its figures, above all else; without models there is no list."""
    assert 'id="models"' not in httpx.get(f"{hub.page_url}/").text
    for name, model_version, predictions in (("org/a&b", "1.0.0", 3), ("org/a&b", "1.10.0", 5), ("churn", "2.0.0", 7)):
        sender = service(hub, name, instance=f"{name} {model_version}", version=model_version)
        sender.predict(predictions)
        sender.export()

    html = httpx.get(f"{hub.page_url}/").text
    section = html[html.index('<section aria-labelledby="models"') : html.index('<section aria-labelledby="received"')]
    rows = re.findall(r'<a href="([^"]+)">([^<]+)</a></th>\s*<td>([^<]+)</td>\s*<td class="numeric">([^<]+)<', section)
    assert rows == [
        ("./models?model=churn", "churn", "2.0.0", "7"),
        ("./models?model=org%2Fa%26b", "org/a&amp;b", "1.10.0", "5"),
        ("./models?model=org%2Fa%26b", "org/a&amp;b", "1.0.0", "3"),
    ]
    for path in {path for path, *_ in rows}:
        assert httpx.get(f"{hub.page_url}/{path}").status_code == 200


@pytest.mark.parametrize("name", ["org/churn", "a/b/c", "100 %", "ä?#"])
def test_any_name_can_be_in_a_path(hub: InProcessHub, name: str) -> None:
    """A percent-encoded name of any characters selects its model."""
    sender = service(hub, name)
    sender.predict(3)
    sender.export()

    assert version(hub, quote(name, safe=""))["predictions"]["count"] == 3


def test_counts_of_instances_add_up(hub: InProcessHub) -> None:
    """The predictions of two workers are summed."""
    for instance in "12":
        sender = service(hub, "added", instance)
        sender.predict(30)
        sender.export()
        sender.predict(12)
        sender.export()

    result = version(hub, "added")

    assert (result["predictions"]["count"], sum(result["predictions"]["outputs"].values())) == (84, 84)
    assert sum(sum(step["outputs"].values()) for step in result["predictions"]["steps"]) == 84
    assert (result["instances"], sum(result["confidence"]["counts"])) == (2, 84)


def test_a_shifted_feature_drifts(hub: InProcessHub) -> None:
    """A feature shifted by one standard deviation is in drift and listed first; the others are not in drift."""
    sender = service(hub, "moved")
    sender.start()
    sender.predict(1000)
    sender.export()

    result = version(hub, "moved")

    states = {feature["feature"]: feature["state"] for feature in result["features"]}
    assert states == {"age": "drift", "salary": "ok", "city": "ok"}
    assert result["features"][0]["feature"] == "age"
    assert result["features"][0]["statistics"]["psi"]["value"] > 0.5
    assert result["output"]["state"] == "ok"

    page = visible_text(hub, "/models", model="moved")
    cause = deciding_statistic(result["features"][0])
    assert cause is not None
    assert "Feature State Distribution PSI" in page
    assert f"age drift {cause.replace('>', '&gt;')} " in page


def test_the_cause_of_drift_exceeds_its_threshold_most() -> None:
    """Of the statistics in drift, the one that exceeds its threshold most is shown, shares in percent."""
    drifting = {"value": 0.31, "threshold": 0.02, "state": "drift"}
    others = {"ks": {"value": 9.0, "threshold": 10.0, "state": "ok"}, "psi": {**drifting, "threshold": 0.1}}

    assert deciding_statistic({"statistics": {**others, "share_change": drifting}}) == (
        "change of a share 31\u202f% > 2\u202f%"
    )
    assert deciding_statistic({"statistics": others}) == "PSI 0.310 > 0.100"
    assert deciding_statistic({"statistics": {"ks": others["ks"]}}) is None


def test_the_rate_begins_with_the_first_record(hub: InProcessHub) -> None:
    """Just after a start, the rate is that of the first minutes and not that of the whole window."""
    now = time.time_ns() // MINUTE_NS * MINUTE_NS
    window = Window(now - 60 * MINUTE_NS, now + MINUTE_NS, MINUTE_NS, now)
    assert [window.seconds_since(now - count * MINUTE_NS) for count in (0, 2, 600)] == [60, 120, 3600]

    sender = service(hub, "young", start_ns=time.time_ns() - SECOND)
    sender.predict(600)
    sender.export()
    assert version(hub, "young")["predictions"]["per_second"] == pytest.approx(10)
    assert "10/s" in visible_text(hub, "/models", model="young")
    assert re.search("young 1.0.0 600 10/s", visible_text(hub, "/"))


def test_a_regressor_has_no_confidence(hub: InProcessHub) -> None:
    """Its page has no section about confidence, that of a classifier has one."""
    values = service(hub, "values")
    values.counts["ml.predictions", (*values.model, ("ml.prediction.bin", "00"))] = 5
    values.export()
    classes = service(hub, "classes")
    classes.predict(5)
    classes.export()

    assert ">Confidence</h3>" not in httpx.get(f"{hub.page_url}/models", params={"model": "values"}).text
    assert ">Confidence</h3>" in httpx.get(f"{hub.page_url}/models", params={"model": "classes"}).text


def test_without_thresholds_there_is_no_drift_state(hub: InProcessHub) -> None:
    """Without thresholds and labels the metrics are absent, not wrong."""
    sender = service(hub, "bare")
    sender.predict(300)
    sender.export()

    result = version(hub, "bare")

    assert (result["features"], result["output"]) == ([], None)
    assert (result["evaluation"], result["concept_drift"], result["feedback"]["count"]) == (None, None, 0)
    assert (result["confidence"]["threshold"], result["confidence"]["low_share"]) == (None, None)


def test_labels_make_a_confusion_table(hub: InProcessHub) -> None:
    """Labels are counted by arrival; scores by time of prediction are returned beside them."""
    sender = service(hub, "labelled")
    traces = sender.predict(4, recorded=4)
    for trace_id, truth in zip(traces, ("yes", "yes", "no", "yes"), strict=True):
        sender.label(trace_id, "yes", truth)
    sender.evaluate(accuracy=0.75, precision__yes=0.8, precision__macro=0.4, concept_drift_level=1)
    sender.export()

    result = version(hub, "labelled")

    assert (result["feedback"]["count"], result["feedback"]["incorrect"], result["feedback"]["accuracy"]) == (
        4,
        1,
        0.75,
    )
    assert result["feedback"]["confusion"] == [
        {"true_label": "no", "predicted_label": "yes", "count": 1},
        {"true_label": "yes", "predicted_label": "yes", "count": 3},
    ]
    assert result["evaluation"]["accuracy"] == 0.75
    assert result["evaluation"]["classes"] == {"yes": {"precision": 0.8}}
    assert result["evaluation"]["macro"] == {"precision": 0.4}
    assert result["concept_drift"]["level"] == "drift"


def test_an_evaluation_has_its_own_period(hub: InProcessHub) -> None:
    """The period does not depend on the window, and the page shows it next to the accuracy."""
    sender = service(hub, "weekly", start_ns=time.time_ns() - 60 * SECOND)  # so that the first export is an increase
    (trace_id,) = sender.predict(1, recorded=1)
    sender.label(trace_id, "yes", "yes")
    end = time.time() - 90
    sender.evaluate(accuracy=0.75, labels=40, predictions=100, window=7 * 86400, time=end)
    sender.export()

    for window in ("15m", "24h"):
        period = version(hub, "weekly", window=window)["evaluation"]["period"]
        assert period["until_ns"] / 1e9 == pytest.approx(end, abs=1e-3)
        assert period["until_ns"] - period["since_ns"] == pytest.approx(7 * 86400 * SECOND, abs=1e6)
    page = visible_text(hub, "/models", model="weekly", window="15m")
    assert "predictions of the 7 d up to 1 min ago 40 of 100 with a label" in page
    assert "1 label arrived in the last 15 min 100 % of them correct" in page
    assert "labels of the last 1 min count in the next evaluation" in page


def test_means_that_differ_by_rounding_are_one_number(hub: InProcessHub) -> None:
    """The areas of a model with two classes are equal, but their sums were rounded in another order."""
    for name, weighted in (("two", 0.1 + 0.2), ("more", 0.4)):
        sender = service(hub, name)
        sender.predict(1)
        sender.evaluate(accuracy=0.75, roc_auc__macro=0.3, roc_auc__weighted=weighted)
        sender.export()
    assert "ROC AUC 0.300" in visible_text(hub, "/models", model="two")
    assert "ROC AUC macro 0.300 , weighted 0.400" in visible_text(hub, "/models", model="more")


@pytest.mark.parametrize(
    "times", [{}, {"window": 60.0}, {"window": -60.0, "time": 1e9}, {"window": 1.0, "time": 1e300}]
)
def test_an_evaluation_without_a_valid_period_has_none(hub: InProcessHub, times: dict[str, float]) -> None:
    """The page shows when the metrics were received."""
    name = f"timeless{len(times)}{times.get('time')}"
    sender = service(hub, name)
    sender.predict(1)
    sender.evaluate(accuracy=0.75, labels=4, predictions=10, **times)
    sender.export()

    assert version(hub, name)["evaluation"]["period"] is None
    assert "by time of prediction, received" in visible_text(hub, "/models", model=name)


@pytest.mark.parametrize(
    ("state", "expected"), [(1, "worse"), (0, "ok"), (-1, "not enough labels"), (-2, "baseline too small")]
)
def test_errors_are_compared_with_held_out_rows(hub: InProcessHub, state: int, expected: str) -> None:
    """The API and the page have the state, and the page both error rates."""
    name = f"compared{state}"
    sender = service(hub, name)
    sender.predict(1)
    comparison = {"error": 0.05, "increase": 0.35, "standard_error": 0.01, "threshold": 0.03, "state": state}
    sender.evaluate(accuracy=0.6, labels=400, **{f"baseline_{key}": value for key, value in comparison.items()})
    sender.export()

    assert version(hub, name)["evaluation"]["baseline"] == {**comparison, "state": expected}
    page = visible_text(hub, "/models", model=name)
    assert f"Compared with held-out rows {expected} error rate 40 %, held-out 5 %" in page


def test_without_errors_for_held_out_rows_there_is_no_state(hub: InProcessHub) -> None:
    """The page says that the reference is missing."""
    sender = service(hub, "unknown")
    sender.predict(1)
    sender.evaluate(accuracy=0.6, labels=400)
    sender.export()

    assert version(hub, "unknown")["evaluation"]["baseline"] is None
    assert "no held-out reference" in visible_text(hub, "/models", model="unknown")


def test_a_regressor_has_exact_quantiles_of_its_errors(hub: InProcessHub) -> None:
    """They come from the evaluation, not from the buckets of the errors of arriving labels."""
    sender = service(hub, "prices")
    sender.predict(1)
    quantiles = {"absolute_error__0.5": 1691.0, "absolute_error__0.95": 5210.0}
    sender.evaluate(mean_absolute_error=2000.0, labels=400, **quantiles)
    sender.export()

    assert version(hub, "prices")["evaluation"]["absolute_error"] == {"0.5": 1691.0, "0.95": 5210.0}
    page = visible_text(hub, "/models", model="prices")
    assert "Median absolute error 1,691 95 % of the errors at most 5,210" in page


def test_metrics_of_two_evaluations_are_not_mixed(hub: InProcessHub) -> None:
    """A class that is absent from the latest evaluation is not shown with its earlier metrics."""
    sender = service(hub, "evaluated")
    sender.predict(1)
    sender.evaluate(accuracy=0.5, f1__yes=0.4, f1__no=0.3, labels=10, concept_drift_level=1)
    sender.evaluate(accuracy=0.6, f1__yes=0.7, labels=12)
    sender.export()

    result = version(hub, "evaluated")
    assert (result["evaluation"]["accuracy"], result["evaluation"]["labels"]) == (0.6, 12)
    assert result["evaluation"]["classes"] == {"yes": {"f1": 0.7}}
    assert result["concept_drift"] is None


def test_evaluations_of_two_models_of_one_version_are_not_mixed(hub: InProcessHub) -> None:
    """Each model has its own evaluation, by hash, whichever process computed it."""
    served, other = "ab" * 32, "cd" * 32
    for name, instances in (("repacked", 1), ("both", 2)):
        senders = [
            service(hub, name, f"{name}{number}", hash=model_hash)
            for number, model_hash in enumerate((served, other)[:instances])
        ]
        for sender in senders:
            sender.start()
            sender.predict(10)
        senders[0].evaluate(served, accuracy=0.9, labels=20, predictions=30, concept_drift_level=0)
        senders[0].evaluate(other, accuracy=0.4, labels=50, predictions=90, concept_drift_level=1)
        for sender in senders:
            sender.export()

    repacked = version(hub, "repacked")
    both = {result["hash"]: result for result in get(hub, "models/both")["versions"]}

    assert (repacked["evaluation"]["accuracy"], repacked["concept_drift"]["level"]) == (0.9, "stable")
    assert both[served]["evaluation"]["accuracy"] == 0.9
    assert both[other]["evaluation"]["accuracy"] == 0.4
    assert both[other]["concept_drift"]["level"] == "drift"


def test_without_a_known_hash_one_model_is_evaluated(hub: InProcessHub) -> None:
    """The model with the most predictions is evaluated, and all metrics are of this model."""
    sender = service(hub, "nameless")
    sender.predict(1)
    now = time.time_ns()
    for model_hash, accuracy, predictions in (("ab" * 32, 0.9, 30), ("cd" * 32, 0.4, 90)):
        of_model = (*sender.model, ("ml.model.hash", model_hash))
        values = {"accuracy": accuracy, "predictions": predictions}
        sender.gauges({(f"ml.evaluation.{name}", "1"): {of_model: value} for name, value in values.items()}, now)
    sender.export()

    result = version(hub, "nameless")["evaluation"]
    assert (result["accuracy"], result["predictions"]) == (0.4, 90)


def test_low_confidence_has_a_limit(hub: InProcessHub) -> None:
    """Few low-confidence predictions are ok, many are drift; a small sample has no state."""
    states = {}
    for name, count, lowest in (("sure", 1000, 0.7), ("unsure", 1000, 0.0), ("hardly", 50, 0.0)):
        sender = service(hub, name)
        sender.start()
        sender.predict(count, lowest=lowest)
        sender.export()
        states[name] = version(hub, name)["confidence"]["state"]

    assert states == {"sure": "ok", "unsure": "drift", "hardly": "not enough data"}


def test_outputs_are_not_compared_with_those_of_training_rows(hub: InProcessHub) -> None:
    """Output and confidence have a state that says so, however many predictions there are; features are compared."""
    for count in (50, 1000):
        sender = service(hub, f"fitted{count}", held_out_rows=0)
        sender.start()
        sender.predict(count, lowest=0.0)
        sender.export()
        result = version(hub, f"fitted{count}")

        assert result["output"]["state"] == "no held-out reference"
        assert {item["state"] for item in result["output"]["statistics"].values()} == {"no held-out reference"}
        assert result["confidence"]["state"] == "no held-out reference"
        assert (result["confidence"]["reference_share"], result["confidence"]["limit"]) == (None, None)
        assert {feature["state"] for feature in result["features"]} <= {"drift", "ok", "not enough data"}
        page = httpx.get(f"{hub.page_url}/models", params={"model": f"fitted{count}"}).text
        assert "The bundle knows the output for training rows only." in page


@pytest.mark.parametrize(("repeated", "expected"), [(600, None), (800, "rows repeat")])
def test_rows_that_repeat_are_no_drift(hub: InProcessHub, repeated: int, expected: str | None) -> None:
    """Above the limit, features, output and confidence have the state "rows repeat"; below it nothing changes."""
    name = f"again{repeated}"
    sender = service(hub, name)
    sender.start()
    sender.predict(1000, lowest=0.0)
    sender.repeat(repeated, limit=0.7)
    sender.export()
    result = version(hub, name)

    assert (result["repeated_rows"]["count"], result["repeated_rows"]["distinct"]) == (repeated, 1000 - repeated)
    assert result["repeated_rows"]["exceeded"] == (expected is not None)
    states = {feature["feature"]: feature["state"] for feature in result["features"]}
    assert states == {"age": expected or "drift", "salary": expected or "ok", "city": expected or "ok"}
    assert result["output"]["state"] == (expected or "ok")
    assert result["confidence"]["state"] == (expected or "drift")
    page = httpx.get(f"{hub.page_url}/models", params={"model": name}).text
    assert ("of 1,000 rows are distinct" in page) == (expected is not None)


def test_two_models_of_one_version_are_not_added_up(hub: InProcessHub) -> None:
    """Models with the same version have separate metrics by hash, over all their processes; the page shows both."""
    for instance, model_hash, count in (("1", "ab" * 32, 300), ("2", "ab" * 32, 30), ("3", "cd" * 32, 500)):
        sender = service(hub, "twins", instance, hash=model_hash)
        sender.start()
        sender.predict(count, lowest=0.0 if instance == "3" else 0.7)
        sender.export()
    (model,) = [get(hub, "models/twins")]

    result = {sender["hash"]: sender for sender in model["versions"]}
    assert {key: sender["predictions"]["count"] for key, sender in result.items()} == {"ab" * 32: 330, "cd" * 32: 500}
    assert {key: sender["instances"] for key, sender in result.items()} == {"ab" * 32: 2, "cd" * 32: 1}
    assert {key: sender["confidence"]["state"] for key, sender in result.items()} == {
        "ab" * 32: "ok",
        "cd" * 32: "drift",
    }
    assert {sender["features"][0]["n"] for sender in result.values()} == {330, 500}
    page = httpx.get(f"{hub.page_url}/models", params={"model": "twins"}).text
    assert "Several models have the name and version twins 1.0.0" in page
    assert page.count("cd" * 6) >= 1


def test_services_with_equal_instance_ids_are_not_mixed(hub: InProcessHub) -> None:
    """An instance ID is unique within a service only: the model of each service has its own metrics."""
    for name, model_hash, count in (("left", "ab" * 32, 300), ("right", "cd" * 32, 500)):
        url = f"http://127.0.0.1:{hub.settings.http_port}"
        sender = ModelService(Sender(url, service=name, shared_instance_id="0"), "equal", hash=model_hash)
        sender.start()
        sender.predict(count)
        sender.export()

    result = {version["hash"]: version for version in get(hub, "models/equal")["versions"]}
    assert {key: version["predictions"]["count"] for key, version in result.items()} == {"ab" * 32: 300, "cd" * 32: 500}
    assert {key: version["features"][0]["n"] for key, version in result.items()} == {"ab" * 32: 300, "cd" * 32: 500}


def test_versions_are_in_order(hub: InProcessHub) -> None:
    """The highest version is first, whichever sent telemetry last."""
    for number in ("1.10.0", "1.9.0", "2.0.0", "1.10.0-rc"):
        sender = service(hub, "ordered", number, version=number)
        sender.predict(1)
        sender.export()

    (model,) = [sender for sender in get(hub, "models")["models"] if sender["name"] == "ordered"]

    assert [sender["version"] for sender in model["versions"]] == ["2.0.0", "1.10.0", "1.10.0-rc", "1.9.0"]


@pytest.mark.slow
def test_predictions_are_filtered(hub: InProcessHub) -> None:
    """Label, confidence and the bin of a value select exactly the matching predictions."""
    sender = service(hub, "found")
    sender.start()
    sender.predict(40, recorded=40)
    parameters = {"model": "found", "version": "1.0.0"}

    every = get(hub, "predictions", **parameters)["items"]
    yes = get(hub, "predictions", **parameters, label="yes")["items"]
    sure = get(hub, "predictions", **parameters, above="0.8", below="0.95")["items"]
    high = get(hub, "predictions", **parameters, feature="age", bin="09")
    bern = get(hub, "predictions", **parameters, feature="city", bin="bern")["items"]
    new = get(hub, "predictions", **parameters, feature="city", bin="other")["items"]

    assert len(every) == 40
    assert {result["trace_id"] for result in yes} == {
        result["trace_id"] for result in every if result["output"] == "yes"
    }
    assert len(sure) == sum(0.8 < result["confidence"] <= 0.95 for result in every)
    assert {float(result["value"]) > 1.28 for result in high["items"]} == {True}
    assert (high["bin"]["low"], high["bin"]["high"]) == (1.28, None)
    assert {result["value"] for result in bern} == {"bern"}
    assert new == []


def test_an_external_id_finds_its_predictions_and_labels(hub: InProcessHub) -> None:
    """The API, the page and the page of the trace show it; other predictions are not listed."""
    sender = service(hub, "orders")
    sender.predict(3, recorded=3)
    (trace,) = sender.predict(1, recorded=1, ml__prediction__external_id="order/17")
    sender.label(trace, "yes", "no")
    for parameters in ({"id": "order/17"}, {"id": "order/17", "outcome": "labelled"}):
        (item,) = get(hub, "predictions", **parameters)["items"]
        assert (item["trace_id"], item["external_id"], item["true_label"]) == (trace, "order/17", "no")
    assert get(hub, "predictions", id="order")["items"] == []

    page = httpx.get(f"{hub.page_url}/predictions", params={"id": "order/17"}, follow_redirects=True).text
    assert trace in page
    assert 'value="id = order/17"' in page
    assert "External ID</th>" in page
    service(hub, "without_ids").predict(1, recorded=1)
    page = httpx.get(f"{hub.page_url}/predictions", params={"model": "without_ids"}).text
    assert "Version</th>" in page
    assert "External ID</th>" not in page
    assert 'href="predictions?id=order%2F17"' in httpx.get(f"{hub.page_url}/t/{trace}").text.replace("../", "")
    assert [
        trace["trace_id"] for trace in get(hub, "traces", **{"attr.ml.prediction.external_id": "order/17"})["traces"]
    ] == [trace]


def test_a_tag_filters_predictions_and_labels(hub: InProcessHub) -> None:
    """Predictions and labels are filtered by the exact value of a tag, and the page shows the filter."""
    sender = service(hub, "tagged")
    sender.predict(3, recorded=3)
    (trace,) = sender.predict(1, recorded=1, ml__tag__country="D=E")
    sender.label(trace, "yes", "no")
    for parameters in ({}, {"outcome": "labelled"}):
        (item,) = get(hub, "predictions", tag="country=D=E", **parameters)["items"]
        assert item["trace_id"] == trace
    assert get(hub, "predictions", tag="country=D")["items"] == []
    assert get(hub, "predictions", tag="city=D=E")["items"] == []

    page = httpx.get(f"{hub.page_url}/predictions", params={"tag": "country=D=E"}, follow_redirects=True).text
    assert 'value="tag.country = D=E"' in page
    refused = httpx.get(f"{hub.page_url}/api/predictions", params={"tag": "country"})
    assert (refused.status_code, refused.json()["error"]["parameter"]) == (422, "tag")


def test_predictions_are_newest_first_and_limited(hub: InProcessHub) -> None:
    """`complete` is false if there are more predictions; an invalid parameter is named."""
    sender = service(hub, "limited")
    traces = sender.predict(5, recorded=5)

    result = get(hub, "predictions", model="limited", limit="2")

    assert [entry["trace_id"] for entry in result["items"]] == traces[:-3:-1]
    assert not result["complete"]
    assert get(hub, "predictions", model="limited", limit="5")["complete"]
    refused = httpx.get(f"{hub.page_url}/api/predictions", params={"outcome": "perhaps"})
    assert (refused.status_code, refused.json()["error"]["parameter"]) == (422, "outcome")


@pytest.mark.parametrize("window", ["1s", "400d", "soon"])
def test_a_window_has_bounds(hub: InProcessHub, window: str) -> None:
    """A window is from a minute to 31 days long."""
    response = httpx.get(f"{hub.page_url}/api/models", params={"window": window})

    assert (response.status_code, response.json()["error"]["parameter"]) == (422, "window")


def test_traffic_before_the_window_does_not_count(hub: InProcessHub) -> None:
    """A short window counts only its own traffic, a long one all."""
    sender = service(hub, "sliding")
    now = time.time_ns()
    sender.predict(70)
    sender.export(now - 40 * 60 * SECOND)
    sender.predict(5)
    sender.export(now)

    counts = {window: version(hub, "sliding", window=window)["predictions"]["count"] for window in ("15m", "1h")}

    assert counts == {"15m": 5, "1h": 75}


def test_an_allowed_missing_value_counts_once(hub: InProcessHub) -> None:
    """A missing value of a rejected row counts in addition to the observations; an allowed one is among them."""
    shares = {}
    for name, action in (("refusing", "rejected"), ("letting", "counted")):
        sender = service(hub, name)
        sender.start()
        sender.predict(300)
        output = (("ml.feature.name", "age"), ("ml.data.violation.reason", "missing"))
        sender.counts["ml.data.violations", (*sender.model, *output, ("ml.data.violation.action", action))] += 100
        sender.export()
        result = version(hub, name)
        shares[name] = [missing["share"] for missing in result["missing_values"]], result["violations"][0]["allowed"]

    assert shares == {"refusing": ([0.25], 0), "letting": ([], 100)}


@pytest.mark.slow
def test_a_feature_recorded_by_bin_is_found_by_bin(hub: InProcessHub) -> None:
    """The prediction log record has the name of the bin instead of the value."""
    sender = service(hub, "bucket", features=[Feature("income", privacy="bucket")])
    sender.start()
    sender.predict(40, recorded=40)

    result = get(hub, "predictions", model="bucket", version="1.0.0", feature="income", bin="04")["items"]

    assert {entry["value"] for entry in result} == {"04"}


def test_a_label_is_no_prediction(hub: InProcessHub) -> None:
    """The trace of a feedback request counts as a label, not as a prediction."""
    sender = service(hub, "brought")
    (trace_id,) = sender.predict(1, recorded=1)
    brought = sender.label(trace_id, "yes", "no")
    sender.export()

    counted = {point["name"] for point in get(hub, f"traces/{brought}")["metrics"]}

    assert "ml.feedback" in counted
    assert {name for name in counted if name.startswith("ml.prediction")} == set()


def test_the_newest_of_many_conflicting_models_are_selected() -> None:
    """Each version has its last loaded model, and the number of queries is bounded."""
    twins = {
        ("m", version): [
            {"hash": f"{version}-{number}", "loaded_ns": base - number} for number in range(MAX_CONFLICTING_MODELS)
        ]
        for version, base in (("1", 1000), ("2", 500))
    }

    shown = _newest_conflicting(twins)

    assert sum(map(len, shown.values())) == MAX_CONFLICTING_MODELS
    for version in ("1", "2"):
        remaining = {twin["hash"] for twin in shown["m", version]}
        assert remaining == {f"{version}-{number}" for number in range(MAX_CONFLICTING_MODELS // 2)}


def test_a_model_is_found_by_name_beyond_the_list_limit(hub: InProcessHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the list does not hide a model that is requested by name."""
    monkeypatch.setattr("modeltrace_hub.queries.models.MAX_MODELS", 1)
    for name in ("many-a", "many-b"):
        model = service(hub, name)
        model.start()
        model.predict(1)
        model.export()

    assert version(hub, "many-b")["predictions"]["count"] == 1
