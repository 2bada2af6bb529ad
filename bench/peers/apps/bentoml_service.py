# mypy: ignore-errors
# Its imports are installed only in the environment of BentoML.
"""The model as a BentoML service; BENCH_BATCHING turns batching on, BENCH_TELEMETRY monitoring."""

import os
from contextlib import nullcontext

import bentoml
import joblib
import numpy as np

BATCHING = "BENCH_BATCHING" in os.environ
MONITORED = "BENCH_TELEMETRY" in os.environ


def record(rows: np.ndarray, probabilities: np.ndarray) -> None:
    """Record all inputs and the output of each prediction, as in the monitoring guide of BentoML."""
    for row, output in zip(rows, probabilities, strict=True):
        with bentoml.monitor("predictions") if MONITORED else nullcontext() as monitor:
            if monitor is None:
                return
            for index, value in enumerate(row):
                monitor.log(float(value), name=f"feature_{index}", role="feature", data_type="numerical")
            monitor.log(float(output.max()), name="confidence", role="prediction", data_type="numerical")


if BATCHING:

    @bentoml.service(workers=1)
    class Predictor:
        """Calls the model once for the rows of concurrent requests."""

        def __init__(self) -> None:
            self.model = joblib.load(os.environ["BENCH_MODEL"])

        @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
        async def predict(self, rows: np.ndarray) -> np.ndarray:
            """Return the probabilities of the classes, shape (n_rows, n_classes)."""
            probabilities = self.model.predict_proba(rows)
            record(rows, probabilities)
            return probabilities

else:

    @bentoml.service(workers=1)
    class Predictor:
        """Calls the model once per request."""

        def __init__(self) -> None:
            self.model = joblib.load(os.environ["BENCH_MODEL"])

        @bentoml.api
        async def predict(self, rows: np.ndarray) -> np.ndarray:
            """Return the probabilities of the classes, shape (n_rows, n_classes)."""
            probabilities = self.model.predict_proba(rows)
            record(rows, probabilities)
            return probabilities
