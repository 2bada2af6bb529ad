"""Alibi Detect: TabularDrift with its default level of 5 %, divided by the number of columns.

It does not accept missing values. Missing numbers are replaced by the median of the training data, and missing
categories are a category.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from alibi_detect.cd import TabularDrift
from samples import run


def find_alarms(columns, training, windows):
    """Return for each window whether the detector reports drift."""
    encoders = {name: make_encoder(kind, training[name]) for name, kind in columns.items()}
    matrices = [
        np.column_stack([encode(rows[name]) for name, encode in encoders.items()]) for rows in (training, *windows)
    ]
    categories = {index: None for index, kind in enumerate(columns.values()) if kind == "category"}
    detector = TabularDrift(matrices[0], categories_per_feature=categories or None)
    return [{"Alibi Detect": detector.predict(matrix)["data"]["is_drift"]} for matrix in matrices[1:]]


def make_encoder(kind, training):
    """Return a function that converts a column to numbers without missing values."""
    if kind == "number":
        return lambda column: column.fillna(training.median()).to_numpy(dtype=np.float64)
    codes = {}
    return lambda column: np.array([codes.setdefault(value, len(codes)) for value in column.fillna("missing")], float)


run(find_alarms)
