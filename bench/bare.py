"""The plainest service around the same model, as a tutorial writes it: what everything else is compared to.

Run as `uvicorn --factory bench.bare:create_app`, with the estimator's joblib file in BENCH_MODEL.
"""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel


class Row(BaseModel):
    """One row, its features in the order in which the model was fitted."""

    features: dict[str, float]


def create_app() -> FastAPI:
    """The whole of it: a body checked by pydantic, one call of the model, an answer."""
    model = joblib.load(os.environ["BENCH_MODEL"])
    app = FastAPI()

    @app.post("/predict")
    async def predict(row: Row) -> dict[str, str | float]:
        probabilities = model.predict_proba(np.array([list(row.features.values())]))[0]
        best = int(probabilities.argmax())
        return {"label": str(model.classes_[best]), "confidence": float(probabilities[best])}

    return app
