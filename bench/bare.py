"""A minimal FastAPI application around the same model, which is the baseline of the benches.

Start it with `uvicorn --factory bench.bare:create_app`. BENCH_MODEL is the path of the estimator's joblib file.
"""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel


class Row(BaseModel):
    """One row, with its features in the order of the training data."""

    features: dict[str, float]


def create_app() -> FastAPI:
    """Create an application that validates the body with pydantic and calls the model once per request."""
    model = joblib.load(os.environ["BENCH_MODEL"])
    app = FastAPI()

    @app.post("/predict")
    async def predict(row: Row) -> dict[str, str | float]:
        probabilities = model.predict_proba(np.array([list(row.features.values())]))[0]
        predicted = int(probabilities.argmax())
        return {"label": str(model.classes_[predicted]), "confidence": float(probabilities[predicted])}

    return app
