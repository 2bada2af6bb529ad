"""A model version: the model, its prediction pipeline and its batcher."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from modeltrace.errors import BundleError, ModeltraceError
from modeltrace.inference.batching import Batcher
from modeltrace.inference.model import Model
from modeltrace.inference.pipeline import Pipeline
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.monitoring.feedback import LabelParser
from modeltrace.monitoring.reference_metrics import reference_metrics
from modeltrace.telemetry.logging import redact_warnings
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.records.prediction import BatchRecord, ModelInfo, PrivacyRules

Role = Literal["", "primary", "challenger"]
NO_ROLE: Final[Role] = ""
PRIMARY: Final[Role] = "primary"
CHALLENGER: Final[Role] = "challenger"


@dataclass(frozen=True)
class Version:
    """One version of a model, ready to predict.

    Attributes:
        runs_inline: whether a single row is predicted on the event loop, because waking a thread takes longer.
        batcher: combines concurrent requests into one model call; `None` if batching is disabled.
        identity: name and version, as responses contain them.
    """

    pipeline: Pipeline
    runs_inline: bool
    batcher: Batcher | None
    identity: dict[str, str]
    label_parser: LabelParser

    @property
    def model(self) -> Model:
        """The model of the pipeline."""
        return self.pipeline.model

    @property
    def info(self) -> ModelInfo:
        """The metadata that telemetry records of the model."""
        return self.pipeline.info


class VersionFactory:
    """Builds model versions with the same settings."""

    def __init__(
        self,
        ids: PredictionIdSigner,
        catalog: ModelCatalog,
        *,
        inline_threshold: float,
        run_on_thread: Callable[..., Awaitable[Any]],
        on_batch: Callable[[BatchRecord], None],
        max_batch_requests: int | None,
        max_queue_size: int,
        privacy_rules: Callable[[Model], PrivacyRules | None],
    ) -> None:
        """See `Settings` for the limits. `max_batch_requests=None` disables batching.

        `on_batch` records a model call that several requests share; `privacy_rules` returns the redactor of a model's
        inputs, or `None`.
        """
        self._ids = ids
        self._catalog = catalog
        self._inline_threshold = inline_threshold
        self._run_on_thread = run_on_thread
        self._on_batch = on_batch
        self._max_batch_requests = max_batch_requests
        self._max_queue_size = max_queue_size
        self._privacy_rules = privacy_rules

    def build(self, model: Model, role: Role = NO_ROLE) -> Version:
        """Build a version, measure its latency, and start to count its features."""
        pipeline = Pipeline(model, self._ids, role)
        if (privacy_rules := self._privacy_rules(model)) is not None:
            redact_warnings()
        self._catalog.add(pipeline.info, reference_metrics(model)._replace(privacy_rules=privacy_rules))
        runs_inline = pipeline.measure_latency() < self._inline_threshold
        batcher = None
        if self._max_batch_requests is not None:
            batcher = Batcher(
                pipeline,
                max_batch_size=self._max_batch_requests,
                max_queue_size=self._max_queue_size,
                run_in_thread=None if runs_inline else self._run_on_thread,
                on_batch=self._on_batch,
            )
        identity = {"name": model.name, "version": model.version}
        return Version(pipeline, runs_inline, batcher, identity, LabelParser(model, self._ids))

    def smoke_test(self, model: Model) -> None:
        """Predict the example of the bundle.

        Raises:
            BundleError: the prediction failed.
        """
        try:
            Pipeline(model, self._ids).time_example()
        except ModeltraceError as error:
            raise BundleError(f"{model.name} {model.version} cannot predict its own example: {error}") from error

    def retire(self, version: Version) -> None:
        """Mark a version that receives no new requests."""
        self._catalog.retire(version.info)
