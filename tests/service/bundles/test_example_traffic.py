"""The example's traffic: independent rows from the distribution that its model is fitted on."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from modeltrace.bundles.artifact import load_artifact
from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.example import HELD_OUT_ROWS, TARGET, load_real_rows
from modeltrace.bundles.file_names import GENERATOR_FILE
from modeltrace.bundles.generator import GaussianCopula
from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.inference.model import Model
from modeltrace.monitoring import drift
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.monitoring.drift_check import DriftResult, WindowCounts, check_confidence, check_drift
from modeltrace.monitoring.reference_gauges import OUTPUTS, critical_values
from modeltrace.traffic.fault_injection import Shift, make_rng, parse_shift
from modeltrace.traffic.generated import generate_samples
from modeltrace.traffic.rows import RowSourceError

pytestmark = pytest.mark.slow

RUNS = 50
SIZES = (200, 1000, 10_000)


class CountedRows(NamedTuple):
    """Rows as bin indices, shape (rows, features), with the model's outputs."""

    bins: NDArray[np.intp]
    labels: NDArray[np.str_]
    unsure: NDArray[np.bool_]


class DriftWatch:
    """The drift statistics of the example for the counts of a window."""

    def __init__(self, bundle: Path) -> None:
        """Read the manifest, and compute the critical values."""
        self.model: Model = load_bundle(bundle)
        self.bins = FeatureBins(self.model.schema)
        self.criticals = critical_values(self.model)

    def count(self, values: NDArray[np.float64]) -> "CountedRows":
        """Count rows in the bins of features and outputs, as the service does."""
        outputs = self.model.predict(values)
        threshold = self.model.confidence_threshold
        assert threshold is not None
        return CountedRows(
            self.bins.digitize(values, values),  # type: ignore[arg-type]  # every feature is a number
            np.array([str(output.label) for output in outputs]),
            np.array([(output.confidence or 0.0) < threshold for output in outputs]),
        )

    def alarms(self, counted: "CountedRows", size: int | None = None) -> set[tuple[str, str]]:
        """Return the statistics and features that drift in a window of the first rows."""
        return {(name, result.statistic) for name, result in self._findings(counted, size) if result.state == "drift"}

    def _findings(self, counted: "CountedRows", size: int | None) -> Iterator[tuple[str, DriftResult]]:
        bins, labels, unsure = (part[:size] for part in counted)
        counts = np.bincount(bins.ravel(), minlength=len(self.bins.bin_names))
        start = 0
        for feature in self.model.schema.features:
            end = start + len(feature.reference.shares)
            window = WindowCounts(counts[start:end].tolist())
            start = end
            for finding in check_drift(feature.reference, window, self._of(feature.name)):
                yield feature.name, finding
        reference = self.model.output_reference
        assert reference is not None
        window = WindowCounts([int((labels == label).sum()) for label in reference.shares])
        criticals = self._of(OUTPUTS)
        low_confidence = criticals.pop(drift.LOW_CONFIDENCE)
        for finding in check_drift(reference, window, criticals):
            yield OUTPUTS, finding
        yield OUTPUTS, check_confidence(int(unsure.sum()), len(unsure), low_confidence, self.model.held_out)

    def _of(self, feature: str) -> dict[str, float]:
        return {statistic: value for (name, statistic), value in self.criticals.items() if name == feature}


@pytest.fixture(scope="module")
def watch(example: Path) -> DriftWatch:
    """Return the drift statistics of the example."""
    return DriftWatch(example)


@pytest.fixture(scope="module")
def generator(example: Path) -> GaussianCopula:
    """Return the generator of the example's traffic."""
    rows = pd.read_json(example / GENERATOR_FILE)
    return GaussianCopula.fit(rows.drop(columns=TARGET).to_numpy(), rows[TARGET].tolist())


@pytest.fixture(scope="module")
def manifest(example: Path) -> Manifest:
    """Return the manifest of the example."""
    return read_manifest(example)[0]


def test_traffic_without_a_shift_raises_no_alarm(watch: DriftWatch, generator: GaussianCopula) -> None:
    """Of 50 runs of 10,000 predictions, at most the allowed number raises an alarm, at any length."""
    alarmed = dict.fromkeys(SIZES, 0)
    for seed in range(RUNS):
        values, _ = generator.sample(SIZES[-1], np.random.default_rng([seed, 1]))
        counted = watch.count(values)
        for size in SIZES:
            alarmed[size] += bool(watch.alarms(counted, size))
    # At the stated rate, 3 or more of 50 runs have a probability of 1/70. The seeds are fixed, so the test is stable.
    assert max(alarmed.values()) <= 2, alarmed


