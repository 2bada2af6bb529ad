"""A version that answers: the model with everything that it is asked through."""

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
    """One version, ready to answer. Requests that have begun with it end with it, whatever is served by then."""

    pipeline: Pipeline
    runs_inline: bool  # one row is answered faster than on a thread
    batcher: Batcher | None  # shares calls between requests
    identity: dict[str, str]  # what an answer says of it
    label_reader: LabelParser  # what may be the true label of a prediction

    @property
    def model(self) -> Model:
        """The model itself."""
        return self.pipeline.model

    @property
    def info(self) -> ModelInfo:
        """What telemetry says of it."""
        return self.pipeline.info


class VersionFactory:
    """Makes versions of models, all in the same way."""

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
        """`max_batch_requests`: the most requests that share a call; `None`: they do not.

        `rules` say what may be told of a model's inputs. The rest as in the settings.
        """
        self._ids = ids
        self._watched = catalog
        self._inline_threshold = inline_threshold
        self._on_thread = run_on_thread
        self._tell_batch = on_batch
        self._max_batch_requests = max_batch_requests
        self._most_waiting = max_queue_size
        self._rules = privacy_rules

    def build(self, model: Model, role: Role = NO_ROLE) -> Version:
        """A version of this model; its inputs are counted from now on."""
        pipeline = Pipeline(model, self._ids, role)
        if (rules := self._rules(model)) is not None:
            redact_warnings()
        self._watched.add(pipeline.info, reference_metrics(model)._replace(privacy_rules=rules))
        on_loop = pipeline.measure_latency() < self._inline_threshold
        said, labels = {"name": model.name, "version": model.version}, LabelParser(model, self._ids)
        if self._max_batch_requests is None:
            return Version(pipeline, on_loop, None, said, labels)
        batcher = Batcher(
            pipeline,
            max_batch_size=self._max_batch_requests,
            max_queue_size=self._most_waiting,
            run_in_thread=None if on_loop else self._on_thread,
            on_batch=self._tell_batch,
        )
        return Version(pipeline, on_loop, batcher, said, labels)

    def smoke_test(self, model: Model) -> None:
        """See that a model answers the example that its bundle has.

        Raises:
            BundleError: it does not.
        """
        try:
            Pipeline(model, self._ids).time_example()
        except ModeltraceError as error:
            raise BundleError(f"{model.name} {model.version} does not answer its own example: {error}") from error

    def retire(self, version: Version) -> None:
        """It answers no new requests."""
        self._watched.retire(version.info)
