"""`POST /feedback`: what is answered, stored and counted."""

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
Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Where the labels go."""
    return str(tmp_path / "store" / "s.db")


@pytest.fixture
def served(record: Callable[..., SdkService], model: Model, store: str) -> SdkService:
    """The service with a store."""
    return record(model, store=SecretStr(store), max_batch_rows=5000)


@pytest.fixture
def ask(served: SdkService) -> Ask:
    """Posts to it; status and body."""

    def post(body: Any) -> tuple[int, Any]:
        answer = served.client.post("/feedback", json=body)
        return answer.status_code, answer.json()

    return post


def some_id(number: int, answer: str = "benign") -> str:
    """The ID of a prediction that nobody has stored."""
    return IDS.sign(PredictionRef(number + 1, number + 1, 0, 1_700_000_000_000_000_000, "1.0.0", answer))


def label(number: int, true: str = "benign", predicted: str = "benign") -> dict[str, str]:
    """A label of it."""
    return {"prediction_id": some_id(number, predicted), "label": true}


def counted(service: SdkService, metric: str, *attributes: str) -> Counter[Any]:
    """A counter's points by some of their attributes."""
    points = service.points().get(metric, [])
    return Counter({tuple(p.attributes.get(a) for a in attributes): p.value for p in points})


def test_a_label_is_taken_once(ask: Ask, served: SdkService, store: str, rows: list[dict[str, float]]) -> None:
    """New, then the same, then a conflict that changes nothing; `trace_id` is the prediction's."""
    predicted = served.client.post("/predict", json={"features": rows[0]}).json()
    said = {"prediction_id": predicted["prediction_id"], "label": "malignant"}

    answers = [ask(said), ask(said), ask({**said, "label": "benign"})]

    taken = {"prediction_id": predicted["prediction_id"], "trace_id": predicted["trace_id"]}
    assert answers[:2] == [(200, {**taken, "status": "new"}), (200, {**taken, "status": "same"})]
    assert answers[2][0] == 409
    assert answers[2][1]["error"]["type"] == "label_conflict"
    with open_store(store) as opened:
        assert opened.counts().labels == 1
    assert counted(served, "ml.feedback", "ml.feedback.label", "ml.prediction.label") == {("malignant", "benign"): 1}
    assert counted(served, "ml.feedback.rejected", "error.type") == {("conflict",): 1}


def test_each_refusal_has_its_status(ask: Ask, served: SdkService) -> None:
    """400, 404, 413, 422: by itself the status, in a list the same error in its place; each is counted."""
    forged = {**label(1), "prediction_id": some_id(1)[:-1] + "A"}
    wrong = [({"label": "benign"}, 400), (forged, 404), (label(1, "purple"), 422)]

    alone = [ask(one) for one, _ in wrong]
    status, listed = ask({"items": [label(2), *(one for one, _ in wrong), label(3)]})

    assert [status for status, _ in alone] == [expected for _, expected in wrong]
    assert status == 200
    assert [one.get("status") for one in listed["results"]] == ["new", None, None, None, "new"]
    assert [one["error"] for one in listed["results"][1:4]] == [body["error"] for _, body in alone]
    assert ask({"items": [label(4)] * 5001})[0] == 413
    assert ask({"items": {}})[0] == 400
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
    """Any JSON, and any bytes: never a failure of the service, and the trace ID in every answer."""

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
    """Starts services, each with a store of its own."""
    number = iter(range(10_000))

    def start() -> tuple[SdkService, str]:
        place = str(tmp_path / f"{next(number)}.db")
        return record(model, store=SecretStr(place)), place

    return start


@hypothesis_settings(deadline=None, max_examples=15, database=None, suppress_health_check=list(HealthCheck))
@given(
    posts=st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.sampled_from(CLASSES)), min_size=1, max_size=8), min_size=1, max_size=6
    )
)
def test_any_order_and_repetition_counts_exactly(
    fresh: Callable[[], tuple[SdkService, str]], posts: list[list[tuple[int, str]]]
) -> None:
    """The first label of each prediction counts, once; what repeats it is the same, what differs is a conflict."""
    service, place = fresh()
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
    with open_store(place) as store:
        assert store.counts().labels == len(first)


def test_a_long_list_is_taken_in_parts(ask: Ask, served: SdkService) -> None:
    """Thousands in one request, in any order: one result each, in order."""
    items = [label(number, CLASSES[number % 2]) for number in range(3000)]
    random.Random(1).shuffle(items)  # noqa: S311  an order, no secret

    _, answer = ask({"items": items})

    assert [one["prediction_id"] for one in answer["results"]] == [one["prediction_id"] for one in items]
    assert {one["status"] for one in answer["results"]} == {"new"}
    assert counted(served, "ml.feedback", "ml.feedback.label") == {("benign",): 1500, ("malignant",): 1500}


def test_a_store_that_is_away_loses_nothing(
    record: Callable[..., SdkService], model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """503 with Retry-After, for a list of any length; the same request is taken once the store is there."""
    folder = tmp_path / "folder"
    folder.touch()  # no folder can be made in its place
    service = record(model, store=SecretStr(str(folder / "s.db")))
    body = {"items": [label(number) for number in range(600)] + [{}]}

    refused = [service.client.post("/feedback", json=one) for one in (label(700), body)]
    folder.unlink()
    taken = service.client.post("/feedback", json=body)

    assert [answer.status_code for answer in refused] == [503, 503]
    assert {answer.headers["retry-after"] for answer in refused} == {"5"}
    assert {answer.json()["error"]["type"] for answer in refused} == {"store_unavailable"}
    assert str(folder) not in refused[0].text
    assert caplog.text.count("no label is stored for now") == 1
    assert "labels are stored again" in caplog.text
    assert {one.get("status") for one in taken.json()["results"]} == {"new", None}
    rejected = counted(service, "ml.feedback.rejected", "error.type")
    assert rejected == {("store_unavailable",): 1 + 600 + 1, ("malformed",): 1}
    assert sum(counted(service, "ml.feedback", "ml.feedback.label").values()) == 600


def test_without_a_store_labels_are_counted(service: SdkService) -> None:
    """Each is new: nothing knows the one before."""
    statuses = [service.client.post("/feedback", json=label(1, true)).json()["status"] for true in CLASSES]

    assert statuses == ["new", "new"]
    assert sum(counted(service, "ml.feedback", "ml.feedback.label").values()) == 2
