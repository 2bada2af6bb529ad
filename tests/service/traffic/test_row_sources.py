"""Rows are sampled from the model's reference bins or read from files."""

from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.bin_names import MISSING, OTHER
from modeltrace.bundles.column_schema import describe_column
from modeltrace.bundles.schema_redaction import redact_schema
from modeltrace.inference.schema import Feature, Reference, Schema
from modeltrace.inference.validate import validate_row
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.printable import has_control_characters
from modeltrace.traffic.fault_injection import make_rng
from modeltrace.traffic.rows import (
    RowSourceError,
    Sample,
    cycle_shuffled,
    load_samples,
    sample_reference,
    value_sampler,
)
from tests.helpers.tables import customers_without_gaps

finite = st.floats(-1e6, 1e6)
names = st.text(min_size=1, max_size=8)


def shares_over(labels: list[str]) -> st.SearchStrategy[dict[str, float]]:
    """Generate shares of these bins."""
    return st.fixed_dictionaries({label: st.just(0.0) | st.floats(0.001, 1) for label in labels})


@st.composite
def numbers(draw: st.DrawFn) -> Feature:
    """Generate a number or an integer with up to nine edges and an optional valid range."""
    kind = draw(st.sampled_from(("number", "integer")))
    points = sorted(draw(st.sets(st.integers(-1000, 1000) if kind == "integer" else finite, min_size=2, max_size=11)))
    valid = sorted(draw(st.lists(st.integers(-2000, 2000), min_size=2, max_size=2)))
    bins = [f"{index:02d}" for index in range(len(points) - 1)]
    return Feature(
        name=draw(names.filter(lambda name: not has_control_characters(name))),
        type=kind,
        nullable=draw(st.booleans()),
        training_range=(points[0], points[-1]),
        valid_range=draw(st.none() | st.just(tuple(valid))),
        example=valid[0],
        reference=Reference(n=10, shares=draw(shares_over([*bins, MISSING, OTHER])), edges=tuple(points[1:-1])),
    )


@st.composite
def labelled(draw: st.DrawFn) -> Feature:
    """Generate a boolean, or a category that may have more values than bins and may be enforced."""
    known = tuple(sorted(draw(st.sets(names, min_size=1, max_size=6))))
    if draw(st.booleans()):
        kind, categories, bins, example = "boolean", None, ["true", "false"], True
    else:
        kind, categories, bins, example = "category", known, list(known[: draw(st.integers(0, 6))]), known[0]
    return Feature(
        name=draw(names.filter(lambda name: not has_control_characters(name))),
        type=kind,
        nullable=draw(st.booleans()),
        categories=categories,
        enforce_categories=draw(st.booleans()),
        example=example,
        reference=Reference(n=10, shares=draw(shares_over([*bins, MISSING, OTHER]))),
    )


@pytest.mark.slow
@given(st.lists(numbers() | labelled(), min_size=1, max_size=6, unique_by=lambda f: f.name), st.integers())
def test_sampled_rows_are_valid(features: list[Feature], seed: int) -> None:
    """Sampled rows have no violations of the schema, for any features."""
    schema = Schema(features=tuple(features))
    for sample in islice(sample_reference(features, make_rng(seed)), 20):
        assert validate_row(sample.row, schema) == []


def test_sampled_values_have_the_training_distribution() -> None:
    """Each bin has its share of the sampled values."""
    feature = Feature(
        name="age",
        type="number",
        nullable=True,
        training_range=(0, 100),
        reference=Reference(n=10, edges=(10.0,), shares={"00": 0.7, "01": 0.2, MISSING: 0.1}),
    )
    sample = value_sampler(feature, make_rng(1))
    values = [sample() for _ in range(10_000)]
    low = sum(1 for value in values if value is not None and value <= 10)
    assert low / 10_000 == pytest.approx(0.7, abs=0.02)
    assert values.count(None) / 10_000 == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("rule", ["hash", "bucket", "drop"])
