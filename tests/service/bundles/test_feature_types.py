"""Columns of every pandas type: from JSON, the packed model answers as the estimator, and each value has a bin."""

import itertools
import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.loaded_model import load
from modeltrace.bundles.pack import pack
from modeltrace.bundles.verify_outputs import to_rows
from modeltrace.errors import PackError
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.predict_rows import score
from modeltrace.inference.privacy import Redactor
from modeltrace.inference.schema import Feature
from modeltrace.inference.time_values import TimeColumn, format_duration
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.traffic.rows import read_samples, sample_reference
from tests.helpers.column_types import COLUMNS, SumOfColumns
from tests.helpers.in_process_services import records_service

NAME = "größe 日本 𝄞"


def pack_column(column: "pd.Series", out: Path, **options: Any) -> tuple[SumOfColumns, pd.DataFrame, Model]:
    """Pack a model of this column and another one."""
    table = pd.DataFrame({NAME: column, "other": np.arange(len(column), dtype=np.float64)})
    estimator = SumOfColumns().fit(table)
    pack(estimator, table, name="types", out=out, artifact_format="joblib", cross_validation_seconds=0, **options)
    return estimator, table, load_bundle(out, trust_pickle=True)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.extended) for seed in (2, 3, 4))])
@pytest.mark.parametrize("kind", COLUMNS)
def test_answers_to_json_are_those_of_the_estimator(kind: str, seed: int, tmp_path: Path) -> None:
    """Also for missing values; the record contains what was sent, and the bins of all rows are those of training."""
    estimator, table, model = pack_column(COLUMNS[kind](np.random.default_rng(seed)), tmp_path / "bundle")
    if kind == "Decimal":  # the model receives floats
        table = table.astype("float64")
    expected = estimator.predict(table)
    names = model.schema.names
    rows = json.loads(json.dumps([dict(zip(names, row, strict=True)) for row in to_rows(table)]))

    with records_service(model) as service:
        single = [service.client.post("/predict", json={"features": row}).json()["value"] for row in rows[:5]]
        batch = service.client.post("/predict/batch", json={"rows": rows}).json()["predictions"]

    assert single == pytest.approx(expected[:5], rel=1e-6)
    assert [answer["value"] for answer in batch] == pytest.approx(expected, rel=1e-6)
    inputs = [row.inputs for row in service.queue.requests[-1].predictions]
    assert inputs == [tuple(row[name] for name in names) for row in rows]
    assert load(tmp_path / "bundle", trust_pickle=True).predict(table) == pytest.approx(expected, rel=1e-6)

    bins = FeatureBins(model.schema)
    numbers = bins.digitize(inputs, bins.numeric_values(inputs))
    counts = np.bincount(numbers[:, 0], minlength=len(bins.bin_names))
    reference = model.features[0].reference
    own = {name: counts[index] for index, (feature, name) in enumerate(bins.bin_names) if feature == NAME}
    if reference.edges is not None:
        assert {name: share * len(rows) for name, share in reference.shares.items()} == pytest.approx(own)
    assert sum(own.values()) == len(rows)


TIMES = [kind for kind in COLUMNS if "64[" in kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TIMES)
def test_a_time_is_iso_8601(kind: str, tmp_path: Path) -> None:
    """Equal times with other offsets or precisions are equal; other texts are rejected with what is expected."""
    _, _, model = pack_column(COLUMNS[kind](np.random.default_rng(0)), tmp_path / "bundle")
    feature = model.features[0]
    zoned, duration = ", " in kind, kind.startswith("timedelta")
    texts = ["2024-01-31T12:00:00", "2024-01-31 12:00:00.000", "20240131T120000"]
    if zoned:
        texts = [f"{texts[0]}Z", "2024-01-31T13:00:00+01:00", "2024-01-31 12:00:00.000000+00:00"]
    if duration:
        texts = ["P1DT2H0M0S", "PT26H", "PT93600.000S", "P1DT120M"]
    wrong = ["", "yesterday", "P", "PT", "P1M", 5, 0.5, True, ["x"], "9999-01-01T00:00:00", "2024-13-01T00:00:00"]
    wrong += ["P1D"] if not duration else ["2024-01-31T12:00:00", "P999999999D", "P999999999DT999999999H"]
    wrong += [] if duration else ["2024-01-31T12:00:00" if zoned else "2024-01-31T12:00:00Z"]

    with records_service(model) as service:
        values = [
            service.client.post("/predict", json={"features": {NAME: text, "other": 1}}).json()["value"]
            for text in texts
        ]
        for value in wrong:
            answer = service.client.post("/predict", json={"features": {NAME: value, "other": 1}})
            assert answer.status_code == 422, value
            assert feature.time_column.expected in answer.text
            assert "yesterday" not in answer.text
        described = service.client.get("/openapi.json").json()

    assert len(set(values)) == 1
    assert feature.example is not None
    assert feature.time_column.expected in json.dumps(described, ensure_ascii=False)


