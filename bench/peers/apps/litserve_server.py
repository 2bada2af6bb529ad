# mypy: ignore-errors
# Its imports are installed only in the environment of LitServe.
"""The model as a LitServe API; BENCH_BATCHING turns batching on, BENCH_TELEMETRY tracing."""

import os

import joblib
import litserve
import numpy as np


class Predictor(litserve.LitAPI):
    """Predicts the probabilities of the classes for one row per request."""

    def setup(self, device: str) -> None:  # noqa: ARG002  LitServe's signature
        """Load the model in the worker."""
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    def decode_request(self, request: dict) -> list[float]:
        """Return the row of the request."""
        return request["row"]

    def predict(self, rows: list) -> list:
        """Predict one row, or all rows of a batch."""
        if self.max_batch_size > 1:
            return list(self.model.predict_proba(np.array(rows)))
        return self.model.predict_proba(np.array([rows]))[0]

    def encode_response(self, output: np.ndarray) -> dict:
        """Return the body of the response."""
        return {"probabilities": output.tolist()}


def trace_requests(server: litserve.LitServer) -> None:
    """Instrument the FastAPI application of LitServe with OpenTelemetry."""
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
    # LitServe recommends fast_queue (ZeroMQ) above 100 requests/s.
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
