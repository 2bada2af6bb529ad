"""Program that calls a service with MLflow's client of its scoring protocol: HOST PORT, and a JSON object as stdin.

The object has the rows of a frame, `columns` and `data`. The program prints the responses as JSON.
"""

import json
import os
import sys

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient


def main() -> None:
    """Send the frame in each form that the client has, and an invalid frame."""
    client = ScoringServerClient(sys.argv[1], int(sys.argv[2]))
    client.wait_server_ready(timeout=60)
    frame = pd.DataFrame(**json.load(sys.stdin))
    records = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    forms = {
        "frame": frame,
        "array": frame.to_numpy(),
        "list": records,
        "text": json.dumps({"dataframe_records": records}),
    }
    responses = {name: client.invoke(data) for name, data in forms.items()}
    predictions = responses["frame"].get_predictions()
    assert isinstance(predictions, pd.DataFrame)
    assert np.array_equal(predictions[0], responses["frame"].get_predictions("ndarray"))
    try:
        client.invoke(frame.drop(columns=frame.columns[0]))
    except Exception as error:  # noqa: BLE001  the client raises this class
        message = str(error)
    print(json.dumps({"version": client.get_version(), "error": message, "responses": responses}))  # noqa: T201  the test reads stdout


if __name__ == "__main__":
    main()
