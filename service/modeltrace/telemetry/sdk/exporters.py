"""The exporters that the settings ask for, each counting what it delivered.

The SDK says nothing of what it gave up. What was taken less what was delivered is what was lost, whatever the reason:
a full queue, an export that failed, a stop that ran out of time.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult

from modeltrace.otel_env.table import Signal
from modeltrace.otlp.check import check_delivery
from modeltrace.otlp.exporters import Protocol, sdk_exporter
from modeltrace.settings import OtelSettings

# A batch of the largest size allowed by default fits three times over; at about 5 kB a record that is 150 MB.
PREDICTION_QUEUE_SIZE = 32_768

logger = logging.getLogger("modeltrace.exporter")


class ExportCounter:
    """How many items were taken and how many delivered. Counting is atomic without a lock (`itertools.count`)."""

    def __init__(self, what: str) -> None:
        self.item_name = what
        self._taken = count()
        self.delivered = 0  # only the one export thread writes it
        self.count_accepted = self._taken.__next__

    def lost(self) -> int:
        """Items taken and not delivered; right once nothing is taken any more."""
        return next(self._taken) - self.delivered


class CountingSpanExporter(SpanExporter):
    """Passes spans on and counts those delivered."""

    def __init__(self, exporter: SpanExporter, tally: ExportCounter) -> None:
        self._exporter = exporter
        self._tally = tally

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export, and count on success."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._tally.delivered += len(spans)
        return result

    def shutdown(self) -> None:
        """Pass it on."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Pass it on."""
        return self._exporter.force_flush(timeout_millis)


class CountingLogExporter(LogRecordExporter):
    """Passes log records on and counts those delivered."""

    def __init__(self, exporter: LogRecordExporter, tally: ExportCounter) -> None:
        self._exporter = exporter
        self._tally = tally

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export, and count on success."""
        result = self._exporter.export(batch)
        if result is LogRecordExportResult.SUCCESS:
            self._tally.delivered += len(batch)
        return result

    def shutdown(self) -> None:
        """Pass it on."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK has no annotation

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Pass it on."""
        return self._exporter.force_flush(timeout_millis)


class CountingSpanProcessor(BatchSpanProcessor):
    """The SDK's batch processor, counting what it takes."""

    def __init__(self, exporter: SpanExporter, tally: ExportCounter, meter_provider: MeterProvider) -> None:
        super().__init__(CountingSpanExporter(exporter, tally), meter_provider=meter_provider)
        self._tally = tally

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that is sampled."""
        if span.context and span.context.trace_flags.sampled:
            self._tally.count_accepted()
            super().on_end(span)


class CountingLogProcessor(BatchLogRecordProcessor):
    """The SDK's batch processor, counting what it takes."""

    def __init__(
        self, exporter: LogRecordExporter, tally: ExportCounter, meter_provider: MeterProvider, queue: int | None = None
    ) -> None:
        super().__init__(CountingLogExporter(exporter, tally), max_queue_size=queue, meter_provider=meter_provider)
        self._tally = tally

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Take a record."""
        self._tally.count_accepted()
        super().on_emit(log_record)


class ExportFailureLogger:
    """Logs why exports of one signal fail, and that they succeed again; each once.

    The SDK logs a status or an exception and keeps both to itself, so an empty request is sent to get them again.
    """

    def __init__(self, signal: Signal, *, protocol: Protocol, seconds: float) -> None:
        self._signal = signal
        self._protocol = protocol
        self._seconds = seconds
        self._failing = False

    def watch(self, exporter: Any) -> Any:  # noqa: ANN401  six classes of the SDK, whose results differ
        """Have an exporter report what became of each export."""
        export = exporter.export

        def watched(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401  see above
            result = export(*arguments, **more)
            self._report(failed=result.name != "SUCCESS")
            return result

        exporter.export = watched
        return exporter

    def _report(self, *, failed: bool) -> None:
        if failed == self._failing:
            return
        self._failing = failed
        if not failed:
            logger.warning("OTLP %s delivered again", self._signal)
        elif failure := check_delivery(self._signal, protocol=self._protocol, timeout_seconds=self._seconds):
            logger.warning("OTLP %s cannot be delivered to %s: %s", self._signal, failure.address, failure)


@dataclass(frozen=True)
class ExporterBuilder:
    """Builds the exporters that the settings name."""

    settings: OtelSettings

    def spans(self, meter_provider: MeterProvider) -> list[SpanExporter]:
        """Those that `OTEL_TRACES_EXPORTER` names."""
        console: list[SpanExporter] = [ConsoleSpanExporter()] if self._console("traces") else []
        return [*self._otlp("traces", meter_provider), *console]

    def logs(self, meter_provider: MeterProvider) -> list[LogRecordExporter]:
        """Those that `OTEL_LOGS_EXPORTER` names."""
        console: list[LogRecordExporter] = [ConsoleLogRecordExporter()] if self._console("logs") else []
        return [*self._otlp("logs", meter_provider), *console]

    def metrics(self) -> list[MetricExporter]:
        """The push exporters that `OTEL_METRICS_EXPORTER` names."""
        console: list[MetricExporter] = [ConsoleMetricExporter()] if self._console("metrics") else []
        return [*self._otlp("metrics", None), *console]

    def _console(self, signal: Signal) -> bool:
        return "console" in self.settings.exporters_for(signal)

    def _otlp(self, signal: Signal, meter_provider: MeterProvider | None) -> list[Any]:
        if signal not in self.settings.otlp_signals():
            return []
        protocol, seconds = self.settings.protocol_for(signal), self.settings.timeout_for(signal)
        exporter = sdk_exporter(signal, protocol=protocol, timeout_seconds=seconds, meter_provider=meter_provider)
        return [ExportFailureLogger(signal, protocol=protocol, seconds=seconds).watch(exporter)]
