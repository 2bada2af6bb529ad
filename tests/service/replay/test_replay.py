"""Replay runs stored inputs through the recorded model again, or reports why it cannot."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.errors import BundleIntegrityError, BundleNotFoundError, UntrustedModelError
from modeltrace.inference.privacy import Redactor
from modeltrace.inference.validate import RowValidator
from modeltrace.replay.replay import replay
from modeltrace.replay.run import ModelReplay, Replayer, group_by_model, overall_verdict
from modeltrace.settings import read_settings
from tests.helpers.bundles import flip_byte, iris_rows, pack_iris
from tests.helpers.estimators import LABELS, VALUES, X, iris_frame
from tests.helpers.factories import stored_predictions


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a model."""
    folder = tmp_path_factory.mktemp("models")
    pack_iris(folder / "one", "1.0.0", onnx=True)
    pack_iris(folder / "two", "2.0.0", strength=0.01)
    return folder


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    """A catalog; a warning fails the test."""
    with Catalog(pytest.fail) as catalog:
        yield catalog


def replayer(catalog: Catalog, *sources: Path, trust_pickle: bool = False) -> Replayer:
    """Return a replayer that searches these folders."""
    return Replayer(catalog, list(map(str, sources)), read_settings(trust_pickle=trust_pickle))


def test_the_recorded_model_gives_equal_outputs(models: Path, catalog: Catalog) -> None:
    """The bundle is found by the model's hash, although a newer version exists."""
    stored = stored_predictions(load_bundle(models / "one"), iris_rows(20))
    result = replayer(catalog, models).replay(stored, None)

    assert (result.verdict, result.bundle.version, result.engine) == ("equal", "1.0.0", "sklearn")
    assert result.recorded_bundle == result.bundle
    assert all(in_bundle == installed for in_bundle, installed in result.libraries.values())
    assert {row.difference for row in result.rows} == {0.0}


def test_a_single_row_equals_the_row_of_a_batch(models: Path, catalog: Catalog) -> None:
    """The effect of the batch size on rounding is within the tolerance."""
    stored = stored_predictions(load_bundle(models / "one"), iris_rows(50))

    assert {replayer(catalog, models).replay([prediction], None).verdict for prediction in stored[::7]} == {"equal"}


def test_predictions_of_onnx_runtime_are_replayed_with_it(models: Path, catalog: Catalog) -> None:
    """The ONNX file has its own hash; a bundle without an ONNX model is replayed with scikit-learn."""
    stored = stored_predictions(load_bundle(models / "one", engine="onnx"), iris_rows(20))
    same, other = (replayer(catalog, models).replay(stored, against) for against in (None, "2.0.0"))

    assert (same.verdict, same.engine, other.engine) == ("equal", "onnx", "sklearn")


def test_another_version_gives_the_outputs_of_that_version(models: Path, catalog: Catalog) -> None:
    """The other version is named by its version, by its folder, or as a source."""
    stored = stored_predictions(load_bundle(models / "one"), iris_rows(20))
    other = stored_predictions(load_bundle(models / "two"), iris_rows(20))
    for against in ("2.0.0", str(models / "two"), f"{models}@2.0.0"):
        result = replayer(catalog, models).replay(stored, against)

        assert result.verdict == "different"
        assert (result.recorded_bundle and result.recorded_bundle.version, result.bundle.version) == ("1.0.0", "2.0.0")
        for row, before, after in zip(result.rows, stored, other, strict=True):
            assert before.confidence is not None
            assert after.confidence is not None
            assert row.label_changed == (before.label != after.label)
            expected = None if row.label_changed else pytest.approx(after.confidence - before.confidence, abs=1e-12)
            assert row.difference == expected


def test_a_regressor_is_replayed(tmp_path: Path, catalog: Catalog) -> None:
    """Values are compared instead of labels."""
    bundle = pack(LinearRegression().fit(X, VALUES), iris_frame(), name="sepals", out=tmp_path / "sepals")
    stored = stored_predictions(load_bundle(bundle), iris_rows(9))

    assert replayer(catalog, bundle).replay(stored, None).verdict == "equal"
    changed = [stored[0], stored[1]._replace(value=(stored[1].value or 0.0) + 1e-6)]
    assert replayer(catalog, bundle).replay(changed, None).counts == {"equal": 1, "different": 1}


def test_an_unknown_hash_is_an_error_that_names_the_sources(models: Path, catalog: Catalog) -> None:
    """A replay against another model works without the recorded bundle."""
    stored = stored_predictions(load_bundle(models / "one"), iris_rows(3))

    with pytest.raises(BundleNotFoundError, match=f"SHA-256 {stored[0].model_hash} in .*two"):
        replayer(catalog, models / "two").replay(stored, None)
    result = replayer(catalog, models / "two").replay(stored, "2.0.0")
    assert (result.recorded_bundle, result.verdict) == (None, "different")


def test_another_feature_schema_is_reported(models: Path, catalog: Catalog) -> None:
    """If the same model was packed again with other privacy rules, the recorded rules are unknown."""
    model = load_bundle(models / "one")
    stored = stored_predictions(model, iris_rows(3))
    for schema_hash, rules_known in ((None, True), (model.schema.hash, True), ("0" * 64, False)):
        result = replayer(catalog, models).replay(
            [prediction._replace(schema_hash=schema_hash) for prediction in stored], None
        )

        assert (result.privacy_rules_known, result.verdict) == (rules_known, "equal")


