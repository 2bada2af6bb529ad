"""External IDs: IDs of the client's own in requests, telemetry, the store and labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from pydantic import SecretStr

from modeltrace.inference.model import Model
from modeltrace.sidecar.encode.logs import LogEncoder
from modeltrace.store.rows import RowBuilder
from modeltrace.store.selection import Selection
from modeltrace.store.store import open_store
from modeltrace.telemetry.names import ML_PREDICTION_EXTERNAL_ID
from modeltrace.telemetry.records.prediction import ModelInfo, Origin
from tests.helpers.factories import MODEL, TIME, AnsweredRequest, answered_row
from tests.helpers.in_process_services import SdkService, records_service, service_with_challenger

Rows = list[dict[str, float]]
Record = Callable[..., SdkService]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Return the path of a prediction store."""
    return str(tmp_path / "s.db")


def predict(service: SdkService, row: dict[str, float], **members: Any) -> dict[str, Any]:
    """Predict a row, and return the response body."""
    response = service.client.post("/predict", json={"features": row, **members})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def store_with(url: str, *requests: tuple[str, str | None], model: ModelInfo = MODEL) -> None:
    """Add predictions with external IDs to a store, each with its prediction ID."""
    with open_store(url) as opened:
        for prediction_id, external_id in requests:
            request = AnsweredRequest([answered_row(prediction_id)], model=model, external_ids=(external_id,))
            opened.add_predictions(RowBuilder("0.1.0").build(request))


def test_the_response_returns_the_id(service: SdkService, rows: Rows) -> None:
    """A response has the ID of its request; in a batch, the ID of each row that has one, rejected rows included."""
    assert predict(service, rows[0], id="order-17")["id"] == "order-17"
    assert "id" not in predict(service, rows[0])
    assert "id" not in predict(service, rows[0], id=None)

    batch = service.client.post("/predict/batch", json={"rows": [rows[0], {}, rows[1]], "ids": ["a", "b", None]}).json()

    assert [entry.get("id") for entry in batch["predictions"]] == ["a", "b", None]
    assert "error" in batch["predictions"][1]


@pytest.mark.parametrize("value", ["", "a b", "x" * 129, "é", "a\n", "\0", 17, True, ["a"], {}])
def test_an_invalid_id_is_400(service: SdkService, rows: Rows, value: object) -> None:
    """The message says what is valid, and names the position in a batch; nothing is predicted."""
    single = service.client.post("/predict", json={"features": rows[0], "id": value})
    batch = service.client.post("/predict/batch", json={"rows": rows[:2], "ids": ["a", value]})

    for response, name in ((single, '"id"'), (batch, '"ids[1]"')):
        assert (response.status_code, response.json()["error"]["type"]) == (400, "malformed_request")
        assert response.json()["error"]["message"] == (
            f"{name} must be a string of 1 to 128 visible ASCII characters, without spaces"
        )
    assert service.logs("modeltrace.prediction") == []


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "b", "c"], "ab", {"0": "a", "1": "b"}])
def test_ids_need_one_entry_per_row(service: SdkService, rows: Rows, ids: object) -> None:
    """A list of another length cannot be assigned to the rows."""
    response = service.client.post("/predict/batch", json={"rows": rows[:2], "ids": ids})

    assert response.status_code == 400
    assert "one ID or null for each of the 2 rows" in response.json()["error"]["message"]


@pytest.mark.parametrize(("path", "body"), [("/predict", {"rows": [], "ids": []}), ("/predict/batch", {"id": "a"})])
def test_each_route_has_its_own_member(service: SdkService, path: str, body: dict[str, Any]) -> None:
    """`ids` belongs to `rows`, `id` to `features`."""
    assert service.client.post(path, json=body).status_code == 400


