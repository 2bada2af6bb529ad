"""Score rows with telemetry: each chunk is a trace with the stages, metrics, prediction log records and stored rows.

The OpenTelemetry SDK exports in this process. A chunk counts as done only after its telemetry is exported and its rows
are in the prediction store, so a kill loses none of them. The chunk that a kill interrupts is scored again by the next
run, so its telemetry may exist twice.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from typing import Final

from modeltrace.inference.model import Model
from modeltrace.inference.pipeline import Pipeline, Prediction
from modeltrace.inference.prediction_ids import PredictionIdSigner
from modeltrace.keys import load_id_key
from modeltrace.monitoring.model_event import log_model_event
from modeltrace.monitoring.reference_gauges import reference_metrics
from modeltrace.scoring.scorer import InputRow, Outcome, Scorer, rejected
from modeltrace.serving.version import privacy_rules, recorded_details
from modeltrace.settings import Settings
from modeltrace.store.age_limit import AgeLimit
from modeltrace.store.config import StoreConfig, store_config
from modeltrace.store.rows import RowBuilder
from modeltrace.store.store import Store, open_store
from modeltrace.store.writer import DAY_NS
from modeltrace.telemetry.logging import export_logs, redact_warnings
from modeltrace.telemetry.metrics.features import FeatureMetrics, observe_features, observe_reference
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.providers import SCOPE_NAME, Telemetry, log_shutdown_report
from modeltrace.telemetry.records.trace import RequestTrace
from modeltrace.telemetry.resource import build_resource
from modeltrace.telemetry.sdk.provider import build_sdk_provider
from modeltrace.telemetry.sdk.recorder import SDKRecorder

SERVICE_NAME: Final = "modeltrace-score"
# Seconds that the export of a chunk may take.
CHUNK_FLUSH_TIMEOUT: Final = 30.0


def traced_chunk_rows(settings: Settings, chunk_rows: int) -> int:
    """Return the rows per chunk: the log records of a chunk must fit into the queue of the SDK."""
    return min(chunk_rows, int(settings.otel.variables.values.get("OTEL_BLRP_MAX_QUEUE_SIZE", chunk_rows)))


@contextmanager
def open_traced_scorer(settings: Settings, model: Model, *, details: bool = False) -> Iterator[Scorer]:
    """Yield a scorer that records each chunk. At the end, flush all telemetry and log what was not delivered.

    `details`: its outputs have the probability of each class or the prediction interval.

    Raises:
        StoreError: the prediction store cannot be opened.
    """
    resource = build_resource(settings.otel.service_name, version("modeltrace"), workers=1, default_name=SERVICE_NAME)
    with ExitStack() as stack:
        stack.enter_context(_log_warnings(settings.log_level))
        telemetry = build_sdk_provider(settings.otel, resource)
        stack.callback(lambda: log_shutdown_report(telemetry.shutdown(settings.flush_timeout)))
        stack.callback(export_logs(telemetry.logger_provider, telemetry.prediction_logger_provider))
        ids = PredictionIdSigner(load_id_key(settings))
        pipeline = Pipeline(model, ids, recorded_details=recorded_details(settings))
        recorder = _build_recorder(settings, pipeline, telemetry, stack)
        log_model_event(model)
        yield _TracedScorer(pipeline, recorder, telemetry, details=details)


class _TracedScorer:
    """Predicts chunks of rows, each with a trace of its own."""

    def __init__(self, pipeline: Pipeline, recorder: SDKRecorder, telemetry: Telemetry, *, details: bool) -> None:
        self._details = details
        self._pipeline = pipeline
        self._recorder = recorder
        self._telemetry = telemetry

    def __call__(self, rows: Sequence[InputRow]) -> list[Outcome]:
        numbers = [row.number for row in rows]
        with self._recorder.record_scoring() as trace:
            trace.external_ids = {row.number: row.external_id for row in rows}
            trace.row_tags = {row.number: row.tags for row in rows}
            predictions = self._pipeline.predict_batch(
                [row.features for row in rows], trace, numbers, details=self._details
            )
        self._telemetry.flush(CHUNK_FLUSH_TIMEOUT)
        return [
            Outcome(row.output, None, row.id, trace.trace_id_hex) if isinstance(row, Prediction) else rejected(row)
            for row in predictions
        ]


def _build_recorder(settings: Settings, pipeline: Pipeline, telemetry: Telemetry, stack: ExitStack) -> SDKRecorder:
    """Return the recorder, which counts inputs before redaction and stores rows after it."""
    catalog, model = ModelCatalog(), pipeline.model
    rules = privacy_rules(settings, model)
    if rules is not None:
        redact_warnings()
    catalog.add(pipeline.info, reference_metrics(model)._replace(privacy_rules=rules))
    meter = telemetry.meter_provider.get_meter(SCOPE_NAME)
    tracer = telemetry.tracer_provider.get_tracer(SCOPE_NAME)
    features = FeatureMetrics(catalog, exemplar_filter="always_off")
    if telemetry.enabled:
        observe_reference(meter, catalog)
        observe_features(meter, features)
    listeners = []
    if config := store_config(settings):
        store = stack.enter_context(open_store(config.url))
        stack.callback(_enforce_retention, store, config)
        builder = RowBuilder(config.code_version)

        def store_rows(trace: RequestTrace) -> None:
            store.add_predictions(builder.build(trace))

        listeners.append(store_rows)
    return SDKRecorder(tracer, meter, listeners, raw_listeners=[features.count], model_catalog=catalog)


def _enforce_retention(store: Store, config: StoreConfig) -> None:
    """Delete expired and surplus rows, as the writer of the service does at intervals."""
    limit = AgeLimit(int(config.retention_days * DAY_NS))
    while config.retention_days and store.delete_expired(limit, time.time_ns())[1]:
        pass
    while config.max_bytes and store.shrink(config.max_bytes):
        pass


@contextmanager
def _log_warnings(level: str) -> Iterator[None]:
    """Record log records from `level` on, and print warnings on stderr."""
    logger, handler = logging.getLogger(SCOPE_NAME), logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # "modeltrace.exporter" logs each cause once
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
