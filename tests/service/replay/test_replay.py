"""Recorded predictions are answered again by the model that answered them, or it is said why not."""

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
from modeltrace.replay.replay import check_inputs, replay
from modeltrace.replay.run import ModelReplay, Replayer, group_by_model, overall_verdict
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
    """A catalog in which nothing is broken."""
    with Catalog(pytest.fail) as catalog:
        yield catalog


def replayer(catalog: Catalog, *sources: Path, trust_pickle: bool = False) -> Replayer:
    """Looks in these folders."""
    return Replayer(catalog, list(map(str, sources)), trust_pickle=trust_pickle, trusted_types=())


def test_the_same_model_gives_the_same_answers(models: Path, catalog: Catalog) -> None:
    """Whichever version is the highest: it is found by its hash."""
    kept = stored_predictions(load_bundle(models / "one"), iris_rows(20))
    group = replayer(catalog, models).replay(kept, None)

    assert (group.verdict, group.bundle.version, group.engine) == ("equal", "1.0.0", "sklearn")
    assert group.recorded_bundle == group.bundle
    assert all(made == here for made, here in group.libraries.values())
    assert {row.difference for row in group.rows} == {0.0}


def test_a_row_by_itself_is_equal_to_that_row_of_a_batch(models: Path, catalog: Catalog) -> None:
    """What the size of a batch does to rounding is within the tolerance."""
    kept = stored_predictions(load_bundle(models / "one"), iris_rows(50))

    assert {replayer(catalog, models).replay([one], None).verdict for one in kept[::7]} == {"equal"}


def test_what_onnx_runtime_answered_is_answered_by_it(models: Path, catalog: Catalog) -> None:
    """Its file has a hash of its own; a bundle without one is asked through scikit-learn."""
    kept = stored_predictions(load_bundle(models / "one", engine="onnx"), iris_rows(20))
    same, other = (replayer(catalog, models).replay(kept, against) for against in (None, "2.0.0"))

    assert (same.verdict, same.engine, other.engine) == ("equal", "onnx", "sklearn")


def test_another_version_differs_by_what_it_answers(models: Path, catalog: Catalog) -> None:
    """Named by version, by folder, or as any source is."""
    kept = stored_predictions(load_bundle(models / "one"), iris_rows(20))
    other = stored_predictions(load_bundle(models / "two"), iris_rows(20))
    for against in ("2.0.0", str(models / "two"), f"{models}@2.0.0"):
        group = replayer(catalog, models).replay(kept, against)

        assert group.verdict == "differs"
        assert (group.recorded_bundle and group.recorded_bundle.version, group.bundle.version) == ("1.0.0", "2.0.0")
        for row, before, after in zip(group.rows, kept, other, strict=True):
            assert before.confidence is not None
            assert after.confidence is not None
            assert row.label_changed == (before.label != after.label)
            expected = None if row.label_changed else pytest.approx(after.confidence - before.confidence, abs=1e-12)
            assert row.difference == expected


def test_a_regressor_is_replayed(tmp_path: Path, catalog: Catalog) -> None:
    """By its values."""
    bundle = pack(LinearRegression().fit(X, VALUES), iris_frame(), name="sepals", out=tmp_path / "sepals")
    kept = stored_predictions(load_bundle(bundle), iris_rows(9))

    assert replayer(catalog, bundle).replay(kept, None).verdict == "equal"
    changed = [kept[0], kept[1]._replace(value=(kept[1].value or 0.0) + 1e-6)]
    assert replayer(catalog, bundle).replay(changed, None).counts == {"equal": 1, "differs": 1}


def test_a_hash_that_nobody_has_names_where_it_was_looked_for(models: Path, catalog: Catalog) -> None:
    """Against another model it goes on, and what the first one was is not known."""
    kept = stored_predictions(load_bundle(models / "one"), iris_rows(3))

    with pytest.raises(BundleNotFoundError, match=f"SHA-256 {kept[0].model_hash} in .*two"):
        replayer(catalog, models / "two").replay(kept, None)
    group = replayer(catalog, models / "two").replay(kept, "2.0.0")
    assert (group.recorded_bundle, group.verdict) == (None, "differs")


def test_a_schema_that_is_not_the_recorded_one_is_said(models: Path, catalog: Catalog) -> None:
    """The same file, packed again with other rules: what those did to the inputs is not known."""
    model = load_bundle(models / "one")
    kept = stored_predictions(model, iris_rows(3))
    for schema_hash, known in ((None, True), (model.schema.hash, True), ("0" * 64, False)):
        group = replayer(catalog, models).replay([one._replace(schema_hash=schema_hash) for one in kept], None)

        assert (group.privacy_rules_known, group.verdict) == (known, "equal")


def test_an_altered_model_is_not_asked(models: Path, tmp_path: Path, catalog: Catalog) -> None:
    """Its bytes are hashed again when it is loaded."""
    kept = stored_predictions(load_bundle(models / "one"), iris_rows(3))
    copy = Path(shutil.copytree(models / "one", tmp_path / "copy"))
    flip_byte(copy / "model.skops")

    with pytest.raises(BundleIntegrityError, match=r"model\.skops"):
        replayer(catalog, copy).replay(kept, None)