@pytest.mark.parametrize("kind", TIMES)
def test_generated_rows_and_files_have_valid_times(kind: str, tmp_path: Path) -> None:
    """Sampled rows are answered; rows of a CSV and a Parquet file are those of the training data."""
    estimator, table, model = pack_column(COLUMNS[kind](np.random.default_rng(0)), tmp_path / "bundle")
    sampled = itertools.islice(sample_reference(model.features, random.Random(0)), 200)  # noqa: S311  rows of a test
    sent = [dict(zip(model.schema.names, row, strict=True)) for row in to_rows(table)]
    pd.DataFrame(sent).to_csv(tmp_path / "rows.csv", index=False)
    table.to_parquet(tmp_path / "rows.parquet")

    assert all(isinstance(output, ModelOutput) for output in score(model, [sample.row for sample in sampled]))
    for name in ("rows.csv", "rows.parquet"):
        rows = [sample.row for sample in read_samples(tmp_path / name, model.features)]
        values = [output.value for output in score(model, rows) if isinstance(output, ModelOutput)]
        assert values == pytest.approx(estimator.predict(table), rel=1e-6)


@pytest.mark.slow
@given(
    st.datetimes(
        min_value=pd.Timestamp("1678-01-02").to_pydatetime(), max_value=pd.Timestamp("2261-12-30").to_pydatetime()
    ),
    st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)),
)
def test_texts_are_exact_to_a_microsecond(time: Any, duration: timedelta) -> None:
    """A time or duration is the same after it was written and parsed."""
    naive, zoned = TimeColumn("datetime", "us", None), TimeColumn("datetime", "us", "Asia/Tokyo")
    durations = TimeColumn("timedelta", "us", None)
    microseconds = naive.to_microseconds(time.isoformat())

    assert np.datetime64(microseconds, "us") == np.datetime64(time)
    assert naive.to_microseconds(naive.to_text(microseconds)) == microseconds
    assert zoned.to_microseconds(zoned.to_text(microseconds)) == microseconds
    assert timedelta(microseconds=durations.to_microseconds(format_duration(duration))) == duration
    assert durations.to_text(durations.to_microseconds(format_duration(duration))) == format_duration(duration)


@pytest.mark.parametrize("rule", ["hash", "bucket", "drop"])
@pytest.mark.parametrize("kind", ["datetime64[us, UTC]", "timedelta64[s]"])
def test_private_times_are_redacted(kind: str, rule: Any, tmp_path: Path) -> None:
    """Neither the bundle nor the recorded values contain them; equal times have equal hashes."""
    _, table, model = pack_column(COLUMNS[kind](np.random.default_rng(0)), tmp_path / "bundle", privacy={NAME: rule})
    feature = model.features[0]
    texts = [row[0] for row in to_rows(table)]

    manifest = (tmp_path / "bundle" / "model.json").read_text()
    assert not [text for text in texts if text in manifest]
    assert feature.training_range is None
    same = ("2024-01-31T12:00:00Z", "2024-01-31T13:00:00+01:00") if "datetime" in kind else ("PT26H", "P1DT2H")
    if rule != "drop":
        redactor = Redactor(model.schema, b"key")
        first, second, missing = (redactor.redact_inputs((text, 1.0))[0] for text in (*same, None))
        assert first == second not in same
        assert missing is None
        if rule == "bucket":
            assert first in feature.reference.shares


