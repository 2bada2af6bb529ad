"""`probabilities` in responses of the prediction routes."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import RadiusNeighborsClassifier

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model, ModelOutput, to_json_label
from modeltrace.inference.predict_fns import make_predict_fns
from modeltrace.inference.validate import RowValidator
from modeltrace.store.rows import RowBuilder, from_json
from tests.helpers.estimators import LABELS, X, fit, iris_frame
from tests.helpers.in_process_services import SdkService, records_service

Record = Callable[..., SdkService]
ASK = {"probabilities": "true"}


def iris_rows(number: int = 20) -> list[dict[str, float]]:
    """Return rows of all three classes."""
    return [{str(name): float(value) for name, value in row.items()} for row in iris_frame().to_dict("records")[::7]][
        :number
    ]


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A classifier of three classes, and its bundle for both engines."""
    estimator = fit(LogisticRegression(), LABELS)[0]
    return estimator, pack(estimator, iris_frame(), name="iris", out=tmp_path_factory.mktemp("b") / "iris", onnx=True)


@pytest.mark.parametrize("engine", ["sklearn", "onnx"])
@pytest.mark.parametrize("batching", [False, True])
def test_probabilities_equal_predict_proba(
    record: Record, iris: tuple[Any, Path], engine: Any, *, batching: bool
) -> None:
    """The response has them by class name: exactly for scikit-learn, and up to rounding for ONNX Runtime."""
    estimator, bundle = iris
    service, rows = record(load_bundle(bundle, engine=engine), batching=batching), iris_rows()
    expected = [
        dict(zip(map(str, estimator.classes_), row, strict=True))
        for row in estimator.predict_proba(np.array([list(row.values()) for row in rows])).tolist()
    ]

    single = [service.client.post("/predict", params=ASK, json={"features": row}).json() for row in rows]
    batch = service.client.post("/predict/batch", params=ASK, json={"rows": rows}).json()["predictions"]

    tolerance = {"rel": 1e-12, "abs": 1e-15} if engine == "sklearn" else {"abs": 1e-6}
    for body, probabilities in zip([*single, *batch], [*expected, *expected], strict=True):
        assert body["probabilities"] == pytest.approx(probabilities, **tolerance)
        assert body["probabilities"][body["label"]] == body["confidence"]
        assert list(body["probabilities"]) == list(probabilities)  # in the order of the classes


@pytest.mark.parametrize(
    ("mode", "query", "present"),
    [
        ("on_request", {}, False),
        ("on_request", {"probabilities": "false"}, False),
        ("on_request", {"x": "1"}, False),
        ("on_request", ASK, True),
        ("always", {}, True),
        ("always", ASK, True),
        ("always", {"probabilities": "false"}, False),
        ("never", {}, False),
        ("never", {"probabilities": "false"}, False),
    ],
)
def test_the_setting_and_the_query_decide(
    record: Record, model: Model, rows: list[dict[str, float]], mode: str, query: dict[str, str], *, present: bool
) -> None:
    """The query takes precedence over the setting; both instrumentations answer the same."""
    service = record(model, probabilities=mode)
    with records_service(model, probabilities=mode) as sidecar:
        for client in (service.client, sidecar.client):
            single = client.post("/predict", params=query, json={"features": rows[0]})
            (first, second) = client.post("/predict/batch", params=query, json={"rows": [rows[0], {}]}).json()[
                "predictions"
            ]

            assert single.status_code == 200
            assert ("probabilities" in single.json(), "probabilities" in first) == (present, present)
            assert "error" in second


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    ("query", "changes", "error_type", "message"),
    [
        ("probabilities=yes", {}, "malformed_request", "must be true or false, once"),
        ("probabilities=", {}, "malformed_request", "must be true or false, once"),
        ("probabilities=true&probabilities=true", {}, "malformed_request", "must be true or false, once"),
        ("probabilities=true", {"probabilities": "never"}, "invalid_request", "MODELTRACE_PROBABILITIES=never"),
    ],
)
def test_an_invalid_query_is_400(
    record: Record,
    model: Model,
    rows: list[dict[str, float]],
    path: str,
    query: str,
    changes: dict[str, str],
    error_type: str,
    message: str,
) -> None:
    """The message names the parameter or the setting."""
    service = record(model, **changes)
    body = {"features": rows[0]} if path == "/predict" else {"rows": rows[:2]}

    answer = service.client.post(f"{path}?{query}", json=body)

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, error_type)
    assert message in answer.json()["error"]["message"]


def test_a_regressor_has_no_probabilities(record: Record, model: Model, rows: list[dict[str, float]]) -> None:
    """A request for them is 400; with `always`, the response has the value alone."""
    outputs = [ModelOutput(value=2.5)]
    regressor = replace(model, task="regressor", classes=None, predict_fn=lambda _: outputs, details_fn=None)
    service = record(regressor, probabilities="always")

    answer = service.client.post("/predict", params=ASK, json={"features": rows[0]})

    assert answer.status_code == 400
    assert "the model is a regressor" in answer.json()["error"]["message"]
    assert set(service.client.post("/predict", json={"features": rows[0]}).json()) == {
        "prediction_id", "value", "model", "trace_id",
    }  # fmt: skip
    document = service.client.get("/openapi.json").json()
    assert document["paths"]["/predict"]["post"]["parameters"] == []


