# mypy: ignore-errors
# What it imports is in LitServe's environment alone.
"""The model as a LitServe API; with BENCH_BATCHING it takes batches, with BENCH_TELEMETRY its requests are traced."""

import os

import joblib
import litserve
import numpy as np


class Predictor(litserve.LitAPI):
    """A row in, the probabilities of the classes out."""

    def setup(self, device: str) -> None:  # noqa: ARG002  LitServe's signature
        """Load the model, in the worker."""
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    def decode_request(self, request: dict) -> list[float]:
        """The row."""
        return request["row"]

    def predict(self, rows: list) -> list:
        """One row, or as many as were gathered."""
        if self.max_batch_size > 1:
            return list(self.model.predict_proba(np.array(rows)))
        return self.model.predict_proba(np.array([rows]))[0]

    def encode_response(self, output: np.ndarray) -> dict:
        """The answer."""
        return {"probabilities": output.tolist()}


def trace_requests(server: litserve.LitServer) -> None:
    """OpenTelemetry's own instrumentation of the FastAPI application, which LitServe hands out."""
    from opentelemetry import trace  # noqa: PLC0415  only with telemetry
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(server.app, tracer_provider=provider)


def main() -> None:
    """Serve on BENCH_PORT."""
    batching = {"max_batch_size": 64, "batch_timeout": 0.001} if "BENCH_BATCHING" in os.environ else {}
    # fast_queue (ZeroMQ) is what LitServe advises above 100 requests/s.
    server = litserve.LitServer(Predictor(**batching), accelerator="cpu", fast_queue=True)
    if traced := "BENCH_TELEMETRY" in os.environ:
        trace_requests(server)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        access_log=traced,
        log_level="info" if traced else "warning",
    )


if __name__ == "__main__":
    main()
