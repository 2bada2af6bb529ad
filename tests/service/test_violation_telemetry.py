"""Responses and telemetry of rows with allowed violations, on the SDK path and on the sidecar path."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.inference.model import Model
from modeltrace.inference.validate import validate_row
from tests.helpers.conformance import comparable_metrics, comparable_spans, sdk_spans
from tests.helpers.in_process_services import SdkService, records_service
from tests.helpers.strategies import json_values
from tests.helpers.tables import customers

GOOD: dict[str, Any] = {"age": 30, "income": 5.5, "city": "Bonn", "vip": True}


@pytest.fixture(scope="module")
def tolerant(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a model that rejects only an income of a wrong type, and numbers that are too large."""
    data = customers()
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough")
    estimator = make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=3)).fit(data, data.age > 50)
    return load_bundle(
        pack(
            estimator,
            data,
            name="tolerant",
            out=tmp_path_factory.mktemp("bundles") / "tolerant",
            valid_ranges={"age": (0, 120)},
            allowed_violations={"age": (), "city": ("type", "category"), "vip": ()},
            ignore_unknown=True,
        )
    )


ROWS: dict[str, dict[str, Any]] = {
    "one row": {"features": {**GOOD, "age": 300}},
    "several violations": {"features": {"age": "old", "income": None, "city": "Atlantis", "more": 1}},
    "one allowed, one rejected": {"features": {**GOOD, "age": 300, "income": "much"}},
    "many rows": {
        "rows": [GOOD, {**GOOD, "age": 300}, {**GOOD, "age": -1}, {**GOOD, "age": None, "income": "much"}, 7]
    },
}


@pytest.mark.parametrize("case", ROWS)
def test_both_paths_record_the_same(record: Callable[..., SdkService], tolerant: Model, case: str) -> None:
    """Spans, their events and metric points agree; an allowed violation does not make a span an error."""
    url = "/predict/batch" if "rows" in ROWS[case] else "/predict"
    service = record(tolerant)
    with records_service(tolerant) as ours:
        statuses = [client.post(url, json=ROWS[case]).status_code for client in (service.client, ours.client)]

        expected = sdk_spans(service)
        assert comparable_spans(ours.spans()) == comparable_spans(expected)
        data = service.metric_reader.get_metrics_data()
        assert data is not None
        assert comparable_metrics(ours.metrics()) == comparable_metrics(
            [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        )
    assert statuses == ([422, 422] if "rejected" in case else [200, 200])
    validate = next(span for span in expected if span.name == "validate")
    assert len(validate.events) > 0
    assert ("error.type" in {attribute.key for attribute in validate.attributes}) == (
        "rejected" in case or "rows" in ROWS[case]
    )


def test_an_allowed_violation_is_counted_and_logged(record: Callable[..., SdkService], tolerant: Model) -> None:
    """The span, the metric and the log record have the feature, the reason and the action."""
    service = record(tolerant)

    assert service.client.post("/predict", json={"features": {**GOOD, "age": 300}}).status_code == 200

    attributes = {"ml.feature.name": "age", "ml.data.violation.reason": "range", "ml.data.violation.action": "counted"}
    (event,) = service.spans()["validate"].events
    assert dict(event.attributes or {}) == {**attributes, "ml.data.violation.rows": 1}
    assert not service.spans()["validate"].status.description
    (point,) = service.points()["ml.data.violations"]
    assert (attributes.items() <= dict(point.attributes).items(), point.value) == (True, 1)
    (log,) = service.logs("modeltrace.data")
    assert attributes.items() <= dict(log.log_record.attributes or {}).items()
    assert log.log_record.body == "age: range, counted, rows: 1"


def test_the_actions_are_documented(record: Callable[..., SdkService], tolerant: Model) -> None:
    """`GET /model` contains the action of each violation, and OpenAPI accepts the allowed values."""
    client = record(tolerant).client

    model = client.get("/model").json()
    assert model["on_unknown"] == "count"
    assert model["features"][0]["on_violation"] == dict.fromkeys(("missing", "type", "range"), "count") | {
        "category": "reject"
    }
    row = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]["properties"]["features"]
    assert row["required"] == []
    assert row["additionalProperties"] is True
    assert row["properties"]["age"]["maximum"] > 1e18


@pytest.fixture
def counted(
    record: Callable[..., SdkService], tolerant: Model
) -> "Callable[[dict[str, Any]], tuple[int, Counter[str]]]":
    """Return a function that sends a row and returns the status and its counts by feature, reason and action."""
    service = record(tolerant)
    before: Counter[str] = Counter()

    def send(row: dict[str, Any]) -> tuple[int, Counter[str]]:
        nonlocal before
        status: int = service.client.post("/predict", json={"features": row}).status_code
        now = Counter(
            {
                str(sorted((k, v) for k, v in point.attributes.items() if not k.startswith("ml.model"))): point.value
                for point in service.points().get("ml.data.violations", [])
            }
        )
        new, before = now - before, now
        return status, new

    return send


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.dictionaries(st.sampled_from([*GOOD, "surprise", "an other"]), json_values.filter(lambda v: v == v)),
    removed=st.sets(st.sampled_from(sorted(GOOD)), max_size=2),
)
def test_any_row_is_predicted_or_rejected_and_counted_once(
    counted: "Callable[[dict[str, Any]], tuple[int, Counter[str]]]",
    tolerant: Model,
    changes: dict[str, Any],
    removed: set[str],
) -> None:
    """The service never fails, and each violation of a row adds one."""
    row = {name: value for name, value in {**GOOD, **changes}.items() if name not in removed}
    try:
        status, new = counted(row)
    except (ValueError, OverflowError, UnicodeEncodeError):  # not JSON
        return

    violations = validate_row(row, tolerant.schema)
    rejected = [violation for violation in violations if not violation.allowed]
    assert status == (422 if rejected else 200) or (
        status == 400 and not new
    )  # integers beyond the limits of the parser
    if status != 400:
        assert set(new.values()) <= {1}
        assert sum(new.values()) == len({("" if v.reason == "unknown" else v.feature, v.reason) for v in violations})
