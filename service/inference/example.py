"""The default model: Wisconsin breast cancer, real data that scikit-learn carries."""

from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from service.inference.pack import pack

NAME = "breast-cancer"
VERSION = "1.0.0"
TARGET = "target"
HELD_OUT = 0.3


def build_example(out: Path, *, force: bool = False, onnx: bool = False) -> Path:
    """Fit the default model and pack it into `out`; the held-out part is kept as its traffic."""
    data = load_breast_cancer(as_frame=True)
    features = data.data.rename(columns=lambda name: name.replace(" ", "_"))
    labels = data.target.map(dict(enumerate(data.target_names))).rename(TARGET)
    train, held_out, train_labels, held_out_labels = train_test_split(
        features, labels, test_size=HELD_OUT, stratify=labels, random_state=0
    )
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    # Fitted without column names, so that a request needs no DataFrame built for it.
    estimator.fit(train.to_numpy(), train_labels)
    return pack(
        estimator,
        train,
        train_labels,
        name=NAME,
        version=VERSION,
        out=out,
        traffic=held_out.assign(**{TARGET: held_out_labels}),
        force=force,
        onnx=onnx,
    )