@pytest.mark.parametrize("feature", ["mean_radius", "worst_texture", "symmetry_error"])
def test_a_shift_is_detected_in_its_feature(
    watch: DriftWatch, generator: GaussianCopula, manifest: Manifest, feature: str
) -> None:
    """A shift by one standard deviation raises alarms after 1,000 rows, only for that feature."""
    shift = parse_shift(f"{feature}+=1sd").resolve(manifest.features)
    values, _ = generator.sample(1000, np.random.default_rng(7))
    column = manifest.features.index(next(item for item in manifest.features if item.name == feature))
    values[:, column] += shift.offset
    drifted = {name for name, _ in watch.alarms(watch.count(values)) if name != OUTPUTS}
    assert drifted == {feature}


def test_rows_differ_in_every_run(example: Path, manifest: Manifest) -> None:
    """No row repeats within a run or between runs; only the same seed gives the same rows."""
    features = manifest.features
    runs = [
        [tuple(sample.row.values()) for sample in islice(generate_samples(example, features, make_rng(seed)), 500)]
        for seed in (1, 2, 1)
    ]
    assert len({*runs[0], *runs[1]}) == 1000
    assert runs[2] == runs[0]


def test_labels_fit_their_rows(watch: DriftWatch, example: Path, manifest: Manifest) -> None:
    """The model is as accurate as on real rows that neither it nor the generator was fitted on."""
    samples = list(islice(generate_samples(example, manifest.features, make_rng(3)), 2000))
    outputs = watch.model.predict(np.array([list(sample.row.values()) for sample in samples]))
    drawn = np.mean([output.label == sample.label for output, sample in zip(outputs, samples, strict=True)])
    artifact = example / manifest.artifact.file
    estimator = load_artifact(artifact.read_bytes(), manifest.artifact.format, source=artifact)
    _, unseen = load_real_rows()
    real = estimator.score(unseen.drop(columns=TARGET).to_numpy(), unseen[TARGET])
    assert real > 0.94
    assert 0.94 < drawn < 0.995


def test_rows_stay_within_the_range_of_the_real_ones(generator: GaussianCopula, example: Path) -> None:
    """Values are in the range of the fitted rows, and have the same correlations."""
    real = pd.read_json(example / GENERATOR_FILE).drop(columns=TARGET)
    values, _ = generator.sample(5000, np.random.default_rng(4))
    low, high = real.min().to_numpy(), real.max().to_numpy()
    assert ((values >= low * 0.999) & (values <= high * 1.001)).all()
    assert np.corrcoef(values[:, 0], values[:, 2])[0, 1] > 0.98  # radius and perimeter


def test_held_out_rows_have_the_same_distribution(watch: DriftWatch, example: Path) -> None:
    """Reports compare traffic with the test rows, so they find no drift either."""
    held_out = pd.read_parquet(example / "traffic.parquet").drop(columns=TARGET)
    assert len(held_out) == HELD_OUT_ROWS
    assert not watch.alarms(watch.count(held_out.to_numpy()))


def test_a_class_of_one_row_is_sampled() -> None:
    """It always has the same values; a constant column stays constant."""
    generator = GaussianCopula.fit(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]), ["a", "a", "b"])
    values, labels = generator.sample(200, np.random.default_rng(0))
    assert set(values[:, 1]) == {5.0}
    assert {value for value, label in zip(values[:, 0], labels, strict=True) if label == "b"} == {3.0}


def test_a_generator_of_another_model_is_refused(example: Path, manifest: Manifest) -> None:
    """The message names the missing feature."""
    renamed = [manifest.features[0].model_copy(update={"name": "age"}), *manifest.features[1:]]
    with pytest.raises(RowSourceError, match="lacks the feature age"):
        generate_samples(example, renamed, make_rng(0))


def test_a_shift_in_deviations_uses_the_training_data(manifest: Manifest) -> None:
    """`+=0.5sd` adds half a standard deviation of the training data."""
    feature = manifest.features[0]
    assert feature.reference.deviation is not None
    shift = parse_shift(f"{feature.name}+=0.5sd").resolve(manifest.features)
    assert shift == Shift(feature.name, offset=0.5 * feature.reference.deviation)
