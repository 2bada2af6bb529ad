"""Find the bundles of stored predictions, and replay the predictions with them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.libraries import installed_versions
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.registry.bundle_ref import LocalBundle
from modeltrace.bundles.registry.catalog import Catalog
from modeltrace.bundles.registry.source import MLFLOW_PREFIX, FolderSource, parse_source
from modeltrace.errors import BundleError, BundleNotFoundError
from modeltrace.inference.model import Engine, Model
from modeltrace.replay.compare import ReplayedRow
from modeltrace.replay.replay import replay, tolerance_of
from modeltrace.settings import Settings
from modeltrace.store.rows import StoredPrediction

Verdict = Literal["equal", "different", "incomplete"]


@dataclass(frozen=True, slots=True)
class ModelReplay:
    """The replayed predictions of one model."""

    name: str  # name, version and hash are those of the recorded model
    version: str
    hash: str
    time: int  # the time of the first prediction, in nanoseconds since the epoch
    recorded_bundle: LocalBundle | None  # the bundle of the recorded model; `None` if it was not found
    privacy_rules_known: bool  # whether the feature schema of the recorded predictions is known
    bundle: LocalBundle  # the bundle that the predictions were replayed with
    engine: Engine  # the engine that the predictions were replayed with
    # for each library, its version in the recorded bundle (in `bundle` if that is unknown), and the installed version
    libraries: Mapping[str, tuple[str | None, str | None]]
    rows: Sequence[ReplayedRow]

    @property
    def counts(self) -> Counter[str]:
        """The number of rows by outcome."""
        return Counter(row.outcome for row in self.rows)

    @property
    def verdict(self) -> Verdict:
        """The verdict about all rows.

        `equal`: all rows are equal. `incomplete`: each other row is `not_replayable`. `different`: all other cases.
        """
        counts = self.counts
        if counts["equal"] == len(self.rows):
            return "equal"
        return "incomplete" if counts["equal"] + counts["not_replayable"] == len(self.rows) else "different"

    def reasons(self) -> list[str]:
        """Return a line for each reason why rows cannot be replayed, with their number."""
        reasons = Counter(row.reason for row in self.rows if row.outcome == "not_replayable")
        return [
            f"{number:,} of {self.name} {self.version} cannot be replayed: {reason}"
            for reason, number in reasons.items()
        ]


@dataclass(frozen=True, slots=True)
class Replayer:
    """Replays predictions with models from the given sources."""

    catalog: Catalog
    sources: Sequence[str]
    settings: Settings

    def replay(self, predictions: Sequence[StoredPrediction], against: str | None) -> ModelReplay:
        """Replay the predictions of one model with the same model or, if `against` is set, with another one.

        Raises:
            SettingsError: a source is invalid.
            BundleError: a bundle was not found, or cannot be loaded.
        """
        first = predictions[0]
        try:
            recorded = self.catalog.find_by_hash(first.model_hash, self.sources, version=first.model_version)
        except BundleNotFoundError:
            if against is None:
                raise
            recorded = None
        bundle = self._find_other(first.model_name, against) if against is not None else recorded
        if bundle is None:  # unreachable: without `against` a failed search has raised an error
            raise BundleNotFoundError(f"no bundle for {first.model_name} {first.model_version}")
        # Use ONNX Runtime if it made the predictions and the bundle has an ONNX model.
        with_onnx = recorded is not None and first.model_hash == recorded.onnx_hash and bundle.onnx_hash is not None
        engine: Engine = "onnx" if with_onnx else "sklearn"
        model = self._load(bundle, engine)
        if against is None and model.hash != first.model_hash:
            raise BundleError(f"{bundle.location} has changed in the meantime")
        schema = None if recorded is None else read_manifest(recorded.path)[0].feature_schema()
        tolerance = tolerance_of(read_manifest(bundle.path)[0], model)
        return ModelReplay(
            name=first.model_name,
            version=first.model_version,
            hash=first.model_hash,
            time=first.time,
            recorded_bundle=recorded,
            privacy_rules_known=schema is not None and first.schema_hash in (None, schema.hash),
            bundle=bundle,
            engine=engine,
            libraries=_libraries(recorded or bundle),
            rows=replay(predictions, schema or model.schema, model, tolerance),
        )

    def load(self, prediction: StoredPrediction) -> tuple[LocalBundle, Model]:
        """Return the bundle and the model that made a prediction.

        Raises:
            BundleError: the bundle was not found, or cannot be loaded.
        """
        bundle = self.catalog.find_by_hash(prediction.model_hash, self.sources, version=prediction.model_version)
        model = self._load(bundle, "onnx" if prediction.model_hash == bundle.onnx_hash else "sklearn")
        if model.hash != prediction.model_hash:
            raise BundleError(f"{bundle.location} has changed in the meantime")
        return bundle, model

    def _load(self, bundle: LocalBundle, engine: Engine) -> Model:
        return load_bundle(
            bundle.path,
            engine=engine,
            trust_pickle=self.settings.trust_pickle,
            trust_code=self.settings.trust_code,
            trusted_types=self.settings.trusted_types,
        )

    def _find_other(self, name: str, against: str) -> LocalBundle:
        """Return the bundle that `against` names: a source, or another version of the model."""
        source = parse_source(against)
        if against.startswith(MLFLOW_PREFIX) or (isinstance(source, FolderSource) and source.path.exists()):
            return self.catalog.resolve(against)
        return self.catalog.find_version(name, against, self.sources)


def overall_verdict(replays: Sequence[ModelReplay], *, complete: bool) -> Verdict:
    """Return the verdict of several models; `complete` says whether each model could be replayed."""
    verdicts = {replay.verdict for replay in replays}
    if "different" in verdicts:
        return "different"
    return "equal" if complete and verdicts == {"equal"} else "incomplete"


def group_by_model(predictions: Sequence[StoredPrediction]) -> list[list[StoredPrediction]]:
    """Group predictions by model and feature schema, in the order of their rows."""
    groups: dict[tuple[str | None, ...], list[StoredPrediction]] = {}
    for prediction in sorted(predictions, key=lambda prediction: prediction.row):
        key = prediction.model_hash, prediction.model_version, prediction.schema_hash
        groups.setdefault(key, []).append(prediction)
    return list(groups.values())


def _libraries(bundle: LocalBundle) -> dict[str, tuple[str | None, str | None]]:
    in_bundle = read_manifest(bundle.path)[0].libraries
    installed = installed_versions(in_bundle.keys() - {"python"})
    return {name: (in_bundle.get(name), installed.get(name)) for name in sorted({*in_bundle, *installed})}
