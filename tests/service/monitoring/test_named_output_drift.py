"""The drift of named outputs: their reference in the bundle, and the counts of a service."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.manifest import Manifest, read_manifest
from modeltrace.bundles.output_reference import build_monitored_outputs
from modeltrace.bundles.pack import pack
from modeltrace.errors import BundleError
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.monitored_outputs import MAX_MONITORED_OUTPUTS, embedding_values
from modeltrace.inference.named_outputs import Output
from modeltrace.inference.schema import OutputReference
from modeltrace.monitoring.drift_check import WindowCounts, check_drift
from modeltrace.monitoring.output_bins import OutputBins
from modeltrace.monitoring.reference_gauges import critical_values, named_output_key
from modeltrace.telemetry.metrics.features import FeatureMetrics
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from tests.helpers.bundles import edit_manifest
from tests.helpers.estimator_cases import TABLE, cases
from tests.helpers.in_process_services import RecordsService, records_service

# For each estimator, the outputs that are monitored.
MONITORED = {
    "IsolationForest": ("score",),
    "KMeans": ("distance",),
    "LinearRegression, two targets": ("area", "mass"),
    "MultiOutputClassifier": ("kind", "grade"),
    "PCA": ("norm", "distance_from_mean"),
}


def pack_case(folder: Path, name: str, **options: Any) -> tuple[Any, Path]:
    """Fit and pack an estimator of the tests."""
    fitted = cases()[name].fit()
    bundle = pack(fitted.estimator, fitted.training, fitted.target, name="m", out=folder / "b", **options)
    return fitted, bundle


def manifest_of(bundle: Path) -> Manifest:
    """Return the manifest of a bundle."""
    return read_manifest(bundle).manifest


def references(model: Model | Manifest) -> dict[str, OutputReference]:
    """Return the distributions of the monitored outputs."""
    assert model.monitored_outputs is not None
    return model.monitored_outputs.references


def observations(service: RecordsService) -> dict[tuple[str, str], float]:
    """Return the counts by output and bin."""
    (metric,) = (metric for metric in service.metrics() if metric.name == "ml.output.observations")
    return {
        (point.attributes["ml.output.name"], point.attributes["ml.output.bin"]): point.value
        for point in metric.data.data_points
    }


@pytest.mark.parametrize("name", MONITORED)
def test_a_service_counts_the_outputs_in_the_bins_of_the_bundle(tmp_path: Path, name: str) -> None:
    """The same rows as those of the reference have the same shares; shifted rows have drift."""
    _, bundle = pack_case(tmp_path, name, traffic=TABLE + 0.001)
    model = load_bundle(bundle)
    assert tuple(references(model)) == MONITORED[name]
    assert all(reference.source == "held_out" for reference in references(model).values())

    def counted(rows: Any) -> dict[tuple[str, str], float]:
        with records_service(model) as service:
            body = {"rows": [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]}
            answer = service.client.post("/predict/batch", json=body).json()["predictions"]
            assert not any("error" in entry for entry in answer)
            return observations(service)

    same, shifted = counted(TABLE + 0.001), counted(TABLE + 3 * TABLE.std())
    assert same == {
        (output, bin_name): pytest.approx(share * len(TABLE))
        for output, reference in references(model).items()
        for bin_name, share in reference.shares.items()
    }
    states = set()
    for output, reference in references(model).items():
        key = named_output_key(output)
        criticals = {statistic: value for (of, statistic), value in critical_values(model).items() if of == key}
        window = WindowCounts([int(shifted[output, bin_name]) for bin_name in reference.shares])
        states |= {result.state for result in check_drift(reference, window, criticals)}
    assert "drift" in states


@pytest.mark.parametrize("name", MONITORED)
def test_training_rows_are_no_held_out_reference(tmp_path: Path, name: str) -> None:
    """Only the rows of a detector are cross-validated without labels; the others raise no alert."""
    _, bundle = pack_case(tmp_path, name)

    sources = {reference.source for reference in references(manifest_of(bundle)).values()}

    assert sources == {"cross_validation" if name == "IsolationForest" else "training"}
    assert (manifest_of(bundle).held_out is None) is (name != "IsolationForest")


def test_norm_and_distance_equal_numpy(tmp_path: Path) -> None:
    """The mean in the bundle is that of the embeddings of the reference."""
    fitted, bundle = pack_case(tmp_path, "PCA")
    embeddings = fitted.estimator.transform(fitted.training)
    monitored = manifest_of(bundle).monitored_outputs

    assert monitored is not None
    assert monitored.mean is not None
    assert monitored.mean == pytest.approx(embeddings.mean(axis=0), abs=1e-9)
    values = embedding_values(embeddings.tolist(), monitored.mean)
    assert values["norm"] == pytest.approx(np.sqrt((embeddings**2).sum(axis=1)), rel=1e-9)
    distances = np.sqrt(((embeddings - embeddings.mean(axis=0)) ** 2).sum(axis=1))
    assert values["distance_from_mean"] == pytest.approx(distances, rel=1e-9)
    for name, numbers in (("norm", values["norm"]), ("distance_from_mean", distances)):
        assert monitored.references[name].mean == pytest.approx(numbers.mean(), rel=1e-6)


def test_huge_embeddings_have_a_bin(tmp_path: Path) -> None:
    """A norm that is too large for a float is in the last bin."""
    _, bundle = pack_case(tmp_path, "PCA")
    model = load_bundle(bundle)
    assert model.monitored_outputs is not None
    bins = OutputBins(model.monitored_outputs, model.output_names)

    (row,) = bins.digitize([(1e300,) * len(model.output_names)])

    last = [max(n for n, (name, _) in enumerate(bins.bin_names) if name == output) for output in bins.names]
    assert row.tolist() == last


def test_an_unknown_label_counts_as_other() -> None:
    """An estimator may predict a label that no row of the reference has."""
    outputs = (Output(name="kind", classes=("a", "b")),)
    monitored = build_monitored_outputs([ModelOutput(outputs=("a",))] * 3, outputs, "multi_output")
    assert monitored is not None
    bins = OutputBins(monitored, ("kind",))

    names = [bins.bin_names[number][1] for number in bins.digitize([("b",), ("x",), ("a",)])[:, 0]]

    assert names == ["b", "other", "a"]
    assert monitored.references["kind"].shares == {"other": 0.0, "a": 1.0, "b": 0.0}


def test_the_number_of_monitored_outputs_is_limited() -> None:
    """Of many targets, the first ones are monitored."""
    outputs = tuple(Output(name=f"y{index}") for index in range(MAX_MONITORED_OUTPUTS + 5))
    predicted = [ModelOutput(outputs=tuple(map(float, range(n, n + len(outputs))))) for n in range(20)]

    monitored = build_monitored_outputs(predicted, outputs, "multi_output")

    assert monitored is not None
    assert tuple(monitored.references) == tuple(output.name for output in outputs[:MAX_MONITORED_OUTPUTS])


def test_models_without_named_outputs_have_no_metric(model: Model) -> None:
    """A classifier has neither reference nor counts of named outputs."""
    assert model.monitored_outputs is None
    metrics = FeatureMetrics(ModelCatalog(), exemplar_filter="always_off").collect()
    assert not [metric for metric in metrics if metric.name.startswith("ml.output")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": [1.0]}, "the mean of the embeddings does not have a number for each output"),
        ({"mean": None}, "the distribution of norm does not belong to an output of this kind"),
        ({"references": {}}, "there are 0 distributions"),
    ],
)
def test_an_altered_reference_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """The message names what does not fit."""
    _, bundle = pack_case(tmp_path, "PCA")
    monitored = manifest_of(bundle).monitored_outputs
    assert monitored is not None
    edit_manifest(bundle, monitored_outputs={**monitored.model_dump(mode="json"), **change})

    with pytest.raises(BundleError, match=message):
        read_manifest(bundle)
