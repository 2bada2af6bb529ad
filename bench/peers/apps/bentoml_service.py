# mypy: ignore-errors
# What it imports is in BentoML's environment alone.
"""The model as a BentoML service; with BENCH_BATCHING its API is batchable, with BENCH_TELEMETRY it is monitored."""

import os
from contextlib import nullcontext

import bentoml
import joblib
import numpy as np

BATCHING = "BENCH_BATCHING" in os.environ
MONITORED = "BENCH_TELEMETRY" in os.environ


def record(rows: np.ndarray, probabilities: np.ndarray) -> None:
    """One record a prediction with all inputs and the answer, as BentoML's guide to monitoring shows it."""
    for row, answer in zip(rows, probabilities, strict=True):
        with bentoml.monitor("predictions") if MONITORED else nullcontext() as monitor:
            if monitor is None:
                return
            for index, value in enumerate(row):
                monitor.log(float(value), name=f"feature_{index}", role="feature", data_type="numerical")
            monitor.log(float(answer.max()), name="confidence", role="prediction", data_type="numerical")


if BATCHING:

    @bentoml.service(workers=1)
    class Predictor:
        """Rows of concurrent requests are gathered into one call."""

        def __init__(self) -> None:
            self.model = joblib.load(os.environ["BENCH_MODEL"])

        @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
        async def predict(self, rows: np.ndarray) -> np.ndarray:
            """Probabilities of the classes, a row each."""
            probabilities = self.model.predict_proba(rows)
            record(rows, probabilities)
            return probabilities

else:

    @bentoml.service(workers=1)
    class Predictor:
        """One request, one call."""

        def __init__(self) -> None:
            self.model = joblib.load(os.environ["BENCH_MODEL"])

        @bentoml.api
        async def predict(self, rows: np.ndarray) -> np.ndarray:
            """Probabilities of the classes, a row each."""
            probabilities = self.model.predict_proba(rows)
            record(rows, probabilities)
            return probabilities