def serve(record: Record, model: Model, estimator: Any) -> SdkService:
    """Serve an estimator with the schema of another model."""
    fns = make_predict_fns(estimator, "classifier")
    classes = tuple(map(to_json_label, estimator.classes_))
    return record(replace(model, classes=classes, predict_fn=fns.predict, details_fn=fns.with_details))


def test_a_classifier_without_predict_proba_has_null(record: Record, iris: tuple[Any, Path]) -> None:
    """`probabilities` is null, like `confidence`."""
    service = serve(record, load_bundle(iris[1]), fit(RidgeClassifier(), LABELS)[0])

    body = service.client.post("/predict", params=ASK, json={"features": iris_rows()[0]}).json()

    assert (body["confidence"], body["probabilities"]) == (None, None)


def test_a_probability_that_is_no_number_is_null(record: Record, iris: tuple[Any, Path]) -> None:
    """JSON has no NaN."""
    codes = np.unique(LABELS, return_inverse=True)[1]
    estimator = RadiusNeighborsClassifier(radius=1e-9, outlier_label=-1).fit(X, codes)
    estimator.predict_proba = lambda matrix: np.full((len(matrix), 3), np.nan)
    service = serve(record, load_bundle(iris[1]), estimator)

    body = service.client.post("/predict", params=ASK, json={"features": dict.fromkeys(iris_rows()[0], 100.0)}).json()

    assert body["probabilities"] == {"0": None, "1": None, "2": None}


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (("a", "b"), ("a", "b")),
        ((0, 1), ("0", "1")),
        ((1.5, 2.0), ("1.5", "2.0")),
        ((False, True), ("false", "true")),
        (("Zürich", "1"), ("Zürich", "1")),
        ((1, "1"), ("1", '"1"')),
        ((True, "true"), ("true", '"true"')),
    ],
)
def test_names_of_classes_are_unique(model: Model, classes: Any, names: tuple[str, ...]) -> None:
    """A number or boolean is its JSON text; where two names would be equal, texts have their quotes."""
    assert replace(model, classes=classes).class_names == names


def test_only_requests_that_ask_have_probabilities_in_a_shared_batch(
    model: Model, rows: list[dict[str, float]]
) -> None:
    """Requests that share a model call get what each of them asked for."""
    with records_service(model, batching=True) as sidecar:

        async def send() -> list[dict[str, Any]]:
            transport = httpx.ASGITransport(sidecar.client.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                queries = [ASK if index % 2 else {} for index in range(8)]
                answers = [client.post("/predict", params=query, json={"features": rows[0]}) for query in queries]
                return [answer.json() for answer in await asyncio.gather(*answers)]

        bodies = asyncio.run(send())

    assert ["probabilities" in body for body in bodies] == [bool(index % 2) for index in range(8)]
    assert any(batch.rows > 1 for batch in sidecar.queue.batches)


def test_a_model_that_ran_with_details_predicts_the_same(model: Model, rows: list[dict[str, float]]) -> None:
    """Label and confidence do not depend on the request for probabilities."""
    validator = RowValidator(model.schema)
    matrix = to_matrix([validator.validate(row) for row in rows[:50]], model.schema, as_frame=model.as_frame)

    outputs = model.predict(matrix, details=True)

    assert [(output.label, output.confidence) for output in outputs] == [
        (output.label, output.confidence) for output in model.predict(matrix)
    ]


@pytest.mark.parametrize("batching", [False, True])
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_probabilities_are_recorded_although_no_client_asks(
    iris: tuple[Any, Path], tmp_path: Path, path: str, *, batching: bool
) -> None:
    """The row of the store has each class with its probability; the response does not have them."""
    estimator, bundle = iris
    row = iris_rows()[3]
    body = {"features": row} if path == "/predict" else {"rows": [row]}
    with records_service(load_bundle(bundle), store=str(tmp_path / "s.db"), batching=batching) as sidecar:
        answer = sidecar.client.post(path, json=body).json()
        (stored,) = RowBuilder("0.1.0").build(sidecar.queue.requests[0])

    expected = [
        [label, probability]
        for label, probability in zip(
            estimator.classes_.tolist(), estimator.predict_proba([list(row.values())])[0].tolist(), strict=True
        )
    ]
    assert from_json(stored.probabilities) == expected
    assert "probabilities" not in str(answer)


@pytest.mark.parametrize("changes", [{"store_max_classes": 2}, {"store_max_classes": 0}, {"store": "none"}])
def test_no_probabilities_are_recorded(iris: tuple[Any, Path], tmp_path: Path, changes: dict[str, Any]) -> None:
    """With more classes than the setting allows or without a store, a record has none, also if a client asks."""
    with records_service(load_bundle(iris[1]), **{"store": str(tmp_path / "s.db"), **changes}) as sidecar:
        answer = sidecar.client.post("/predict", params=ASK, json={"features": iris_rows()[0]}).json()

    assert len(answer["probabilities"]) == 3
    ((row,),) = (request.predictions for request in sidecar.queue.requests)
    assert row.probabilities is None
