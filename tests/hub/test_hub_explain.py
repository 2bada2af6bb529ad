"""`GET /api/explain`: a planted cause comes first, and data without a cause gives nothing significant."""

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.otlp_messages import log_request, span, trace_request
from tests.helpers.otlp_values import Value, key_values

MS = 10**6
COUNT = 400


@pytest.fixture
def pages() -> Iterator[HubPages]:
    """Yield the pages of an empty hub."""
    with hub_pages() as pages:
        yield pages


def request(
    chance: random.Random, inputs: Mapping[str, Value], *, failed: bool = False, duration_ms: int = 4, **more: Value
) -> tuple[Span, LogRecord]:
    """Return the span of a request and its prediction log record. `more` are attributes of both."""
    trace_id, span_id = chance.randbytes(16), chance.randbytes(8)
    now = time.time_ns() - 60_000 * MS
    attributes: dict[str, Value] = {"ml.model.name": "churn", "ml.model.version": "1.4.0", "ml.prediction.label": "no"}
    attributes |= {name.replace("__", "."): value for name, value in more.items()}
    root = span(
        trace_id=trace_id,
        span_id=span_id,
        name="POST /predict",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=now,
        end_time_unix_nano=now + duration_ms * MS,
        attributes=key_values(
            {
                **attributes,
                "http.response.status_code": 500 if failed else 200,
                "client.address": f"10.0.0.{chance.randrange(4)}",
            }
        ),
        status=Status(code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET),
    )
    prediction = {**attributes, "ml.prediction.id": f"p1.{trace_id.hex()}", "ml.prediction.inputs": inputs}
    record = LogRecord(
        time_unix_nano=now,
        trace_id=trace_id,
        span_id=span_id,
        event_name="ml.prediction",
        attributes=key_values(prediction),
    )
    return root, record


def draw(chance: random.Random) -> dict[str, Any]:
    """Return random inputs of a model."""
    return {
        "plan": chance.choice(["basic", "plus", "premium", "trial"]),
        "country": chance.choice(["DE", "FR", "IT"]),
        "age": chance.uniform(18, 90),
        "visits": chance.randrange(5),
    }


def store(pages: HubPages, requests: list[tuple[Span, LogRecord]]) -> None:
    """Store requests."""
    pages.add(trace_request(*(root for root, _ in requests)), log_request(*(record for _, record in requests)))


