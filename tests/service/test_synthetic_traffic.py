"""Synthetic traffic is answered, traced and stored as any other, but not counted in metrics of predictions."""

import pytest
from opentelemetry.context import Context

from modeltrace.evaluation.evaluate import evaluate
from modeltrace.inference.model import Model
from modeltrace.keys import derive_synthetic_token
from modeltrace.store.rows import RowBuilder, StoredLabel
from modeltrace.store.selection import Selection
from modeltrace.store.store import open_store
from modeltrace.telemetry.names import SYNTHETIC
from modeltrace.telemetry.records.trace import RequestTracer, propagation_headers
from tests.helpers.factories import TIME, AnsweredRequest, answered_row
from tests.helpers.in_process_services import SYNTHETIC_TOKEN, records_service
from tests.helpers.services import ID_KEY

Rows = list[dict[str, float]]
MARK = {"baggage": f"other=1,{SYNTHETIC}={SYNTHETIC_TOKEN}"}


def counted(metrics: list[object], name: str) -> float:
    """Return the sum of a counter over its points."""
    return sum(
        point.value for metric in metrics if metric.name == name for point in metric.data.data_points  # type: ignore[attr-defined]  # the SDK's
    )  # fmt: skip


def test_synthetic_predictions_are_counted_separately(model: Model, rows: Rows) -> None:
    """Drift is computed from counts of features and predictions, which do not include them."""
    with records_service(model) as service:
        marked = service.client.post("/predict/batch", json={"rows": [rows[0], rows[1], {}]}, headers=MARK)
        assert [("error" in prediction) for prediction in marked.json()["predictions"]] == [False, False, True]
        service.client.post("/predict", json={"features": rows[2]})
    metrics: list[object] = [*service.metrics()]
    assert counted(metrics, "ml.predictions.synthetic") == 2
    assert counted(metrics, "ml.predictions") == 1
    assert counted(metrics, "ml.data.violations") == 0
    assert counted(metrics, "ml.feature.observations") == len(model.schema.features)
    assert [request.synthetic for request in service.queue.requests] == [True, False]


@pytest.mark.parametrize(
    "baggage", [f"{SYNTHETIC}=1", f"{SYNTHETIC}=true", f"{SYNTHETIC}=", f"{SYNTHETIC}=%C3%A9", f"x={SYNTHETIC_TOKEN}"]
)
def test_a_wrong_token_marks_nothing(model: Model, rows: Rows, baggage: str) -> None:
    """Only clients with the service's key know the token. Other requests are counted."""
    with records_service(model) as service:
        service.client.post("/predict", json={"features": rows[0]}, headers={"baggage": baggage})
    assert [request.synthetic for request in service.queue.requests] == [False]
    assert counted([*service.metrics()], "ml.predictions") == 1


def test_another_key_gives_another_token() -> None:
    """The token is not the key that values of private features are hashed with."""
    assert derive_synthetic_token(ID_KEY.encode()) != derive_synthetic_token(b"another key of sixteen")
    assert len(SYNTHETIC_TOKEN) == 32


@pytest.mark.parametrize("token", [SYNTHETIC_TOKEN, ""])
def test_the_mark_is_read_without_telemetry_too(token: str) -> None:
    """The prediction store needs it. A service without a token ignores all marks."""
    headers = [(b"baggage", MARK["baggage"].encode())]
    scope = {"method": "POST", "path": "/predict", "http_version": "1.1", "headers": headers}
    trace, context = RequestTracer(None, synthetic_token=token).start(scope)
    assert trace.synthetic_token == token
    assert context == Context()
    # The call of a challenger that is another service is marked, too.
    assert propagation_headers(trace) == ({"baggage": f"{SYNTHETIC}={token}"} if token else {})


def test_evaluation_excludes_synthetic_rows_by_default(store_url: str) -> None:
    """The store has them with their mark. Rows of versions without this column are not synthetic."""
    with open_store(store_url) as store:
        for number, synthetic in enumerate([True, True, False]):
            row = answered_row(f"p{number}", time=TIME + number)
            store.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest([row], synthetic=synthetic)))
        (old,) = RowBuilder("0.1.0").build(AnsweredRequest([answered_row("old", time=TIME)]))
        store.add_predictions([old._replace(synthetic=None)])
        store.add_labels([StoredLabel(f"p{number}", "benign", TIME + 9, TIME) for number in range(3)])
        (real,) = evaluate(store, Selection(include_synthetic=False))
        (everything,) = evaluate(store, Selection())
        marks = {prediction.prediction_id: prediction.synthetic for chunk in store.read() for prediction in chunk}
    assert (real.predictions, real.labels) == (2, 1)
    assert (everything.predictions, everything.labels) == (4, 3)
    assert marks == {"p0": True, "p1": True, "p2": False, "old": False}
