"""Tags: declared names in requests, telemetry, the store and the evaluation."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from sklearn.metrics import accuracy_score
from typer.testing import CliRunner

from modeltrace.cli.main import app
from modeltrace.errors import ModeltraceError, SettingsError
from modeltrace.evaluation.groups import MAX_GROUPS
from modeltrace.inference.model import Model
from modeltrace.settings import read_settings
from modeltrace.sidecar.encode.json_lines import LineEncoder
from modeltrace.sidecar.encode.logs import LogEncoder
from modeltrace.store.rows import RowBuilder, StoredLabel
from modeltrace.store.selection import Selection
from modeltrace.store.store import open_store
from modeltrace.telemetry.records.prediction import Origin
from modeltrace.telemetry.records.sidecar_codec import RecordChunk, RecordDecoder, encode
from tests.helpers.conformance import comparable_spans, sdk_spans
from tests.helpers.factories import TIME, AnsweredRequest, answered_row
from tests.helpers.in_process_services import SdkService, records_service, service_with_challenger

Rows = list[dict[str, float]]
Record = Callable[..., SdkService]
DECLARED = ("channel", "country")
TAGS = {"country": "DE", "channel": "app"}


@pytest.fixture
def served(record: Record, model: Model) -> SdkService:
    """Run a service that declares two tags."""
    return record(model, tags=DECLARED)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"contry": "DE"}, 'undeclared name "contry"; this service declares: channel, country (MODELTRACE_TAGS)'),
        ({"country": ""}, '"tags.country" must be a text of 1 to 64 characters, without control characters'),
        ({"country": "x" * 65}, '"tags.country" must be a text of 1 to 64'),
        ({"country": "a\nb"}, '"tags.country" must be a text of 1 to 64'),
        ({"country": 49}, '"tags.country" must be a text of 1 to 64'),
        ({"country": None}, '"tags.country" must be a text of 1 to 64'),
        ({"country": ["DE"]}, '"tags.country" must be a text of 1 to 64'),
        ("DE", '"tags" must be an object of names and texts'),
    ],
)
def test_invalid_tags_are_400(served: SdkService, rows: Rows, tags: Any, message: str) -> None:
    """The message says what is valid; nothing is predicted."""
    for path, body in (("/predict", {"features": rows[0]}), ("/predict/batch", {"rows": rows[:2]})):
        response = served.client.post(path, json={**body, "tags": tags})

        assert (response.status_code, response.json()["error"]["type"]) == (400, "malformed_request")
        assert message in response.json()["error"]["message"]
    assert served.logs("modeltrace.prediction") == []


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([TAGS], "an array with one object or null for each of the 2 rows"),
        ([TAGS, "DE"], '"tags[1]" must be an object of names and texts'),
        ([TAGS, {"contry": "DE"}], '"tags[1]" has the undeclared name "contry"'),
        ([{"country": ""}, None], '"tags[0].country" must be a text of 1 to 64'),
    ],
)
def test_invalid_tags_of_a_row_are_400(served: SdkService, rows: Rows, tags: Any, message: str) -> None:
    """The message names the row; nothing is predicted."""
    response = served.client.post("/predict/batch", json={"rows": rows[:2], "tags": tags})

    assert (response.status_code, response.json()["error"]["type"]) == (400, "malformed_request")
    assert message in response.json()["error"]["message"]
    assert served.client.post("/predict", json={"features": rows[0], "tags": [TAGS]}).status_code == 400
    assert served.logs("modeltrace.prediction") == []


@pytest.mark.parametrize("instrumentation", ["sidecar", "sdk"])
def test_rows_of_a_batch_have_their_own_tags(
    record: Record, model: Model, rows: Rows, store_url: str, instrumentation: str
) -> None:
    """Log records and stored rows have the tags of their row, the span has none; a shadow has the same."""
    body = {"rows": [rows[0], {}, rows[1], rows[2]], "tags": [{"country": "DE"}, {"country": "FR"}, None, TAGS]}
    expected = [{"country": "DE"}, {}, TAGS]
    challenger = replace(model, version="2.0.0")
    if instrumentation == "sdk":
        service = record(model, tags=DECLARED)
        assert service.client.post("/predict/batch", json=body).status_code == 200
        logs = [tags_of(log.log_record.attributes) for log in service.logs("modeltrace.prediction")]
        spans = [tags_of(span.attributes) for span in service.span_exporter.get_finished_spans()]
    else:
        with records_service(model, challenger, tags=",".join(DECLARED)) as sidecar:
            assert sidecar.client.post("/predict/batch", json=body).status_code == 200
        chunk = RecordDecoder().decode(encode(RecordChunk(requests=sidecar.queue.requests)))
        with open_store(store_url) as store:
            for request in chunk.requests:
                store.add_predictions(RowBuilder("0.1.0").build(request))
            stored = {(row.model_version, row.row): row.tags for page in store.read() for row in page}
        positions = zip((0, 2, 3), expected, strict=True)
        assert stored == {
            (version, position): tags or None for position, tags in positions for version in ("1.0.0", "2.0.0")
        }
        encoded = LogEncoder(Origin(b"", "modeltrace")).predictions(chunk.requests[:1])
        attributes = [log.attributes for content, _ in encoded for log in logs_of(content)]
        logs = [tags_of({item.key: item.value.string_value for item in row}) for row in attributes]
        spans = [tags_of({item.key: item.value for item in span.attributes}) for span in sidecar.spans()]

    assert logs == [{f"ml.tag.{name}": value for name, value in tags.items()} for tags in expected]
    assert not any(spans)


def test_tags_are_an_error_if_the_service_declares_none(service: SdkService, rows: Rows) -> None:
    """The message names the setting."""
    response = service.client.post("/predict", json={"features": rows[0], "tags": {"country": "DE"}})

    assert response.status_code == 400
    assert "this service declares: none (MODELTRACE_TAGS)" in response.json()["error"]["message"]
    for tags in ({}, None):
        assert service.client.post("/predict", json={"features": rows[0], "tags": tags}).status_code == 200


@pytest.mark.parametrize(
    "names", ["Country", "1st", "a.b", "a,a", "é", "x" * 33, ",".join(f"t{n}" for n in range(17)), "a b", "_a"]
)
def test_invalid_names_end_the_start(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names become parts of attributes, columns and addresses."""
    monkeypatch.setenv("MODELTRACE_TAGS", names)

    with pytest.raises(SettingsError, match="MODELTRACE_TAGS: must be at most 16 different names"):
        read_settings()


