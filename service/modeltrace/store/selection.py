"""Which predictions are meant, and the questions that are asked of them."""

from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, func, select, true, tuple_

from modeltrace.store.schema import labels, predictions


class Selection(NamedTuple):
    """Predictions by time (`since` included, `until` not), of a trace or of a model; without any of it, all of them.

    Figures do not include synthetic ones, unless they are asked for.
    """

    since: int | None = None
    until: int | None = None
    trace_id: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    model_hash: str | None = None
    include_synthetic: bool = True

    def conditions(self) -> list[ColumnElement[bool]]:
        """What holds for each of them."""
        return [
            *([predictions.c.time >= self.since] if self.since is not None else []),
            *([predictions.c.time < self.until] if self.until is not None else []),
            *([predictions.c.trace_id == self.trace_id] if self.trace_id is not None else []),
            *([predictions.c.model_name == self.model_name] if self.model_name is not None else []),
            *([predictions.c.model_version == self.model_version] if self.model_version is not None else []),
            *([predictions.c.model_hash == self.model_hash] if self.model_hash is not None else []),
            *([] if self.include_synthetic else [predictions.c.synthetic.is_not(true())]),
        ]

    def select_page(self, after: tuple[int, str] | None, limit: int) -> Select[Any]:
        """So many of them by time, with their labels; those behind one of that time and ID."""
        place = predictions.c.time, predictions.c.prediction_id
        question = predictions_with_labels().where(*self.conditions()).order_by(*place).limit(limit)
        return question if after is None else question.where(tuple_(*place) > tuple_(*after))

    def select_summary(self) -> Select[Any, Any, Any]:
        """How many there are, the oldest time and the latest."""
        time = predictions.c.time
        return select(func.count(), func.min(time), func.max(time)).where(*self.conditions())


ALL: Final = Selection()


def latest_model(version: str | None) -> Select[Any, Any, Any]:
    """Name, hash and version of the model that answered last, of that version if one is named; shadows do not."""
    named = [] if version is None else [predictions.c.model_version == version]
    question = select(predictions.c.model_name, predictions.c.model_hash, predictions.c.model_version)
    return question.where(predictions.c.shadow_of.is_(None), *named).order_by(predictions.c.time.desc()).limit(1)


def models() -> Select[Any, Any, Any]:
    """Name, version and hash of each model that has answered."""
    return select(predictions.c.model_name, predictions.c.model_version, predictions.c.model_hash).distinct()


def label_join() -> ColumnElement[bool]:
    """Whether a label is that of a prediction: what every question joins the two by.

    The label of an answer is that of its shadows, too.
    """
    return func.coalesce(predictions.c.shadow_of, predictions.c.prediction_id) == labels.c.prediction_id


def predictions_with_labels() -> Select[Any]:
    """Predictions as `modeltrace.store.rows.kept` takes them."""
    joined = predictions.outerjoin(labels, label_join())
    return select(*predictions.columns, labels.c.label, labels.c.received).select_from(joined)