def test_rows_of_private_features_are_valid(rule: Any) -> None:
    """Sampled rows are valid, and each bin has its share although the limits of the training range are unknown."""
    data = customers_without_gaps()
    data.loc[:11, ["city", "income"]] = None
    described = Schema(features=tuple(describe_column(data[name]) for name in data.columns))
    schema = redact_schema(described, data, dict.fromkeys(data.columns, rule))

    rows = [sample.row for sample in islice(sample_reference(schema.features, make_rng(1)), 2000)]

    assert not [violation for row in rows for violation in validate_row(row, schema)]
    bins = FeatureBins(schema)
    values: Any = [tuple(row.values()) for row in rows]
    counts = np.bincount(bins.digitize(values, bins.numeric_values(values)).ravel(), minlength=len(bins.bin_names))
    shares = dict(zip(bins.bin_names, counts / 2000, strict=True))
    for feature in schema.features:
        for name, share in feature.reference.shares.items():
            assert shares[feature.name, name] == pytest.approx(share, abs=0.04), (feature.name, name)


def feature(name: str, kind: str, **more: object) -> Feature:
    """Return a feature without reference shares."""
    categories = ("a",) if kind == "category" else None
    return Feature(name=name, type=kind, categories=categories, reference=Reference(n=1, shares={}), **more)


FEATURES = (feature("size", "number", nullable=True), feature("code", "category"), feature("member", "boolean"))


@pytest.fixture(params=[".csv", ".parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two rows in each format, with a target and a column that is not a feature."""
    path = tmp_path / f"rows{request.param}"
    frame = pd.DataFrame(
        {"size": [1.5, None], "code": ["01", "b"], "member": [True, False], "y": ["yes", "no"], "note": ["n", "n"]}
    )
    frame.to_csv(path, index=False) if request.param == ".csv" else frame.to_parquet(path)
    return path


def test_rows_of_files_are_converted_to_json_values(file: Path) -> None:
    """A missing value becomes null, a category stays text even if it looks like a number, and only features remain."""
    assert load_samples(file, FEATURES, "y") == [
        Sample({"size": 1.5, "code": "01", "member": True}, "yes"),
        Sample({"size": None, "code": "b", "member": False}, "no"),
    ]


def test_decimals_of_a_file_are_floats(tmp_path: Path) -> None:
    """A decimal column, which `pack` treats as floats, is sent as floats."""
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"size": [Decimal("1.50"), None]}).to_parquet(path)

    assert [sample.row for sample in load_samples(path, FEATURES[:1])] == [{"size": 1.5}, {"size": None}]


def test_file_without_a_feature_is_an_error(file: Path) -> None:
    """The message names the file and the feature."""
    with pytest.raises(RowSourceError, match=r"rows\.\w+ lacks the feature weight"):
        load_samples(file, (*FEATURES, feature("weight", "number")))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("rows.csv", b"size,code,member\n", "has no rows"),
        ("rows.csv", b"", "cannot be read"),
        ("rows.parquet", b"not parquet", "cannot be read"),
        ("rows.xlsx", b"", r"must end in \.csv, \.tsv, \.jsonl .*\.parquet"),
    ],
)
def test_unusable_file_is_an_error(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    """The message contains the reason."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RowSourceError, match=complaint):
        load_samples(path, FEATURES)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(RowSourceError, match=r"none\.csv cannot be read"):
        load_samples(tmp_path / "none.csv", FEATURES)


@given(st.lists(st.integers(), min_size=1, max_size=20), st.integers())
def test_all_rows_are_used_before_any_is_repeated(values: list[int], seed: int) -> None:
    """Rows are repeated in rounds, each in another order."""
    samples = [Sample({"x": value}) for value in values]
    two_rounds = list(islice(cycle_shuffled(samples, make_rng(seed)), 2 * len(samples)))
    for part in (two_rounds[: len(values)], two_rounds[len(values) :]):
        assert sorted(part, key=lambda s: s.row["x"]) == sorted(samples, key=lambda s: s.row["x"])
