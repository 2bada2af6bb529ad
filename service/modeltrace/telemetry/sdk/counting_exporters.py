"""Exporters and processors of the OpenTelemetry SDK that count what they accept and deliver.

The SDK does not report lost items. Their number is the number of accepted items minus the number of delivered items.
Items are lost if the queue is full, an export fails, or a shutdown has too little time.
"""

import logging
from collections.abc import Callable, Sized
from itertools import count
from typing import Any, Final

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter, LogRecordExporter
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from modeltrace.otel_env.table import OtlpProtocol, Signal
from modeltrace.otel_settings import OtelSettings
from modeltrace.otlp.check import check_delivery
from modeltrace.otlp.exporters import sdk_exporter

# More than the rows of the largest batch that the default settings allow. At about 5 kB per record, a full queue has
# 150 MB.
PREDICTION_QUEUE_SIZE = 32_768
_CONSOLE_EXPORTERS: Final[dict[Signal, Callable[[], Any]]] = {
    "traces": ConsoleSpanExporter,
    "metrics": ConsoleMetricExporter,
    "logs": ConsoleLogRecordExporter,
}

logger = logging.getLogger("modeltrace.exporter")


class ExportCounter:
    """Counts accepted and delivered items. `count_accepted` is atomic without a lock (`itertools.count`)."""

    def __init__(self, item_name: str) -> None:
        self.item_name = item_name
        self._accepted = count()
        self.delivered = 0  # only the export thread writes it
        self.count_accepted = self._accepted.__next__

    def watch(self, exporter: Any) -> Any:  # noqa: ANN401  four classes of the SDK, whose results differ
        """Count the items that an exporter delivers, and return the exporter."""

        def on_export(items: Sized, delivered: bool) -> None:  # noqa: FBT001  a callback
            self.delivered += len(items) if delivered else 0

        return _watch(exporter, on_export)

    def lost(self) -> int:
        """Return the number of accepted items that were not delivered. Call it after the last item."""
        return next(self._accepted) - self.delivered


class CountingSpanProcessor(BatchSpanProcessor):
    """The SDK's batch processor. It also counts sampled spans."""

    def __init__(self, exporter: SpanExporter, counter: ExportCounter, meter_provider: MeterProvider) -> None:
        super().__init__(counter.watch(exporter), meter_provider=meter_provider)
        self._counter = counter

    def on_end(self, span: ReadableSpan) -> None:
        """Accept a sampled span."""
        if span.context and span.context.trace_flags.sampled:
            self._counter.count_accepted()
            super().on_end(span)


class CountingLogProcessor(BatchLogRecordProcessor):
    """The SDK's batch processor. It also counts log records."""

    def __init__(
        self,
        exporter: LogRecordExporter,
        counter: ExportCounter,
        meter_provider: MeterProvider,
        max_queue_size: int | None = None,
    ) -> None:
        super().__init__(counter.watch(exporter), max_queue_size=max_queue_size, meter_provider=meter_provider)
        self._counter = counter

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Accept a log record."""
        self._counter.count_accepted()
        super().on_emit(log_record)


def build_exporters(settings: OtelSettings, signal: Signal, meter_provider: MeterProvider | None = None) -> list[Any]:
    """Build the exporters of a signal that the settings name."""
    exporters = []
    if signal in settings.otlp_signals():
        protocol, timeout = settings.protocol_for(signal), settings.timeout_for(signal)
        exporter = sdk_exporter(signal, protocol=protocol, timeout_seconds=timeout, meter_provider=meter_provider)
        exporters.append(_log_failures(exporter, signal, protocol=protocol, timeout=timeout))
    if "console" in settings.exporters_for(signal):
        exporters.append(_CONSOLE_EXPORTERS[signal]())
    return exporters


def _log_failures(exporter: Any, signal: Signal, *, protocol: OtlpProtocol, timeout: float) -> Any:  # noqa: ANN401  see `_watch`
    """Log once why exports fail, and once that they succeed again.

    The SDK does not return the reason of a failure. An empty request is sent to find it.
    """
    failing = False

    def on_export(_: object, delivered: bool) -> None:  # noqa: FBT001  a callback
        nonlocal failing
        if delivered != failing:
            return
        failing = not delivered
        if delivered:
            logger.warning("OTLP %s delivered again", signal)
        elif failure := check_delivery(signal, protocol=protocol, timeout_seconds=timeout):
            logger.warning("OTLP %s cannot be delivered to %s: %s", signal, failure.address, failure)

    return _watch(exporter, on_export)


def _watch(exporter: Any, on_export: Callable[[Any, bool], None]) -> Any:  # noqa: ANN401  classes of the SDK
    """Call `on_export` after each export, with the items and whether they were delivered. Return the exporter."""
    export = exporter.export

    def watched(items: Any, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401  see above
        result = export(items, *arguments, **more)
        on_export(items, result.name == "SUCCESS")
        return result

    exporter.export = watched
    return exporter
