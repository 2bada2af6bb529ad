"""What a run of batch scoring does, and how far it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modeltrace.errors import ModeltraceError

# Rows that are predicted with one call of the model, and that a kill may cause to be predicted again.
CHUNK_ROWS: Final = 4096


class PartialResultError(ModeltraceError):
    """The partial result of an interrupted run cannot be used, or the result file exists."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """What to score.

    Attributes:
        file: the table with the rows.
        out: the file to write.
        keep: columns of the table to copy.
        id_column: the column with an external ID for each row; `None` for none. It needs telemetry.
        tags: columns with a tag for each row; the tag has the name of its column. They need telemetry.
        probabilities: write the probability of each class, too.
        interval: write the prediction interval, too.
        telemetry: record each chunk as a trace, and store the predictions.
        force: replace an existing file.
        restart: discard the partial result of an interrupted run.
        chunk_rows: rows per call of the model.
    """

    file: Path
    out: Path
    keep: tuple[str, ...] = ()
    id_column: str | None = None
    tags: tuple[str, ...] = ()
    probabilities: bool = False
    interval: bool = False
    telemetry: bool = False
    force: bool = False
    restart: bool = False
    chunk_rows: int = CHUNK_ROWS

    @property
    def details(self) -> bool:
        """Whether the model returns more than label or value."""
        return self.probabilities or self.interval

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The column with external IDs, if there is one."""
        return () if self.id_column is None else (self.id_column,)


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a run: rows done, and the share of the file that has been read, from 0 to 1."""

    rows: int
    share: float


def parts_folder(out: Path) -> Path:
    """Return the folder of the partial result for a result file."""
    return out.with_name(f".{out.name}.parts")
