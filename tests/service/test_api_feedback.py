"""`POST /feedback`: responses, stored labels and metrics."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from modeltrace.inference.model import Model
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef
from modeltrace.store.store import open_store
from tests.helpers.in_process_services import SdkService
from tests.helpers.services import ID_KEY

IDS = PredictionIdSigner(ID_KEY.encode())
CLASSES = ("benign", "malignant")
Post = Callable[..., tuple[int, Any]]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Return the path of a prediction store."""
    return str(tmp_path / "store" / "s.db")


@pytest.fixture
def served(record: Callable[..., SdkService], model: Model, store: str) -> SdkService:
    """Run the service with a store."""
    return record(model, store=SecretStr(store), max_batch_rows=5000)


@pytest.fixture
def post(served: SdkService) -> Post:
    """Return a function that posts a body and returns status and response body."""

    def send(body: Any) -> tuple[int, Any]:
        answer = served.client.post("/feedback", json=body)
        return answer.status_code, answer.json()

    return send


def some_id(number: int, answer: str = "benign") -> str:
    """Return the ID of a prediction that is not stored."""
    return IDS.sign(PredictionRef(number + 1, number + 1, 0, 1_700_000_000_000_000_000, "1.0.0", answer))


def label(number: int, true: str = "benign", predicted: str = "benign") -> dict[str, str]:
    """Return a label of such a prediction."""
    return {"prediction_id": some_id(number, predicted), "label": true}


def counted(service: SdkService, metric: str, *attributes: str) -> Counter[Any]:
    """Return the points of a counter by some of their attributes."""
    points = service.points().get(metric, [])
    return Counter({tuple(map(point.attributes.get, attributes)): point.value for point in points})


def test_a_label_is_stored_once(post: Post, served: SdkService, store: str, rows: list[dict[str, float]]) -> None:
    """The first is new, the second the same, another label a conflict; `trace_id` is that of the prediction."""
    predicted = served.client.post("/predict", json={"features": rows[0]}).json()
    true_label = {"prediction_id": predicted["prediction_id"], "label": "malignant"}

    answers = [post(true_label), post(true_label), post({**true_label, "label": "benign"})]

    result = {"prediction_id": predicted["prediction_id"], "trace_id": predicted["trace_id"]}
    assert answers[:2] == [(200, {**result, "status": "new"}), (200, {**result, "status": "same"})]
    assert answers[2][0] == 409
    assert answers[2][1]["error"]["type"] == "label_conflict"
    with open_store(store) as opened:
        assert opened.counts().labels == 1
    assert counted(served, "ml.feedback", "ml.feedback.label", "ml.prediction.label") == {("malignant", "benign"): 1}
    assert counted(served, "ml.feedback.rejected", "error.type") == {("conflict",): 1}


def test_each_invalid_label_has_its_status(post: Post, served: SdkService) -> None:
    """A single label returns 400, 404 or 422; in a list the error is in the label's position. All are counted."""
    forged = {**label(1), "prediction_id": some_id(1)[:-1] + "A"}
    wrong = [({"label": "benign"}, 400), (forged, 404), (label(1, "purple"), 422)]

    single = [post(item) for item, _ in wrong]
    status, listed = post({"items": [label(2), *(item for item, _ in wrong), label(3)]})

    assert [status for status, _ in single] == [expected for _, expected in wrong]
    assert status == 200
    assert [result.get("status") for result in listed["results"]] == ["new", None, None, None, "new"]
    assert [result["error"] for result in listed["results"][1:4]] == [body["error"] for _, body in single]
    assert post({"items": [label(4)] * 5001})[0] == 413
    assert post({"items": {}})[0] == 400
    assert counted(served, "ml.feedback.rejected", "error.type") == {
        ("malformed",): 3, ("unknown_prediction",): 2, ("invalid_label",): 2,
    }  # fmt: skip


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])) | st.just(some_id(5)) | st.sampled_from(CLASSES),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["prediction_id", "label", "items", "more"]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


def test_any_body_is_answered(served: SdkService) -> None:
    """Any JSON and any bytes: the service never fails, and each response contains the trace ID."""

    @hypothesis_settings(deadline=None, database=None)
    @given(body=json)
    def any_json(body: Any) -> None:
        answer = served.client.post("/feedback", json=body)
        assert answer.status_code in (200, 400, 404, 409, 422)
        assert "trace_id" in answer.json()

    @hypothesis_settings(deadline=None, database=None)
    @given(body=st.binary(max_size=50))
    def any_bytes(body: bytes) -> None:
        assert served.client.post("/feedback", content=body).status_code == 400

    any_json()
    any_bytes()


