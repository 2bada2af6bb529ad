"""Score a file: read rows, predict them in chunks, and write one result per row."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from modeltrace.inference.model import Model
from modeltrace.scoring.config import Progress, ScoreConfig
from modeltrace.scoring.parts import open_partial_result
from modeltrace.scoring.results import Result, Summary, results_schema, to_table
from modeltrace.scoring.row_identity import RowIdentity
from modeltrace.scoring.scorer import InputRow, Outcome, RowError, Scorer, score_rows
from modeltrace.tables.reader import Table, TableError, TableRow, open_table
from modeltrace.tables.values import converter
from modeltrace.tables.writer import check_types, output_format

UNREADABLE: Final = "unreadable"


def score_file(
    config: ScoreConfig,
    model: Model,
    scorer: Scorer,
    *,
    on_progress: Callable[[Progress], object] = lambda _: None,
) -> Summary:
    """Score all rows of a file. If an earlier run was interrupted, continue it.

    The memory does not depend on the number of rows. The result has one row for each row of the file, in order.

    Args:
        config: what to score.
        model: the model.
        scorer: predicts rows of the model. With telemetry, its outcomes have prediction IDs and trace IDs.
        on_progress: called after each chunk.

    Raises:
        TableError: the file cannot be read or lacks a column, or the result cannot be written in this format.
        PartialResultError: an interrupted run differs from this one, or another process writes the result.
        ModeltraceError: other reasons why the result cannot be written.
    """
    with open_table(config.file, {*model.schema.names, *config.keep, *config.id_columns, *config.tags}) as table:
        copied = _copied_types(config, table, model)
        schema = results_schema(
            model, copied, with_ids=config.telemetry, probabilities=config.probabilities, interval=config.interval
        )
        check_types(schema, output_format(config.out))
        run = _describe_run(config, model)
        with open_partial_result(config.out, schema, run, force=config.force, restart=config.restart) as partial:
            rows = itertools.islice(table.rows, partial.rows, None)
            score = _ChunkScorer(model, scorer, table, config)
            for chunk in _chunks(rows, config.chunk_rows):
                partial.append(to_table(score(chunk), schema))
                on_progress(Progress(partial.rows, table.progress()))
            summary = Summary()
            for part in partial.finish():
                summary.add(part)
    return summary


class _ChunkScorer:
    """Converts and predicts the rows of a table."""

    def __init__(self, model: Model, scorer: Scorer, table: Table, config: ScoreConfig) -> None:
        self._converters = [(feature.name, converter(feature, table.format)) for feature in model.features]
        self._private = model.schema.has_private_features
        self._scorer = scorer
        self._keep = config.keep
        self._identity = RowIdentity(config.id_column, config.tags)
        self._as_text = table.columns is None

    def __call__(self, rows: Sequence[TableRow]) -> list[Result]:
        inputs = [self._read(row) for row in rows]
        valid = [row for row in inputs if isinstance(row, InputRow)]
        outcomes = iter(score_rows(self._scorer, valid, private=self._private))
        return [
            Result(
                row.number,
                tuple(self._copy(row.values.get(name)) for name in self._keep),
                Outcome(error=given) if isinstance(given, RowError) else next(outcomes),
            )
            for row, given in zip(rows, inputs, strict=True)
        ]

    def _read(self, row: TableRow) -> InputRow | RowError:
        """Convert the values of a row, or return why it cannot be predicted."""
        if row.error:
            return RowError(None, UNREADABLE, row.error)
        identity = self._identity.read(row.values)
        if isinstance(identity, RowError):
            return identity
        features = {name: convert(row.values.get(name)) for name, convert in self._converters}
        return InputRow(row.number, features, *identity)

    def _copy(self, value: Any) -> Any:  # noqa: ANN401  any cell
        """Return a value of a copied column. JSON values have several types, so they become text."""
        if not self._as_text or value is None or isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False)


def _copied_types(config: ScoreConfig, table: Table, model: Model) -> dict[str, pa.DataType]:
    """Return the types of the copied columns, and check that the table has all columns.

    Raises:
        TableError: it lacks a column.
    """
    for names, kind in (
        (model.schema.names, "feature"),
        (dict.fromkeys((*config.keep, *config.id_columns, *config.tags)), "column"),
    ):
        if absent := [name for name in names if table.columns is not None and name not in table.columns]:
            raise TableError(f"{config.file} lacks the {kind}{'s' * (len(absent) > 1)} {', '.join(absent)}")
    return {name: table.types.get(name, pa.string()) for name in config.keep}


def _describe_run(config: ScoreConfig, model: Model) -> dict[str, Any]:
    """Return what the result depends on. An interrupted run is continued only if all of it is the same."""
    stat = config.file.stat()
    return {
        "input file": [str(config.file.resolve()), stat.st_size, stat.st_mtime_ns],
        "model": [model.name, model.version, model.hash, model.engine],
        "--keep": list(config.keep),
        "--id-column": config.id_column,
        "--tags": list(config.tags),
        "--probabilities": config.probabilities,
        "--interval": config.interval,
        "--telemetry": config.telemetry,
    }


def _chunks(rows: Iterable[TableRow], size: int) -> Iterator[list[TableRow]]:
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
