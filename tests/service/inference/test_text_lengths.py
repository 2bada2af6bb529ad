"""The maximum length of a text: longer texts reach neither the model nor any record."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from typer.testing import CliRunner

from modeltrace.api.openapi import describe_predict
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.pack import pack
from modeltrace.bundles.schema_redaction import redact_schema
from modeltrace.cli.main import app
from modeltrace.errors import InvalidFeaturesError, PackError
from modeltrace.inference.model import Model
from modeltrace.inference.pipeline import MAX_MESSAGE_LENGTH, MAX_STACKTRACE_LENGTH, record_failure
from modeltrace.inference.schema import DEFAULT_MAX_LENGTH, Feature, Schema
from modeltrace.inference.validate import RowValidator
from modeltrace.telemetry.records.trace import RequestTrace
from tests.helpers.in_process_services import records_service
from tests.helpers.schemas import REFERENCE
from tests.helpers.tables import customers, schema_of


def text_model(folder: Path, **options: Any) -> Model:
    """Return a model with a category of short texts that accepts any other text as well."""
    data = customers()[["age", "city"]].fillna({"city": "Trier"})
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough")
    estimator = make_pipeline(encoder, LogisticRegression(max_iter=1000)).fit(data, data.age > 50)
    return load_bundle(pack(estimator, data, name="people", out=folder / "b", **options))


@pytest.mark.parametrize(
    ("longest", "limit"), [(1, 256), (64, 256), (65, 512), (100, 512), (1_000, 4_096), (5_000, 32_768)]
)
@pytest.mark.parametrize("dtype", ["str", "category"])
def test_the_limit_follows_from_the_training_data(longest: int, limit: int, dtype: str) -> None:
    """It is four times the longest text, rounded up to a power of two, and at least 256."""
    column = pd.Series(["a", "x" * longest, None], name="c", dtype=dtype)

    assert describe_column(column).max_length == limit
    assert describe_column(column, max_length=7_000).max_length == 7_000


def test_a_private_text_keeps_its_limit() -> None:
    """A power of two discloses little about the texts."""
    data = pd.DataFrame({"c": ["a", "x" * 100]})

    (feature,) = redact_schema(schema_of(data), data, {"c": "hash"}).features

    assert (feature.max_length, feature.categories) == (512, None)


@pytest.mark.parametrize("action", ["reject", "count"])
def test_a_longer_text_is_rejected_whatever_is_allowed(action: Any) -> None:
    """The message contains the feature and the limit, and never the text."""
    actions = dict.fromkeys(("type", "category", "missing"), action)
    feature = Feature.model_validate(
        {"name": "c", "type": "category", "dtype": "object", "categories": ("a",), "enforce_categories": True}
        | {"max_length": 300, "on_violation": actions, "reference": REFERENCE}
    )
    validator = RowValidator(Schema(features=(feature,)))
    counts: dict[tuple[str, str, bool], int] = {}

    with pytest.raises(InvalidFeaturesError, match=r"^c: longer than 300 characters, the limit for this text$"):
        validator.validate({"c": "é" * 301}, counts)

    assert counts == {("c", "length", False): 1}
    if action == "count":
        assert validator.validate({"c": "é" * 300}) == ("é" * 300,)


def test_a_schema_without_a_limit_uses_the_default() -> None:
    """Without `max_length`, the default limit applies."""
    feature = Feature(name="c", type="category", dtype="object", categories=("a",), reference=REFERENCE)
    validator = RowValidator(Schema(features=(feature,)))

    assert validator.validate({"c": "x" * DEFAULT_MAX_LENGTH})
    with pytest.raises(InvalidFeaturesError, match="longer than 65,536 characters"):
        validator.validate({"c": "x" * (DEFAULT_MAX_LENGTH + 1)})


def test_a_longer_text_is_answered_with_422(tmp_path: Path) -> None:
    """Neither the response nor any record of the request contains the text."""
    with records_service(text_model(tmp_path)) as service:
        response = service.client.post("/predict", json={"features": {"age": 3, "city": "x" * 100_000}})

        assert response.status_code == 422
        assert "city: longer than 256 characters" in response.text
        assert len(response.text) < 1_000
        assert "xxx" not in repr(service.queue.requests)


def test_the_limit_is_part_of_the_api_description(tmp_path: Path) -> None:
    """OpenAPI contains maxLength, and GET /model max_length."""
    model = text_model(tmp_path)

    assert "'maxLength': 256" in repr(describe_predict(model.schema))
    assert model.describe()["features"][1]["max_length"] == 256


def test_the_message_of_an_estimator_is_truncated() -> None:
    """The message may repeat its input; the number of removed characters is recorded."""
    trace = RequestTrace()
    try:
        raise ValueError("could not convert " + "x" * 50_000)
    except ValueError as error:
        record_failure(trace, "inference", error)

    failure = trace.failure
    assert failure is not None
    assert failure.message.endswith("xxx… (45,922 more characters)")
    assert len(failure.message) < MAX_MESSAGE_LENGTH + 40
    assert len(failure.stacktrace) < MAX_STACKTRACE_LENGTH + 40


def test_names_of_unknown_features_are_truncated() -> None:
    """The client chooses these names."""
    feature = Feature(name="a", type="number", reference=REFERENCE)

    with pytest.raises(InvalidFeaturesError) as raised:
        RowValidator(Schema(features=(feature,))).validate({"a": 1.0, "n" * 1_000: 2})

    assert [violation.feature for violation in raised.value.violations] == ["n" * 63 + "…"]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"city": 2}, "--max-length city=2: the column contains a text of 7 characters"),
        ({"age": 20}, "column age has the type integer, not text"),
        ({"town": 20}, "--max-length town: the training data has no feature of that name"),
    ],
)
def test_invalid_limits_are_rejected(limits: dict[str, int], message: str, tmp_path: Path) -> None:
    """Every text of the training data must be accepted."""
    with pytest.raises(PackError, match=message):
        text_model(tmp_path, max_lengths=limits)


def test_the_command_sets_a_limit(tmp_path: Path) -> None:
    """An invalid `--max-length FEATURE=CHARACTERS` is rejected before any file is read."""
    data = customers()[["age", "city"]].fillna({"city": "Trier"})
    text_model(tmp_path)
    data.to_csv(tmp_path / "d.csv", index=False)
    arguments = ["pack", str(tmp_path / "b" / "model.skops"), "--data", str(tmp_path / "d.csv")]

    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "c"), "--max-length", "city=2000"])
    assert result.exit_code == 0, result.output
    assert read_manifest(tmp_path / "c")[0].features[1].max_length == 2000

    rejected = CliRunner().invoke(app, [*arguments, "--max-length", "city=long"])
    assert rejected.exit_code == 2
    assert "FEATURE=CHARACTERS" in rejected.output