@pytest.fixture
def fresh(
    record: Callable[..., SdkService], model: Model, tmp_path: Path
) -> Iterator[Callable[[], tuple[SdkService, str]]]:
    """Return a function that starts a service with a new store."""
    number = iter(range(10_000))

    def start() -> tuple[SdkService, str]:
        path = str(tmp_path / f"{next(number)}.db")
        return record(model, store=SecretStr(path)), path

    return start


@pytest.mark.slow
@hypothesis_settings(deadline=None, max_examples=15, database=None, suppress_health_check=list(HealthCheck))
@given(
    posts=st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.sampled_from(CLASSES)), min_size=1, max_size=8), min_size=1, max_size=6
    )
)
def test_any_order_and_repetition_counts_exactly(
    fresh: Callable[[], tuple[SdkService, str]], posts: list[list[tuple[int, str]]]
) -> None:
    """Only the first label of each prediction counts; an equal label is the same, another one a conflict."""
    service, path = fresh()
    first: dict[int, str] = {}
    conflicts = 0
    for post in posts:
        body = {"items": [label(number, true) for number, true in post]}
        results = service.client.post("/feedback", json=body).json()["results"]
        for (number, true), result in zip(post, results, strict=True):
            expected = "new" if number not in first else "same" if first[number] == true else None
            first.setdefault(number, true)
            conflicts += expected is None
            assert result.get("status") == expected
            assert (result.get("error") is None) == (expected is not None)

    assert counted(service, "ml.feedback", "ml.feedback.label") == Counter((true,) for true in first.values())
    assert counted(service, "ml.feedback.rejected", "error.type") == ({("conflict",): conflicts} if conflicts else {})
    with open_store(path) as store:
        assert store.counts().labels == len(first)


@pytest.mark.slow
def test_a_long_list_is_stored_in_chunks(post: Post, served: SdkService) -> None:
    """Thousands of labels in one request have one result each, in the same order."""
    items = [label(number, CLASSES[number % 2]) for number in range(3000)]
    random.Random(1).shuffle(items)  # noqa: S311  not a secret

    _, answer = post({"items": items})

    assert [result["prediction_id"] for result in answer["results"]] == [item["prediction_id"] for item in items]
    assert {result["status"] for result in answer["results"]} == {"new"}
    assert counted(served, "ml.feedback", "ml.feedback.label") == {("benign",): 1500, ("malignant",): 1500}


def test_an_unavailable_store_loses_no_labels(
    record: Callable[..., SdkService], model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The response is 503 with Retry-After, for any number of labels; the same request succeeds later."""
    folder = tmp_path / "folder"
    folder.touch()  # a file at the path of the folder
    service = record(model, store=SecretStr(str(folder / "s.db")))
    labels = {"items": [label(number) for number in range(600)] + [{}]}

    rejected = [service.client.post("/feedback", json=body) for body in (label(700), labels)]
    folder.unlink()
    accepted = service.client.post("/feedback", json=labels)

    assert [answer.status_code for answer in rejected] == [503, 503]
    assert {answer.headers["retry-after"] for answer in rejected} == {"5"}
    assert {answer.json()["error"]["type"] for answer in rejected} == {"store_unavailable"}
    assert str(folder) not in rejected[0].text
    assert caplog.text.count("no label is stored for now") == 1
    assert "labels are stored again" in caplog.text
    assert {result.get("status") for result in accepted.json()["results"]} == {"new", None}
    assert counted(service, "ml.feedback.rejected", "error.type") == {
        ("store_unavailable",): 1 + 600 + 1,
        ("malformed",): 1,
    }
    assert sum(counted(service, "ml.feedback", "ml.feedback.label").values()) == 600


def test_without_a_store_labels_are_counted(service: SdkService) -> None:
    """Each label is new, since previous labels are not stored."""
    statuses = [service.client.post("/feedback", json=label(1, true)).json()["status"] for true in CLASSES]

    assert statuses == ["new", "new"]
    assert sum(counted(service, "ml.feedback", "ml.feedback.label").values()) == 2