def explain(pages: HubPages, query: str) -> dict[str, Any]:
    """Return the answer of the API."""
    response = pages.client.get(f"/api/explain?{query}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def significant(answer: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """Return kind, key and value of the significant properties."""
    return [(row["kind"], row["key"], row["value"]) for row in answer["properties"] if row["significant"]]


def test_the_category_that_fails_is_first(pages: HubPages) -> None:
    """Requests fail for one category of one feature. It is first, and nothing else is significant."""
    chance = random.Random(1)  # noqa: S311  the same telemetry every time
    inputs = [draw(chance) for _ in range(COUNT)]
    failing = [values["plan"] == "premium" and chance.random() < 0.7 for values in inputs]
    store(pages, [request(chance, values, failed=failed) for values, failed in zip(inputs, failing, strict=True)])

    answer = explain(pages, "")

    assert answer == explain(pages, "select.error=true")
    assert significant(answer) == [("feature", "plan", "premium")]
    (first, *_) = answer["properties"]
    fine = [values["plan"] == "premium" for values, failed in zip(inputs, failing, strict=True) if not failed]
    assert (answer["selected"], answer["other"]) == (
        {"count": sum(failing), "sampled": sum(failing)},
        {"count": len(fine), "sampled": len(fine)},
    )
    assert (first["selected_count"], first["other_count"]) == (sum(failing), sum(fine))
    assert first["difference"] == pytest.approx(1 - sum(fine) / len(fine), abs=1e-9)
    assert first["difference_low"] < first["difference"] < first["difference_high"] + 1e-12
    assert first["p_value"] <= first["p_adjusted"] <= first["p_value"] * answer["tests"] <= 0.05
    assert len(first["trace_ids"]) == 3
    assert pages.client.get(f"/t/{first['trace_ids'][0]}").status_code == 200
    # The status is how a request ended, not what it began with.
    assert ("attribute", "http.response.status_code", "500") in [
        (row["kind"], row["key"], row["value"])
        for outcome in answer["outcomes"]
        for row in (outcome, *outcome["same_items"])
    ]


def test_the_bin_that_is_slow_is_first(pages: HubPages) -> None:
    """Requests are slow for large values of a feature: its highest tenth is first, and no other feature is listed."""
    chance = random.Random(2)  # noqa: S311  the same telemetry every time
    inputs = [draw(chance) for _ in range(COUNT)]
    ages = sorted(values["age"] for values in inputs)
    bound = ages[9 * COUNT // 10]
    store(
        pages,
        [
            request(
                chance,
                values,
                duration_ms=chance.randrange(900, 999) if values["age"] > bound else chance.randrange(1, 99),
            )
            for values in inputs
        ],
    )

    answer = explain(pages, "select.min_duration=300ms")

    first = answer["properties"][0]
    assert (first["kind"], first["key"], first["high"]) == ("feature", "age", None)
    assert first["low"] == pytest.approx(bound, rel=0.02)
    assert {key for _, key, _ in significant(answer)} == {"age"}
    assert answer["outcomes"][0]["key"] == "svc: POST /predict"


def test_incorrect_predictions_are_compared_with_correct_ones(pages: HubPages) -> None:
    """Predictions of one country are wrong. Records that were sent twice count once; unlabelled ones do not count."""
    chance = random.Random(3)  # noqa: S311  the same telemetry every time
    inputs = [draw(chance) for _ in range(COUNT)]
    requests = [request(chance, values) for values in inputs]
    store(pages, requests)
    pages.add(log_request(*(record for _, record in requests)))
    labelled = list(zip(inputs, requests, strict=True))[: COUNT // 2]
    pages.add(
        log_request(
            *(
                LogRecord(
                    time_unix_nano=time.time_ns(),
                    event_name="ml.feedback",
                    attributes=key_values(
                        {
                            "ml.prediction.id": f"p1.{root.trace_id.hex()}",
                            "ml.feedback.label": "yes" if values["country"] == "IT" else "no",
                        }
                    ),
                )
                for values, (root, _) in labelled
            )
        )
    )

    query = "of=predictions&select.outcome=incorrect&against.outcome=correct"
    answer = explain(pages, query)
    assert answer == explain(pages, "of=predictions")

    assert significant(answer) == [("feature", "country", "IT")]
    wrong = sum(values["country"] == "IT" for values, _ in labelled)
    assert (answer["selected"]["count"], answer["other"]["count"]) == (wrong, COUNT // 2 - wrong)
    assert answer["properties"][0]["difference"] == pytest.approx(1.0)


def test_ports_rows_and_ids_are_no_properties(pages: HubPages) -> None:
    """Attributes that differ by chance are not tested, even if they separate the sets; other numbers are."""
    chance = random.Random(3)  # noqa: S311  the same values every time
    requests = []
    for number in range(COUNT):
        more: dict[str, Value] = {
            "client__port": 40_000 + number,
            "net__peer__port": 40_000 + number // 20,
            "ml__prediction__row": number // 20,
            "order__number": 7_000 + number,
            "score": number + 0.5,
        }
        requests.append(request(chance, draw(chance), failed=number < COUNT // 4, **more))
    store(pages, requests)

    keys = {key for _, key, _ in significant(explain(pages, "select.error=true"))}

    assert "score" in keys
    assert not keys & {"client.port", "net.peer.port", "ml.prediction.row", "order.number"}


def test_the_page_says_what_is_compared(pages: HubPages) -> None:
    """The sets are a sentence, and failed traces are offered only if some failed."""
    chance = random.Random(4)  # noqa: S311  the same values every time
    store(pages, [request(chance, draw(chance)) for _ in range(9)])
    assert "failed traces</a>" not in pages.client.get("/traces").text
    store(pages, [request(chance, draw(chance), failed=True)])
    assert "failed traces</a>" in pages.client.get("/traces").text

    page = pages.client.get("/explain").text
    assert "<title>What distinguishes traces" in page
    assert "Failed traces are compared with all others." in page
    page = pages.client.get("/explain?of=predictions&model=churn&select.label=no").text
    assert "Predictions with <code>label = no</code> are compared with all others, of those with" in page
    assert "<code>model = churn</code>." in page


def test_two_versions_are_compared(pages: HubPages) -> None:
    """The version is what the sets differ in by definition, so it is not listed; the changed output is."""
    chance = random.Random(4)  # noqa: S311  the same telemetry every time
    versions = [chance.choice(["1.4.0", "1.5.0"]) for _ in range(COUNT)]
    store(
        pages,
        [
            request(
                chance,
                draw(chance),
                ml__model__version=version,
                ml__model__hash=version * 3,
                ml__prediction__label="yes" if chance.random() < (0.7 if version == "1.5.0" else 0.2) else "no",
            )
            for version in versions
        ],
    )
    answer = explain(pages, "of=predictions&select.version=1.5.0&against.version=1.4.0")
    assert significant(answer) == []
    assert [(row["key"], row["value"]) for row in answer["outcomes"]] == [("ml.prediction.label", "yes")]
    assert answer["selected"]["count"] == versions.count("1.5.0")


def test_features_of_predictions_precede_attributes(pages: HubPages) -> None:
    """The output of the model is no property, and a feature is before an attribute that is more frequent."""
    chance = random.Random(8)  # noqa: S311  the same telemetry every time
    requests = []
    for number in range(COUNT):
        selected = number % 2 == 0
        inputs = {**draw(chance), "plan": "trial" if selected and chance.random() < 0.6 else "basic"}
        more = {"ml__model__version": "2" if selected else "1", "ml__prediction__interval__high": float(selected)}
        requests.append(
            request(chance, inputs, http__route="/a" if selected and chance.random() < 0.9 else "/b", **more)
        )
    store(pages, requests)
    answer = explain(pages, "of=predictions&select.version=2&against.version=1")
    assert [(kind, key) for kind, key, _ in significant(answer)][:1] == [("feature", "plan")]
    assert ("attribute", "http.route", "/a") in significant(answer)
    assert not any(key.startswith("ml.prediction.") for _, key, _ in significant(answer))


def test_numbers_are_in_the_bins_of_the_training_data(pages: HubPages) -> None:
    """If the event `ml.model` has the bins of a feature, they are used."""
    chance = random.Random(6)  # noqa: S311  the same telemetry every time
    inputs = [draw(chance) for _ in range(COUNT)]
    event = LogRecord(
        time_unix_nano=time.time_ns(),
        event_name="ml.model",
        attributes=key_values({"ml.model.name": "churn", "ml.model.version": "1.4.0", "ml.model.hash": "h"}),
    )
    event.body.string_value = '{"features": [{"name": "age", "edges": [30.0, 60.0]}]}'
    pages.add(log_request(event))
    store(pages, [request(chance, values, failed=values["age"] > 60) for values in inputs])
    first = explain(pages, "select.error=true")["properties"][0]
    assert (first["key"], first["low"], first["high"]) == ("age", 60.0, None)
    assert (first["selected_share"], first["other_share"]) == (1.0, 0.0)


@pytest.mark.slow
def test_without_a_cause_nothing_is_significant(pages: HubPages) -> None:
    """For random selections, the share with any significant property is about the stated 5 % at most."""
    chance = random.Random(7)  # noqa: S311  the same telemetry every time
    selections = 30
    store(pages, [request(chance, draw(chance), group=f"g{chance.randrange(selections)}") for _ in range(2 * COUNT)])
    answers = [explain(pages, f"select.attr.group=g{number}") for number in range(selections)]
    assert all(10 < answer["selected"]["count"] < 60 and answer["tests"] > 15 for answer in answers)
    # With a probability of 0.05 each, more than 5 of 30 have a probability of 0.3 %.
    assert sum(bool(significant(answer)) for answer in answers) <= 5


def test_large_sets_are_sampled(pages: HubPages) -> None:
    """The answer says how many items there are and how many were examined; the sample is the same each time."""
    chance = random.Random(8)  # noqa: S311  the same telemetry every time
    store(pages, [request(chance, draw(chance), failed=number % 2 == 0) for number in range(COUNT)])
    answer = explain(pages, "select.error=true&sample=100")
    assert answer["selected"] == answer["other"] == {"count": COUNT // 2, "sampled": 100}
    assert answer == explain(pages, "select.error=true&sample=100")


@pytest.mark.parametrize(
    ("query", "parameter", "text"),
    [
        ("select.min_duration=fast", "select.min_duration", "a duration is a number and a unit"),
        ("select.error=true&against.colour=red", "against.colour", "there is no such parameter; the parameters are "),
        ("of=predictions&select.colour=red", "select.colour", "there is no such parameter"),
        ("select.error=true&limit=5", "limit", "a comparison has no such parameter"),
        ("select.error=true&sample=1", "sample", "greater than or equal to 100"),
    ],
)
def test_invalid_parameters_are_named(pages: HubPages, query: str, parameter: str | None, text: str) -> None:
    """The message has the name of the parameter with its prefix."""
    response = pages.client.get(f"/api/explain?{query}")
    error = response.json()["error"]
    assert (response.status_code, error.get("parameter")) == (422, parameter)
    assert text in error["message"]


def test_an_empty_set_has_no_properties(pages: HubPages) -> None:
    """If one of the sets is empty, nothing is tested."""
    chance = random.Random(9)  # noqa: S311  the same telemetry every time
    assert explain(pages, "select.error=true")["selected"] == {"count": 0, "sampled": 0}
    store(pages, [request(chance, draw(chance)) for _ in range(20)])
    answer = explain(pages, "select.error=true")
    assert (answer["selected"]["count"], answer["other"]["count"], answer["tests"]) == (0, 20, 0)
    assert answer["properties"] == answer["outcomes"] == []
