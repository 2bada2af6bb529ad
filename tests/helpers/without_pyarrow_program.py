"""Pack and read a bundle, and print what happens as JSON. It runs in a process that cannot import pyarrow."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modeltrace.api.batch_formats import ARROW_TYPE, accepts_arrow, read_batch
from modeltrace.bundles.loaded_model import load
from modeltrace.bundles.pack import pack
from modeltrace.bundles.training_files import read_training_table
from modeltrace.client.client import Client
from modeltrace.store.export import export_predictions
from modeltrace.traffic.rows import load_samples, load_test_samples


class Headers:
    """A request with the content type and the accepted type of Arrow."""

    http = type("Http", (), {"headers": [(b"content-type", ARROW_TYPE.encode()), (b"accept", ARROW_TYPE.encode())]})


def message_of(function: Any, *arguments: Any, **options: Any) -> str:
    """Return the type and the message of the error that a function raises."""
    try:
        function(*arguments, **options)
    except Exception as error:  # noqa: BLE001  reported
        return f"{type(error).__name__}: {error}"
    return "no error"


def main(folder: Path) -> None:
    """Run in a folder, and print the results."""
    table = pd.DataFrame(
        {
            "city": pd.Categorical(["Bonn", "Ulm"] * 120),
            "start": pd.Series(pd.date_range("2024-01-01", periods=240, freq="h")),
            "size": [1.5, None] * 120,
        }
    )
    estimator = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    labels = pd.Series(["a", "b"] * 120, name="kind")
    held_out = table.assign(kind=labels, start=table.start + pd.Timedelta(days=99))
    bundle = pack(estimator.fit(table, labels), table, labels, name="m", out=folder / "m", traffic=held_out)
    model = load(bundle)
    samples = load_test_samples(bundle, model.features)
    (folder / "rows.parquet").touch()
    client = Client("http://127.0.0.1:1")
    result = {
        "files": sorted(path.name for path in bundle.iterdir()),
        "labels": [sample.label for sample in samples] == labels.tolist(),
        "row": samples[1].row,
        "predictions": model.predict([sample.row for sample in samples]).tolist() == estimator.predict(table).tolist(),
        "accepts_arrow": accepts_arrow(Headers),  # type: ignore[arg-type]  # it reads the headers only
        "body": message_of(read_batch, b"", None, Headers, max_rows=1, max_bytes=1),
        "table": message_of(load_samples, folder / "rows.parquet", model.features),
        "training": message_of(read_training_table, folder / "rows.parquet"),
        "export": message_of(export_predictions, [], folder / "out.csv", "csv"),
        "client": message_of(client.predict_batch, table, arrow=True),
        "pyarrow": [name for name in sys.modules if name.startswith("pyarrow.")],
    }
    export_predictions([], folder / "out.jsonl", "jsonl")
    print(json.dumps(result))  # noqa: T201  the result


if __name__ == "__main__":
    main(Path(sys.argv[1]))