def test_names_are_declared_by_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is a list of names, separated by commas."""
    monkeypatch.setenv("MODELTRACE_TAGS", "country, channel_2")

    assert read_settings().tags == ("country", "channel_2")


CASES: dict[str, Callable[[Rows], tuple[str, dict[str, Any]]]] = {
    "one row": lambda rows: ("/predict", {"features": rows[0], "tags": TAGS}),
    "a rejected row": lambda _: ("/predict", {"features": {}, "tags": TAGS}),
    "a batch": lambda rows: ("/predict/batch", {"rows": [rows[0], {}, rows[1]], "tags": TAGS}),
    "tags of each row": lambda rows: ("/predict/batch", {"rows": rows[:2], "tags": [TAGS, TAGS]}),
    "an undeclared name": lambda rows: ("/predict", {"features": rows[0], "tags": {"x": "y"}}),
}


@pytest.mark.parametrize("case", CASES)
def test_both_paths_emit_the_same(record: Record, model: Model, rows: Rows, case: str) -> None:
    """Span attributes and log attributes of the sidecar are those of the SDK; no metric has a tag."""
    path, body = CASES[case](rows)
    service = record(model, tags=DECLARED)
    with records_service(model, tags=",".join(DECLARED)) as sidecar:
        statuses = [client.post(path, json=body).status_code for client in (service.client, sidecar.client)]
        spans = comparable_spans(sidecar.spans())

    assert statuses[0] == statuses[1]
    assert spans == comparable_spans(sdk_spans(service))
    expected = {} if case == "an undeclared name" else {"ml.tag.channel": "app", "ml.tag.country": "DE"}
    (server,) = (span for span in service.span_exporter.get_finished_spans() if span.name == f"POST {path}")
    assert tags_of(server.attributes) == ({} if case == "tags of each row" else expected)
    recorded = [tags_of(log.log_record.attributes) for log in service.logs("modeltrace.prediction")]
    assert recorded == [expected] * len(recorded)
    encoded = LogEncoder(Origin(b"", "modeltrace")).predictions(sidecar.queue.requests)
    logs = [log for content, _ in encoded for log in logs_of(content)]
    assert [tags_of({item.key: item.value.string_value for item in log.attributes}) for log in logs] == recorded
    lines = map(json.loads, LineEncoder().encode(sidecar.queue.requests).splitlines())
    assert [tags_of(line) for line in lines if line["logger"] == "modeltrace.prediction"] == recorded
    assert "ml.tag" not in str(service.points())


def tags_of(attributes: Any) -> dict[str, Any]:
    """Return the attributes of tags."""
    return {name: value for name, value in (attributes or {}).items() if name.startswith("ml.tag")}


def logs_of(content: bytes) -> list[Any]:
    """Return the log records of an export request."""
    request = ExportLogsServiceRequest.FromString(content)
    return [log for resource in request.resource_logs for scope in resource.scope_logs for log in scope.log_records]


def test_a_shadow_has_the_tags_of_its_request(model: Model, rows: Rows) -> None:
    """Both versions can be compared by segment."""
    challenger = replace(model, version="2.0.0")
    with service_with_challenger(model, challenger, tags=",".join(DECLARED)) as (client, queue):
        client.post("/predict", json={"features": rows[0], "tags": TAGS})

    assert [request.tags for request in queue.requests] == [(("channel", "app"), ("country", "DE"))] * 2


def test_openapi_describes_the_declared_names(served: SdkService) -> None:
    """The description has each name, and no other name is valid."""
    document = served.client.get("/openapi.json").json()

    for path in ("/predict", "/predict/batch"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        described = body["properties"]["tags"]
        if path == "/predict/batch":
            described, each = described["anyOf"]
            assert each["items"]["properties"] == described["properties"]
        assert (list(described["properties"]), described["additionalProperties"]) == (list(DECLARED), False)
        assert "tags" not in body["required"]


@pytest.fixture
def tagged(store_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with labelled predictions of two countries and of none, and the setting that names it."""
    monkeypatch.setenv("MODELTRACE_STORE", store_url)
    segments: list[tuple[str, tuple[tuple[str, str], ...], int, int]] = [
        ("de", (("channel", "app"), ("country", "DE")), 8, 6),
        ("quote", (("country", "a\"b'\\ü"),), 4, 1),
        ("none", (), 5, 5),
    ]
    with open_store(store_url) as store:
        for prefix, tags, number, correct in segments:
            ids = [f"{prefix}{index}" for index in range(number)]
            request = AnsweredRequest([answered_row(each, row=index) for index, each in enumerate(ids)], tags=tags)
            store.add_predictions(RowBuilder("0.1.0").build(request))
            store.add_labels(
                [
                    StoredLabel(each, "benign" if index < correct else "malignant", TIME + 1, TIME)
                    for index, each in enumerate(ids)
                ]
            )
    return store_url