def test_an_altered_model_is_not_loaded(models: Path, tmp_path: Path, catalog: Catalog) -> None:
    """Loading a bundle verifies the hash of its files."""
    stored = stored_predictions(load_bundle(models / "one"), iris_rows(3))
    copy = Path(shutil.copytree(models / "one", tmp_path / "copy"))
    flip_byte(copy / "model.skops")

    with pytest.raises(BundleIntegrityError, match=r"model\.skops"):
        replayer(catalog, copy).replay(stored, None)


def test_a_pickle_is_loaded_only_if_trusted(tmp_path: Path, catalog: Catalog) -> None:
    """The rule is the same as for serving."""
    bundle = pack_iris(tmp_path / "pickled", "1", artifact_format="joblib")
    stored = stored_predictions(load_bundle(bundle, trust_pickle=True), iris_rows(3))

    with pytest.raises(UntrustedModelError):
        replayer(catalog, bundle).replay(stored, None)
    assert replayer(catalog, bundle, trust_pickle=True).replay(stored, None).verdict == "equal"


def test_erased_inputs_are_reported_and_other_rows_replayed(models: Path, catalog: Catalog) -> None:
    """The verdict is `incomplete`: no row differs, but one is missing."""
    stored = stored_predictions(load_bundle(models / "one"), iris_rows(5))
    stored[2] = stored[2]._replace(inputs=None, erased=7)
    result = replayer(catalog, models).replay(stored, None)

    assert (result.counts, result.verdict) == ({"equal": 4, "not_replayable": 1}, "incomplete")
    assert result.rows[2].reason == "its inputs were erased"
    assert result.reasons() == ["1 of iris 1.0.0 cannot be replayed: its inputs were erased"]


def test_inputs_that_privacy_rules_changed_are_not_replayed(tmp_path: Path, catalog: Catalog) -> None:
    """This holds for each rule, because the stored inputs are not those that were sent."""
    rules = {"sepal_length": "hash", "sepal_width": "bucket", "petal_width": "drop"}
    bundle = pack_iris(tmp_path / "private", "1", privacy=rules)
    model = load_bundle(bundle)
    redactor, validator = Redactor(model.schema, b"a key of the tests"), RowValidator(model.schema)
    redacted = [
        dict(zip(model.schema.recorded_names, redactor.redact_inputs(validator.validate(row)), strict=True))
        for row in iris_rows(2)
    ]
    stored = [
        prediction._replace(inputs=inputs)
        for prediction, inputs in zip(stored_predictions(model, iris_rows(2)), redacted, strict=True)
    ]

    result = replayer(catalog, bundle).replay(stored, None)
    assert (result.verdict, result.counts) == ("incomplete", {"not_replayable": 2})
    (reason,) = result.reasons()
    assert reason.startswith("2 of iris 1 cannot be replayed: privacy rules changed the stored inputs: ")
    assert reason.endswith(": sepal_length (hash), sepal_width (bucket), petal_width (drop)")


def test_allowed_violations_are_allowed_again(tmp_path: Path, catalog: Catalog) -> None:
    """A value of an invalid type was missing for the model, and is null in the store."""
    names = list(iris_frame().columns)
    bundle = pack(
        HistGradientBoostingClassifier(max_iter=3).fit(X, LABELS),
        iris_frame(),
        name="iris",
        out=tmp_path / "iris",
        allowed_violations={names[0]: ["type"]},
    )
    model = load_bundle(bundle)
    sent = [{**iris_rows(1)[0], names[0]: "text"}, *iris_rows(2)]
    stored = stored_predictions(model, sent)
    read = [dict(zip(names, RowValidator(model.schema).validate(row), strict=True)) for row in sent]
    assert read[0][names[0]] is None

    result = replayer(catalog, bundle).replay(
        [prediction._replace(inputs=inputs) for prediction, inputs in zip(stored, read, strict=True)], None
    )
    assert result.verdict == "equal"
    missing = {**read[1], names[1]: None}
    result = replayer(catalog, bundle).replay([stored[1]._replace(inputs=missing)], None)
    assert (result.verdict, result.rows[0].outcome) == ("different", "rejected")


def test_missing_and_invalid_inputs_are_reported(models: Path) -> None:
    """One row lacks a feature, and the schema rejects another row."""
    model = load_bundle(models / "one")
    stored = stored_predictions(model, iris_rows(3))
    name = model.schema.names[0]
    incomplete = stored[0]._replace(inputs={k: v for k, v in (stored[0].inputs or {}).items() if k != name})
    invalid = stored[1]._replace(inputs={**(stored[1].inputs or {}), name: "text"})

    results = replay([incomplete, invalid, stored[2]], model.schema, model, 0.0)
    assert [row.outcome for row in results] == ["not_replayable", "rejected", "equal"]
    assert results[0].reason == f"{name} is not stored"
    assert results[1].reason == f"the schema rejects it: {name}: expected a number, got a string"


def test_predictions_of_several_models_are_replayed_with_their_models(models: Path, catalog: Catalog) -> None:
    """A trace may contain predictions of a challenger."""
    stored = [
        *stored_predictions(load_bundle(models / "two"), iris_rows(3)),
        *stored_predictions(load_bundle(models / "one"), iris_rows(3)),
    ]
    results: list[ModelReplay] = [
        replayer(catalog, models).replay(predictions, None) for predictions in group_by_model(stored)
    ]

    assert sorted((result.version, result.verdict) for result in results) == [("1.0.0", "equal"), ("2.0.0", "equal")]
    assert overall_verdict(results, complete=True) == "equal"
    assert overall_verdict(results, complete=False) == "incomplete"
    assert overall_verdict([], complete=False) == "incomplete"