def test_span_and_log_record_have_the_id(record: Record, model: Model, rows: Rows) -> None:
    """The SERVER span of one row and each prediction log record; the sidecar encodes the same log attributes."""
    service = record(model)
    with records_service(model) as sidecar:
        for client in (service.client, sidecar.client):
            client.post("/predict", json={"features": rows[0], "id": "order-17"})
            client.post("/predict", json={"features": {}, "id": "order-18"})
            client.post("/predict/batch", json={"rows": rows[:3], "ids": ["a", None, "c"]})
    spans = [span for span in service.span_exporter.get_finished_spans() if span.parent is None]
    recorded = [
        (log.log_record.attributes or {}).get(ML_PREDICTION_EXTERNAL_ID)
        for log in service.logs("modeltrace.prediction")
    ]
    (encoded,) = LogEncoder(Origin(b"", "modeltrace")).predictions(sidecar.queue.requests)
    logs = ExportLogsServiceRequest.FromString(encoded[0]).resource_logs[0].scope_logs[0].log_records

    assert [(span.attributes or {}).get(ML_PREDICTION_EXTERNAL_ID) for span in spans] == ["order-17", "order-18", None]
    assert recorded == ["order-17", "a", None, "c"]
    assert [
        next((item.value.string_value for item in log.attributes if item.key == ML_PREDICTION_EXTERNAL_ID), None)
        for log in logs
    ] == recorded


def test_no_metric_has_the_id(record: Record, model: Model, rows: Rows) -> None:
    """No metric attribute contains an ID, because the number of IDs is unbounded."""
    service = record(model)
    predict(service, rows[0], id="order-17")

    assert "order-17" not in str(service.points())


def test_a_shadow_has_the_id_of_its_request(model: Model, rows: Rows) -> None:
    """A search finds both predictions, and an erasure erases both."""
    with service_with_challenger(model, replace(model, version="2.0.0")) as (client, queue):
        client.post("/predict", json={"features": rows[0], "id": "order-17"})

    assert [request.external_ids for request in queue.requests] == [("order-17",)] * 2