def test_a_pickle_is_not_loaded_unless_told(tmp_path: Path, catalog: Catalog) -> None:
    """As when serving."""
    bundle = pack_iris(tmp_path / "pickled", "1", artifact_format="joblib")
    kept = stored_predictions(load_bundle(bundle, trust_pickle=True), iris_rows(3))

    with pytest.raises(UntrustedModelError):
        replayer(catalog, bundle).replay(kept, None)
    assert replayer(catalog, bundle, trust_pickle=True).replay(kept, None).verdict == "equal"


def test_erased_inputs_are_said_and_the_others_replayed(models: Path, catalog: Catalog) -> None:
    """Nothing differs, and it is not whole, either."""
    kept = stored_predictions(load_bundle(models / "one"), iris_rows(5))
    kept[2] = kept[2]._replace(inputs=None, erased=7)
    group = replayer(catalog, models).replay(kept, None)

    assert (group.counts, group.verdict) == ({"equal": 4, "impossible": 1}, "incomplete")
    assert group.rows[2].reason == "its inputs were erased"
    assert group.reasons() == ["1 of iris 1.0.0 cannot be replayed: its inputs were erased"]


def test_inputs_that_privacy_rules_changed_are_not_replayed(tmp_path: Path, catalog: Catalog) -> None:
    """Whatever the rule is: what was sent is not what is recorded, and known to nobody."""
    rules = {"sepal_length": "hash", "sepal_width": "bucket", "petal_width": "drop"}
    bundle = pack_iris(tmp_path / "private", "1", privacy=rules)
    model = load_bundle(bundle)
    privacy, reader = Redactor(model.schema, b"a key of the tests"), RowValidator(model.schema)
    told = [
        dict(zip(model.schema.recorded_names, privacy.redact_inputs(reader.validate(row)), strict=True))
        for row in iris_rows(2)
    ]
    kept = [
        one._replace(inputs=inputs) for one, inputs in zip(stored_predictions(model, iris_rows(2)), told, strict=True)
    ]

    group = replayer(catalog, bundle).replay(kept, None)
    assert (group.verdict, group.counts) == ("incomplete", {"impossible": 2})
    (reason,) = group.reasons()
    assert reason.startswith("2 of iris 1 cannot be replayed: privacy rules keep no inputs as they were sent: ")
    assert reason.endswith(": sepal_length (hash), sepal_width (bucket), petal_width (drop)")


def test_what_was_let_through_is_let_through_again(tmp_path: Path, catalog: Catalog) -> None:
    """A value of a wrong type was given to the model as missing, and is recorded as that."""
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
    kept = stored_predictions(model, sent)
    given = [dict(zip(names, RowValidator(model.schema).validate(row), strict=True)) for row in sent]
    assert given[0][names[0]] is None

    group = replayer(catalog, bundle).replay(
        [one._replace(inputs=inputs) for one, inputs in zip(kept, given, strict=True)], None
    )
    assert group.verdict == "equal"
    missing = {**given[1], names[1]: None}
    group = replayer(catalog, bundle).replay([kept[1]._replace(inputs=missing)], None)
    assert (group.verdict, group.rows[0].outcome) == ("differs", "refused")


def test_inputs_that_are_not_there_or_unfit_are_said(models: Path) -> None:
    """A feature that is not recorded, and one that the schema refuses today."""
    model = load_bundle(models / "one")
    kept = stored_predictions(model, iris_rows(3))
    name = model.schema.names[0]
    less = kept[0]._replace(inputs={k: v for k, v in (kept[0].inputs or {}).items() if k != name})
    wrong = kept[1]._replace(inputs={**(kept[1].inputs or {}), name: "text"})

    results = replay(check_inputs([less, wrong, kept[2]], model.schema), model, 0.0)
    assert [row.outcome for row in results] == ["impossible", "refused", "equal"]
    assert results[0].reason == f"{name} is not recorded"
    assert results[1].reason == f"the schema refuses it: {name}: expected a number, got a string"


def test_predictions_of_several_models_are_replayed_each_by_its_own(models: Path, catalog: Catalog) -> None:
    """One trace may hold a challenger's answers, too."""
    kept = [
        *stored_predictions(load_bundle(models / "two"), iris_rows(3)),
        *stored_predictions(load_bundle(models / "one"), iris_rows(3)),
    ]
    groups: list[ModelReplay] = [replayer(catalog, models).replay(one, None) for one in group_by_model(kept)]

    assert sorted((group.version, group.verdict) for group in groups) == [("1.0.0", "equal"), ("2.0.0", "equal")]
    assert overall_verdict(groups, complete=True) == "equal"
    assert overall_verdict(groups, complete=False) == "incomplete"
    assert overall_verdict([], complete=False) == "incomplete"
