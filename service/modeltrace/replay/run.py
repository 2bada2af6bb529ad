"""From what is recorded of a trace or a prediction to what a model says of it now."""

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
from modeltrace.replay.replay import check_inputs, replay, tolerance_of
from modeltrace.store.rows import StoredPrediction

Verdict = Literal["equal", "differs", "incomplete"]


@dataclass(frozen=True, slots=True)
class ModelReplay:
    """The predictions of one model among those that are replayed: that model as it is recorded, and what came out.

    `origin` is the bundle of that very model, `used` the one that has answered now, `engine` what it answered with.
    `privacy_rules_known`: whether the feature schema of the recorded predictions is known.
    `libraries` has for each library its version in the origin's bundle (or in `used` where there is none), and here.
    """

    name: str
    version: str
    hash: str
    time: int
    recorded_bundle: LocalBundle | None
    privacy_rules_known: bool
    bundle: LocalBundle
    engine: Engine
    libraries: Mapping[str, tuple[str | None, str | None]]
    rows: Sequence[ReplayedRow]

    @property
    def counts(self) -> Counter[str]:
        """How many there are of each outcome."""
        return Counter(row.outcome for row in self.rows)

    @property
    def verdict(self) -> Verdict:
        """`differs` when one does; `equal` when all are; `incomplete` when none differs and some cannot be replayed."""
        counts = self.counts
        if counts["equal"] == len(self.rows):
            return "equal"
        return "incomplete" if counts["equal"] + counts["impossible"] == len(self.rows) else "differs"

    def reasons(self) -> list[str]:
        """Why some cannot be replayed, and how many: one line a reason."""
        notes = Counter(row.reason for row in self.rows if row.outcome == "impossible")
        return [
            f"{number:,} of {self.name} {self.version} cannot be replayed: {note}" for note, number in notes.items()
        ]


class Replayer:
    """Replays predictions with models from some sources."""

    def __init__(
        self, catalog: Catalog, sources: Sequence[str], *, trust_pickle: bool, trusted_types: Sequence[str]
    ) -> None:
        self._catalog = catalog
        self._sources = sources
        self._trust_pickle = trust_pickle
        self._trusted_types = trusted_types

    def replay(self, predictions: Sequence[StoredPrediction], against: str | None) -> ModelReplay:
        """Replay predictions of one model with itself, or with another version or source.

        Raises:
            SettingsError: a source makes no sense.
            BundleError: a bundle is not to be found, or cannot be loaded here.
        """
        first = predictions[0]
        try:
            origin = self._catalog.find_by_hash(first.model_hash, self._sources, version=first.model_version)
        except BundleNotFoundError:
            if against is None:
                raise
            origin = None
        used = self._find_other(first.model_name, against) if against is not None else origin
        if used is None:  # without another one the search has raised
            raise BundleNotFoundError(f"no bundle for {first.model_name} {first.model_version}")
        engine = self._engine(first, origin, used)
        model = self._load(used, engine)
        if against is None and model.hash != first.model_hash:
            raise BundleError(f"{used.location} has changed meanwhile")
        schema = None if origin is None else read_manifest(origin.path)[0].feature_schema()
        rows = check_inputs(predictions, schema or model.schema)
        return ModelReplay(
            name=first.model_name,
            version=first.model_version,
            hash=first.model_hash,
            time=first.time,
            recorded_bundle=origin,
            privacy_rules_known=schema is not None and first.schema_hash in (None, schema.hash),
            bundle=used,
            engine=engine,
            libraries=_libraries(origin or used),
            rows=replay(rows, model, tolerance_of(read_manifest(used.path)[0], model)),
        )

    def _find_other(self, name: str, against: str) -> LocalBundle:
        """Another version of the model among the sources; or the bundle of another source."""
        source = parse_source(against)
        if against.startswith(MLFLOW_PREFIX) or (isinstance(source, FolderSource) and source.path.exists()):
            return self._catalog.resolve(against)
        return self._catalog.find_version(name, against, self._sources)

    @staticmethod
    def _engine(first: StoredPrediction, origin: LocalBundle | None, used: LocalBundle) -> Engine:
        """ONNX Runtime where it was that which answered, and the bundle has a model for it."""
        with_onnx = origin is not None and first.model_hash == origin.onnx_hash
        return "onnx" if with_onnx and used.onnx_hash is not None else "sklearn"

    def _load(self, found: LocalBundle, engine: Engine) -> Model:
        return load_bundle(
            found.path, engine=engine, trust_pickle=self._trust_pickle, trusted_types=self._trusted_types
        )


def overall_verdict(groups: Sequence[ModelReplay], *, complete: bool) -> Verdict:
    """What holds of all of them; `complete`: whether there is a group for each model."""
    verdicts = {group.verdict for group in groups}
    if "differs" in verdicts:
        return "differs"
    return "equal" if complete and verdicts == {"equal"} else "incomplete"


def group_by_model(predictions: Sequence[StoredPrediction]) -> list[list[StoredPrediction]]:
    """Predictions in groups of one model and one schema each, in the order of their rows."""
    groups: dict[tuple[str | None, ...], list[StoredPrediction]] = {}
    for one in sorted(predictions, key=lambda one: one.row):
        groups.setdefault((one.model_hash, one.model_version, one.schema_hash), []).append(one)
    return list(groups.values())


def _libraries(found: LocalBundle) -> dict[str, tuple[str | None, str | None]]:
    made = read_manifest(found.path)[0].libraries
    here = installed_versions(made.keys() - {"python"})
    return {name: (made.get(name), here.get(name)) for name in sorted({*made, *here})}