RANGES: dict[str, tuple[Any, list[str], list[str]]] = {
    "datetime64[us]": (
        ("2024-01-02", "2024-02-01T12:00:00.000001"),
        ["2024-01-02T00:00:00", "2024-01-31", "2024-02-01T12:00:00.000001"],
        ["2024-01-01T23:59:59.999999", "2024-02-01T12:00:00.000002"],
    ),
    "datetime64[us, UTC]": (
        (pd.Timestamp("2024-01-02T01:00+01:00"), pd.Timestamp("2024-01-03T00:00Z")),
        ["2024-01-02T00:00:00Z", "2024-01-03T09:00:00+09:00"],
        ["2024-01-02T00:00:00+01:00", "2024-01-03T00:00:00-01:00"],
    ),
    "timedelta64[s]": (("-PT1H", timedelta(hours=36)), ["-PT3600S", "P1DT12H"], ["-PT1H0M1S", "P2D"]),
}


@pytest.mark.parametrize("kind", RANGES)
def test_a_range_of_times(kind: str, tmp_path: Path) -> None:
    """A time or duration outside is rejected with the range; the example and generated rows are inside."""
    valid_range, inside, outside = RANGES[kind]
    layout = TimeColumn(
        "timedelta" if kind.startswith("timedelta") else "datetime", "us", "UTC" if "UTC" in kind else None
    )
    column = pd.Series([layout.to_text(layout.to_microseconds(text)) for text in (*inside, *outside)] * 20)
    column = pd.to_timedelta(column) if layout.kind == "timedelta" else pd.to_datetime(column, format="ISO8601")
    _, _, model = pack_column(column.astype(kind), tmp_path / "bundle", valid_ranges={NAME: valid_range})
    feature = model.features[0]

    for texts, status in ((inside, 200), (outside, 422)):
        with records_service(model) as service:
            for text in texts:
                answer = service.client.post("/predict", json={"features": {NAME: text, "other": 1}})
                assert answer.status_code == status, text
                if status == 422:
                    assert f"outside the valid range {feature.range_text(feature.valid_range)}" in answer.text
            assert feature.range_text(feature.valid_range) in service.client.get("/openapi.json").text
    rows = [{NAME: feature.example, "other": 1.0}]
    rows += [sample.row for sample in itertools.islice(sample_reference(model.features, random.Random(0)), 100)]  # noqa: S311  rows of a test
    assert all(isinstance(output, ModelOutput) for output in score(model, rows))


@pytest.mark.parametrize(
    ("valid_range", "message"),
    [
        ((0, 1), r"--range .*=0/1: write LOW/HIGH, each an ISO 8601 time without an offset"),
        (("2024-01-01Z", "2025-01-01"), r"write LOW/HIGH, each an ISO 8601 time without an offset"),
        (("P1D", "P2D"), r"write LOW/HIGH, each an ISO 8601 time"),
        (("2025-01-01", "2024-01-01"), r"=2025-01-01/2024-01-01: the lowest value is greater than the highest"),
        (("1700-01-01", "1700-01-02"), r"no value of the training data is in that range"),
    ],
)
def test_a_range_that_does_not_fit_times_is_refused(valid_range: Any, message: str, tmp_path: Path) -> None:
    """The message says what to write."""
    column = COLUMNS["datetime64[us]"](np.random.default_rng(0))

    with pytest.raises(PackError, match=message):
        pack_column(column, tmp_path / "bundle", valid_ranges={NAME: valid_range})


def test_a_range_of_times_does_not_apply_to_numbers(tmp_path: Path) -> None:
    """The message shows the form for numbers."""
    with pytest.raises(PackError, match=r"--range other=2024-01-01/2025-01-01: the column contains numbers; write"):
        pack_column(pd.Series([1.0, 2.0]), tmp_path / "bundle", valid_ranges={"other": ("2024-01-01", "2025-01-01")})


def test_a_unit_belongs_to_times_only(tmp_path: Path) -> None:
    """A hand-written schema with other combinations is refused."""
    _, _, model = pack_column(COLUMNS["datetime64[us]"](np.random.default_rng(0)), tmp_path / "bundle")
    time, number = (feature.model_dump() for feature in model.features)

    for changed in ({**number, "unit": "s"}, {**time, "unit": None}, {**number, "timezone": "UTC"}):
        with pytest.raises(ValidationError, match="unit, and only times a time zone"):
            Feature.model_validate(changed)