class TestLabels:
    """`POST /feedback` with `id`."""

    @pytest.fixture
    def served(self, record: Record, model: Model, store: str) -> SdkService:
        """Run the service with a store."""
        return record(model, store=SecretStr(store))

    def store_prediction(self, served: SdkService, store: str, row: dict[str, float], external_id: str) -> str:
        """Predict a row, store the prediction as the sidecar does, and return its ID."""
        body = predict(served, row, id=external_id)
        store_with(store, (body["prediction_id"], external_id), model=MODEL._replace(name=body["model"]["name"]))
        prediction_id: str = body["prediction_id"]
        return prediction_id

    def test_the_label_belongs_to_the_prediction(self, served: SdkService, store: str, rows: Rows) -> None:
        """The result has both IDs; a label by prediction ID is the same label."""
        prediction_id = self.store_prediction(served, store, rows[0], "order-17")
        by_id = {"id": "order-17", "label": "malignant"}

        first, second = (served.client.post("/feedback", json=by_id).json() for _ in range(2))
        by_prediction_id = {"prediction_id": prediction_id, "label": "malignant"}
        third = served.client.post("/feedback", json={"items": [by_prediction_id, by_id]}).json()["results"]

        assert (first["prediction_id"], first["id"], first["status"]) == (prediction_id, "order-17", "new")
        assert second == {**first, "status": "same"}
        assert [(result["status"], result.get("id")) for result in third] == [("same", None), ("same", "order-17")]
        with open_store(store) as opened:
            stored = opened.find(prediction_id)
        assert stored is not None
        assert (stored.true_label, stored.external_id) == ("malignant", "order-17")

    def test_an_unknown_id_is_404(self, served: SdkService, store: str) -> None:
        """The ID of a prediction of another model is unknown, too, and so is that of a shadow."""
        store_with(store, ("p1", "order-17"), model=MODEL._replace(name="another"))
        with open_store(store) as opened:
            shadow = AnsweredRequest([answered_row("s")], shadow_of=("p",), external_ids=("order-18",))
            opened.add_predictions(RowBuilder("0.1.0").build(shadow))
        for external_id in ("order-17", "order-18", "order-19"):
            response = served.client.post("/feedback", json={"id": external_id, "label": "benign"})

            assert (response.status_code, response.json()["error"]["type"]) == (404, "unknown_prediction")
            assert "no stored prediction of this model has this id" in response.json()["error"]["message"]

    def test_an_id_of_several_predictions_is_409(self, served: SdkService, store: str, rows: Rows) -> None:
        """The label could belong to either, so none gets it."""
        ids = [self.store_prediction(served, store, row, "order-17") for row in rows[:2]]

        response = served.client.post("/feedback", json={"id": "order-17", "label": "benign"})

        assert (response.status_code, response.json()["error"]["type"]) == (409, "ambiguous_id")
        assert "2 predictions have this id" in response.json()["error"]["message"]
        with open_store(store) as opened:
            assert opened.counts().labels == 0
        assert served.client.post("/feedback", json={"prediction_id": ids[0], "label": "benign"}).status_code == 200
        rejected = {point.attributes["error.type"]: point.value for point in served.points()["ml.feedback.rejected"]}
        assert rejected == {"ambiguous_id": 1}

    @pytest.mark.parametrize(
        "item",
        [
            {"id": "a", "prediction_id": "b", "label": "benign"},
            {"id": 17, "label": "benign"},
            {"id": "", "label": "benign"},
            {"id": "a"},
        ],
    )
    def test_another_form_is_400(self, served: SdkService, item: dict[str, Any]) -> None:
        """A label has exactly one of both IDs."""
        assert served.client.post("/feedback", json=item).status_code == 400
        (result,) = served.client.post("/feedback", json={"items": [item]}).json()["results"]
        assert result["error"]["type"] == "malformed_request"

    def test_without_a_store_it_is_404(self, service: SdkService) -> None:
        """Only the store knows external IDs; the message says what to send."""
        response = service.client.post("/feedback", json={"id": "order-17", "label": "benign"})

        assert response.status_code == 404
        assert "MODELTRACE_STORE=none" in response.json()["error"]["message"]
        assert "prediction_id" in response.json()["error"]["message"]

    def test_an_unavailable_store_is_503(self, served: SdkService, store: str) -> None:
        """Nothing is lost if the client sends the label again."""
        Path(store).unlink(missing_ok=True)
        Path(store).mkdir(parents=True)

        response = served.client.post("/feedback", json={"items": [{"id": "order-17", "label": "benign"}]})

        assert (response.status_code, response.json()["error"]["type"]) == (503, "store_unavailable")


def test_an_erased_prediction_has_no_external_id(store_url: str) -> None:
    """Neither have its shadows, and a row that is written again does not bring it back."""
    shadow = AnsweredRequest([answered_row("s")], shadow_of=("p",), external_ids=("order-17",))
    with open_store(store_url) as opened:
        store_with(store_url, ("p", "order-17"), ("q", "order-18"))
        opened.add_predictions(RowBuilder("0.1.0").build(shadow))

        opened.erase(["p"], TIME + 9)
        opened.add_predictions(RowBuilder("0.1.0").build(shadow))

        ids = {row.prediction_id: row.external_id for page in opened.read() for row in page}
        assert ids == {"p": None, "s": None, "q": "order-18"}
        assert list(opened.read(Selection(external_id="order-17"))) == []


def test_a_row_of_a_shared_challenger_gets_the_external_id(store_url: str) -> None:
    """The challenger writes its row without it; the service that called the challenger knows it."""
    with open_store(store_url) as opened:
        opened.add_predictions(RowBuilder("0.1.0").build(AnsweredRequest([answered_row("s")])))
        shadow = AnsweredRequest([answered_row("s")], shadow_of=("p",), external_ids=("order-17",))
        opened.add_predictions(RowBuilder("0.1.0").build(shadow))

        stored = opened.find("s")
        assert stored is not None
        assert (stored.shadow_of, stored.external_id) == ("p", "order-17")
