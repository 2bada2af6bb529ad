# mypy: ignore-errors
# Its imports are installed only in the environment of Ray.
"""The model as a Ray Serve deployment; BENCH_BATCHING turns batching on, BENCH_TELEMETRY tracing."""

import os
import signal

import joblib
import numpy as np
import ray
from ray import serve
from starlette.requests import Request

TRACED = "BENCH_TELEMETRY" in os.environ


@serve.deployment(max_ongoing_requests=100)
class Predictor:
    """Calls the model once per request."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    async def __call__(self, request: Request) -> dict:
        """Return the probabilities of the classes."""
        body = await request.json()
        return {"probabilities": self.model.predict_proba(np.array([body["row"]]))[0].tolist()}


@serve.deployment(max_ongoing_requests=100)
class BatchPredictor:
    """Calls the model once for the rows of concurrent requests."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, rows: list) -> list:
        """Predict all rows of a batch."""
        return self.model.predict_proba(np.array(rows)).tolist()

    async def __call__(self, request: Request) -> dict:
        """Return the probabilities of the classes."""
        body = await request.json()
        return {"probabilities": await self.predict(body["row"])}


def span_processors() -> list:
    """Return the span processors of each Ray process. RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH names this function."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  only when traced
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    return [BatchSpanProcessor(OTLPSpanExporter())]


def main() -> None:
    """Serve on BENCH_PORT until TERM."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=os.environ["BENCH_FOLDER"])
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    deployment = BatchPredictor if "BENCH_BATCHING" in os.environ else Predictor
    serve.run(deployment.bind(), route_prefix="/predict", logging_config={"enable_access_log": TRACED})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()


if __name__ == "__main__":
    main()
