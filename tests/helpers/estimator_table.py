"""The table of docs/models.md: pack each estimator, serve it, and compare its answers with the estimator's.

`python -m tests.helpers.estimator_table [NAME …]` measures all estimators, or those named, and writes their rows.
"""

import re
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import numpy as np
import pandas as pd

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.bundles.training_frame import to_frame
from modeltrace.errors import PackError
from modeltrace.inference.model import Model
from modeltrace.inference.predict_rows import score
from tests.helpers.estimator_case import EstimatorCase, Fitted
from tests.helpers.estimator_cases import cases
from tests.helpers.in_process_services import records_service

PAGE: Final = Path(__file__).parents[2] / "docs" / "models.md"
START, END = "<!-- estimators: start -->", "<!-- estimators: end -->"
EQUAL_ROWS: Final = 200
SINGLE_ROWS: Final = 20
HEADER: Final = "| estimator | answer | pack | single | batch | equal | ONNX | µs |\n|---|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class TableRow:
    """A row of the table: which functions of an estimator work, and the duration of a prediction on this machine."""

    name: str
    answer: str  # the members of the response
    pack: str  # the format of its file
    single: str
    batch: str
    equal: str
    onnx: str
    microseconds: str

    def line(self) -> str:
        """Return the line of the table."""
        cells = (self.name, self.answer, self.pack, self.single, self.batch, self.equal, self.onnx, self.microseconds)
        return f"| {' | '.join(cells)} |"

    def without_time(self) -> str:
        """Return the line without the time."""
        return self.line().rsplit("|", 2)[0]


def measure(case: EstimatorCase, folder: Path) -> TableRow:
    """Pack an estimator, with ONNX if possible, serve it, and compare its answers with its own predictions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = case.fit()
        onnx = _pack(case, fitted, folder / "onnx", onnx=True)
        bundle = _pack(case, fitted, folder / "plain", onnx=False)
        if isinstance(bundle, PackError):
            raise bundle
        model = load_bundle(folder / "plain", trust_pickle=True)
        table = to_frame(fitted.training)[:EQUAL_ROWS].set_axis(model.schema.names, axis="columns")
        expected = _own_answers(fitted, model, slice(EQUAL_ROWS))
        # The estimator predicts these rows one by one, too: NMF transforms a row of a batch in another way.
        expected_single = [_own_answers(fitted, model, slice(row, row + 1))[0] for row in range(SINGLE_ROWS)]
        rows = _to_json_rows(table)
        with records_service(model) as service:
            single = [_post(service, "/predict", {"features": row}) for row in rows[:SINGLE_ROWS]]
            seconds = min(_duration(model, row) for row in rows[:SINGLE_ROWS])
            batch = _post(service, "/predict/batch", {"rows": rows})["predictions"]
    members = [name for name in ("label", "confidence", "value", "outputs") if batch[0].get(name) is not None]
    count = f" ({len(model.outputs)})" if len(model.outputs) > 1 else ""
    return TableRow(
        case.name,
        ", ".join(members) + count,
        case.artifact_format,
        _mark(_agree(single, expected_single)),
        _mark(len(batch) == len(rows)),
        _mark(_agree(batch, expected)),
        _mark(not isinstance(onnx, PackError)),
        f"{seconds * 1e6:,.0f}",
    )


def _pack(case: EstimatorCase, fitted: Fitted, out: Path, *, onnx: bool) -> Path | PackError:
    """Pack without cross-validation; return the error if the estimator is refused."""
    try:
        return pack(
            fitted.estimator, fitted.training, fitted.target, name="model", out=out, onnx=onnx,
            artifact_format=case.artifact_format, cross_validation_seconds=0,
        )  # fmt: skip
    except PackError as error:
        return error


def _own_answers(fitted: Fitted, model: Model, selected: slice) -> list[Any]:
    """Return what the estimator predicts or transforms, one value or one list of values for each selected row."""
    estimator = fitted.estimator
    rows = fitted.training[selected]
    predicted = estimator.transform(rows) if model.task == "transformer" else estimator.predict(rows)
    dense = predicted.toarray() if hasattr(predicted, "toarray") else np.asarray(predicted)
    return (dense.reshape(len(rows), -1) if model.task in ("multi_output", "transformer") else dense.ravel()).tolist()


def _to_json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    present = table.astype(object).where(table.notna(), None)
    return [dict(zip(table.columns, values, strict=True)) for values in present.itertuples(index=False, name=None)]


def _post(service: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = service.client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def _duration(model: Model, row: dict[str, Any]) -> float:
    """Return the seconds that a prediction takes: validation, features and inference."""
    start = perf_counter()
    score(model, [row])
    return perf_counter() - start


def _agree(answers: Iterable[dict[str, Any]], expected: Iterable[Any]) -> bool:
    return all(_same(answer, own) for answer, own in zip(answers, expected, strict=True))


def _same(answer: dict[str, Any], own: Any) -> bool:
    answered = [*answer["outputs"].values()] if isinstance(own, list) else [answer.get("label", answer.get("value"))]
    pairs = zip(answered, own if isinstance(own, list) else [own], strict=True)
    return all(
        bool(np.isclose(value, other, rtol=1e-9, atol=1e-9)) if isinstance(other, float) else value == other
        for value, other in pairs
    )


def _mark(works: bool) -> str:
    return "yes" if works else "no"


def documented_lines(page: Path = PAGE) -> dict[str, str]:
    """Return the lines of the table in the page, by the name of the estimator."""
    block = page.read_text().partition(START)[2].partition(END)[0]
    rows = re.findall(r"^\| (?!estimator |---)(.*?) \|.*$", block, re.MULTILINE)
    lines = [line for line in block.splitlines() if line.startswith("| ") and not line.startswith("| estimator")]
    return dict(zip(rows, lines, strict=True))


def write_lines(lines: dict[str, str], page: Path = PAGE) -> None:
    """Write the table: the lines of all cases, under the heading of their group."""
    parts: list[str] = []
    group = ""
    for case in cases().values():
        if case.group != group:
            group = case.group
            parts.append(f"\n### {group}\n\n{HEADER}")
        if case.name in lines:
            parts.append(lines[case.name])
    before, _, rest = page.read_text().partition(START)
    page.write_text(f"{before}{START}\n{chr(10).join(parts)}\n\n{END}{rest.partition(END)[2]}")


def main(names: list[str]) -> None:
    """Measure estimators and write their lines."""
    known = cases()
    lines = documented_lines()
    for name in names or known:
        with TemporaryDirectory() as folder:
            try:
                lines[name] = measure(known[name], Path(folder)).line()
            except Exception as error:  # noqa: BLE001  one estimator does not end the measurement of the others
                sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
                continue
        sys.stdout.write(f"{lines[name]}\n")
        write_lines(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
