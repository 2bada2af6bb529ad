"""A model version: the model, its prediction pipeline and its batcher."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from modeltrace.errors import BundleError, ModeltraceError
from modeltrace.inference.batching import Batcher
from modeltrace.inference.model import Model
from modeltrace.inference.pipeline import NO_DETAILS, Pipeline, RecordedDetails
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.inference.privacy import Redactor
from modeltrace.keys import derive_privacy_key, load_id_key
from modeltrace.monitoring.label_parser import LabelParser
from modeltrace.monitoring.reference_gauges import reference_metrics
from modeltrace.settings import Settings
from modeltrace.telemetry.logging import redact_warnings
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import BatchRecord, PrivacyRules

Role = Literal["", "primary", "challenger"]
NO_ROLE: Final[Role] = ""
PRIMARY: Final[Role] = "primary"
CHALLENGER: Final[Role] = "challenger"


@dataclass(frozen=True)
class Version:
    """One version of a model, ready to predict.

    Attributes:
        info: the metadata of the model in telemetry records.
        runs_inline: whether a single row is predicted on the event loop, because waking a thread takes longer.
        batcher: combines concurrent requests into one model call; `None` if batching is disabled.
        identity: name and version, as responses contain them.
    """

    model: Model
    info: ModelInfo
    pipeline: Pipeline
    runs_inline: bool
    batcher: Batcher | None
    identity: dict[str, str]
    label_parser: LabelParser


@dataclass(frozen=True, kw_only=True)
class VersionFactory:
    """Builds model versions with the same settings.

    Attributes:
        ids: signs the IDs of predictions.
        catalog: the models whose features are counted.
        inline_threshold: see `Settings`, as for the other limits.
        run_on_thread: runs a model call on a thread.
        on_batch: records a model call that several requests share.
        max_batch_requests: `None` disables batching.
        max_queue_size: requests that may wait for a batch.
        privacy_rules: returns the redactor of a model's inputs, or `None`.
        recorded_details: see `Pipeline`.
    """

    ids: PredictionIdSigner
    catalog: ModelCatalog
    inline_threshold: float
    run_on_thread: Callable[..., Awaitable[Any]]
    on_batch: Callable[[BatchRecord], None]
    max_batch_requests: int | None
    max_queue_size: int
    privacy_rules: Callable[[Model], PrivacyRules | None]
    recorded_details: RecordedDetails = NO_DETAILS

    def build(self, model: Model, role: Role = NO_ROLE) -> Version:
        """Build a version, measure its latency, and start to count its features."""
        pipeline = Pipeline(model, self.ids, role, recorded_details=self.recorded_details)
        if (privacy_rules := self.privacy_rules(model)) is not None:
            redact_warnings()
        self.catalog.add(pipeline.info, reference_metrics(model)._replace(privacy_rules=privacy_rules))
        runs_inline = pipeline.measure_latency() < self.inline_threshold
        batcher = None
        if self.max_batch_requests is not None:
            batcher = Batcher(
                pipeline,
                max_batch_size=self.max_batch_requests,
                max_queue_size=self.max_queue_size,
                run_in_thread=None if runs_inline else self.run_on_thread,
                on_batch=self.on_batch,
            )
        identity = {"name": model.name, "version": model.version}
        parser = LabelParser(model, self.ids)
        return Version(model, pipeline.info, pipeline, runs_inline, batcher, identity, parser)

    def smoke_test(self, model: Model) -> None:
        """Predict the example of the bundle.

        Raises:
            BundleError: the prediction failed.
        """
        try:
            Pipeline(model, self.ids).time_example()
        except ModeltraceError as error:
            raise BundleError(f"{model.name} {model.version} cannot predict its own example: {error}") from error

    def retire(self, version: Version) -> None:
        """Mark a version that receives no new requests."""
        self.catalog.retire(version.info)


def privacy_rules(settings: Settings, model: Model) -> Redactor | None:
    """Return the redactor of the model's inputs; `None` if the model has no private features."""
    if not model.schema.has_private_features:
        return None
    return Redactor(model.schema, derive_privacy_key(load_id_key(settings)))


def recorded_details(settings: Settings) -> RecordedDetails:
    """Return which details of predictions are recorded; none without a prediction store."""
    if settings.store_url() is None:
        return NO_DETAILS
    return RecordedDetails(settings.store_max_classes, settings.store_intervals)
