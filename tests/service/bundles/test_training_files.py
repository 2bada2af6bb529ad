"""`modeltrace pack` reads the same formats as `modeltrace score`, and restores dtypes that text files do not keep."""

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modeltrace.bundles.loaded_model import load
from modeltrace.bundles.manifest import read_manifest
from modeltrace.bundles.training_files import read_training_table, restore_categories
from modeltrace.cli.main import main
from modeltrace.errors import PackError
from tests.helpers.needs_categories import NeedsCategories

TABLE = pd.DataFrame({
    "größe": [1.5, 2.0, None, 4.25] * 15,
    "count": range(60),
    "code": ["007", "x,y", "tab\tin", 'quo"te'] * 15,
    "member": [True, False, True, True] * 15,
    "label": ["no", "yes", "yes", "no"] * 15,
})  # fmt: skip
WRITERS: dict[str, Callable[[Path], object]] = {
    ".csv": lambda path: TABLE.to_csv(path, index=False),
    ".csv.gz": lambda path: TABLE.to_csv(path, index=False),
    ".tsv": lambda path: TABLE.to_csv(path, index=False, sep="\t"),
    ".tsv.gz": lambda path: TABLE.to_csv(path, index=False, sep="\t"),
    ".jsonl": lambda path: TABLE.to_json(path, orient="records", lines=True, force_ascii=False),
    ".ndjson": lambda path: TABLE.to_json(path, orient="records", lines=True),
    ".jsonl.gz": lambda path: TABLE.to_json(path, orient="records", lines=True),
    ".parquet": TABLE.to_parquet,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_is_the_same_in_every_format(suffix: str, tmp_path: Path) -> None:
    """Names, values, missing values and the types of the columns are those that were written."""
    path = tmp_path / f"train{suffix}"
    WRITERS[suffix](path)

    read = read_training_table(path)

    pd.testing.assert_frame_equal(read, TABLE, check_dtype=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.xlsx", b"", r"must end in \.csv, \.tsv, \.jsonl .*\.parquet"),
        ("train.csv.gz", b"a,b\n1,2\n", "cannot be read"),
        ("train.jsonl", b'{"a": 1}\n{"a": \n', "row 2: not JSON"),
        ("train.jsonl.gz", gzip.compress(b"[1]\n", mtime=0), "row 1: not a JSON object"),
        ("train.csv", b"", "cannot be read"),
        ("train.parquet", b"no", "cannot be read"),
        ("absent.tsv", None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    """The message names the file, the row and the reason."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(PackError, match=message) as caught:
        read_training_table(path)
    assert name in str(caught.value)


def test_a_column_of_a_csv_file_becomes_a_category_if_the_model_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundle has the levels of the training data, and its predictions are those of the estimator."""
    categories = TABLE[["code", "count"]].astype({"code": "category"})
    estimator = NeedsCategories(["code"]).fit(categories, TABLE.label)
    joblib.dump(estimator, tmp_path / "model.joblib")
    TABLE[["code", "count", "label"]].to_csv(tmp_path / "train.csv", index=False)
    monkeypatch.chdir(tmp_path)
    arguments = ("model.joblib", "--trust-pickle", "--format", "joblib", "--data", "train.csv", "--target", "label")
    monkeypatch.setattr(sys, "argv", ["modeltrace", "pack", *arguments, "--cross-validation-seconds", "0"])

    main_exit_code = _exit_code()

    output, error = capsys.readouterr()
    assert main_exit_code == 0, error
    assert "column code is given as a category of 4 levels" in output
    (feature, _) = read_manifest(Path("model"))[0].features
    assert (feature.dtype, feature.categories) == ("category", ("007", 'quo"te', "tab\tin", "x,y"))
    predicted = load("model", trust_pickle=True).predict(TABLE[["code", "count"]])
    assert predicted.tolist() == estimator.predict(categories).tolist()


def _exit_code() -> object:
    with pytest.raises(SystemExit) as exit_info:
        sys.exit(main())
    return exit_info.value.code or 0


def test_only_columns_that_need_it_become_categories() -> None:
    """A model that accepts texts keeps them, so that it can get texts that the training data does not have."""
    rows = TABLE[["code", "label"]].rename(columns={"label": "answer"})
    needs_one = NeedsCategories(["answer"]).fit(rows.astype({"answer": "category"}), TABLE.label)
    needs_none = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(rows, TABLE.label)

    restored, names = restore_categories(needs_one, rows)
    same, none = restore_categories(needs_none, rows)

    assert names == ["answer"]
    assert restored.dtypes.astype(str).tolist() == ["str", "category"]
    assert same is rows
    assert none == []