def run(*arguments: str) -> str:
    """Run a command and return its output.

    Raises:
        ModeltraceError: the error of the command.
    """
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    if isinstance(result.exception, ModeltraceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_store_selects_by_tag(tagged: str) -> None:
    """Tags are compared exactly and must all match; an empty value selects predictions without the tag."""
    with open_store(tagged) as store:

        def ids(*tags: tuple[str, str]) -> set[str]:
            return {row.prediction_id.rstrip("01234567") for page in store.read(Selection(tags=tags)) for row in page}

        assert ids(("country", "DE")) == {"de"}
        assert ids(("country", "a\"b'\\ü")) == {"quote"}
        assert ids(("country", "de")) == ids(("other", "DE")) == ids(("country", "DE"), ("channel", "web")) == set()
        assert ids(("country", "DE"), ("channel", "app")) == {"de"}
        assert ids(("channel", "")) == {"quote", "none"}
        stored = store.find("de0")
        assert stored is not None
        assert stored.tags == {"channel": "app", "country": "DE"}


@pytest.mark.usefixtures("tagged")
def test_an_export_is_filtered_and_has_the_tags(tmp_path: Path) -> None:
    """JSON Lines have an object, Parquet has JSON text."""
    run("audit", "export", str(tmp_path / "a.jsonl"), "--tag", "country=DE")
    run("audit", "export", str(tmp_path / "a.parquet"))

    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["tags"] for line in lines] == [{"channel": "app", "country": "DE"}] * 8
    column = pq.read_table(tmp_path / "a.parquet").column("tags").to_pylist()
    assert column.count('{"channel":"app","country":"DE"}') == 8
    assert column.count(None) == 5
    result = CliRunner().invoke(app, ["audit", "export", str(tmp_path / "b.jsonl"), "--tag", "country"])
    assert (result.exit_code, "NAME=VALUE" in result.output) == (2, True)


@pytest.mark.usefixtures("tagged")
def test_an_evaluation_is_filtered_and_segmented() -> None:
    """Each value has the metrics of its predictions alone; predictions without the tag are a segment of their own."""
    (of_germany,) = json.loads(run("evaluate", "--tag", "country=DE", "--json"))
    by_country = json.loads(run("evaluate", "--by", "country", "--json"))
    text = run("evaluate", "--by", "country")

    figures = {part["segment"]["country"]: part["classification"]["accuracy"] for part in by_country}
    expected = {None: (5, 5), "DE": (6, 8), "a\"b'\\ü": (1, 4)}
    assert list(figures) == list(expected)
    for value, (correct, number) in expected.items():
        truth = ["benign"] * correct + ["malignant"] * (number - correct)
        assert figures[value] == pytest.approx(accuracy_score(truth, ["benign"] * number), abs=1e-12)
    assert of_germany == {**by_country[1], "segment": None}
    assert ", country=DE" in text
    assert ", without country" in text


def test_a_tag_with_too_many_values_is_no_segment(tagged: str) -> None:
    """The error says how many are possible."""
    with open_store(tagged) as store:
        for number in range(MAX_GROUPS):
            request = AnsweredRequest([answered_row(f"p{number}")], tags=(("country", str(number)),))
            store.add_predictions(RowBuilder("0.1.0").build(request))

    with pytest.raises(ModeltraceError, match=f"the tag country has more than {MAX_GROUPS} values in this selection"):
        run("evaluate", "--by", "country")


def test_an_erased_prediction_has_no_tags(tagged: str) -> None:
    """A row that is written again does not bring them back."""
    shadow = AnsweredRequest([answered_row("s")], shadow_of=("de0",), tags=(("country", "DE"),))
    with open_store(tagged) as store:
        store.add_predictions(RowBuilder("0.1.0").build(shadow))
        store.erase(["de0"], TIME + 9)
        store.add_predictions(RowBuilder("0.1.0").build(shadow))

        erased = [store.find(prediction_id) for prediction_id in ("de0", "s")]
    assert [row and row.tags for row in erased] == [None, None]
