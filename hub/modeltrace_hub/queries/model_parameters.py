"""Query parameters of the pages and API calls about models: a sliding window, and filters for predictions."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from modeltrace_hub.durations import parse_duration_ns
from modeltrace_hub.queries.filter_fields import BoundCondition, FieldSet, bind_attribute, parse_required_duration
from modeltrace_hub.queries.list_fields import LABEL_FIELDS, PREDICTION_FIELDS, VIOLATION_FIELDS
from modeltrace_hub.queries.list_parameters import LimitedText, LineFilter, Time, parse_time_ns
from modeltrace_hub.queries.parameters import Parameters

MINUTE_NS: Final = 60 * 10**9
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS
MIN_WINDOW_NS: Final = MINUTE_NS
MAX_WINDOW_NS: Final = 31 * DAY_NS

DEFAULT_WINDOW: Final = "1h"

# Names and versions of models are longer than other parameters, because links to each stored model have them.
MAX_NAME_LENGTH: Final = 10_000
ModelName = Annotated[str | None, Field(max_length=MAX_NAME_LENGTH)]

TAG_PATTERN: Final = "^[a-z][a-z0-9_]*=.+$"

# A window has at most this many steps. Each step has one of the lengths below.
MAX_STEPS: Final = 60
_STEP_LENGTHS_NS: Final = tuple(count * MINUTE_NS for count in (1, 2, 5, 6, 10, 15, 30, 60, 120, 180, 360, 720, 1440))

# The query searches for the last value of a counter before the window, at most this long before its start.
LOOKBACK_NS: Final = 60 * MINUTE_NS


@dataclass(frozen=True, slots=True)
class Window:
    """A window of time in steps of `step_ns`."""

    since_ns: int  # start, exclusive
    until_ns: int  # end, inclusive
    step_ns: int  # length of a step
    now_ns: int  # the time of the request

    def seconds_since(self, first_ns: int) -> float:
        """Return the length of the part of the window from the first record up to now, in seconds; at least a minute.

        Rates are divided by it, so that the rate of a service that has just started is not too low.
        """
        end = min(self.now_ns, self.until_ns)
        return max(end - max(self.since_ns, first_ns), MINUTE_NS) / 1e9

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Start and end of each step."""
        starts = range(self.since_ns, self.until_ns, self.step_ns)
        return [(start, min(start + self.step_ns, self.until_ns)) for start in starts]


def window_ending_at(length_ns: int, now_ns: int) -> Window:
    """Return the window of a length that ends with the current step.

    Steps start at multiples of their length, so the bars of a chart do not move with every request.
    """
    step = next((length for length in _STEP_LENGTHS_NS if length * MAX_STEPS >= length_ns), DAY_NS)
    until = -(-now_ns // step) * step
    return Window(until - length_ns, until, step, now_ns)


def _parse_length(value: object) -> int:
    length = parse_required_duration(value)
    if not MIN_WINDOW_NS <= length <= MAX_WINDOW_NS:
        raise ValueError("a window is from 1m to 31d long")
    return length


WindowLength = Annotated[int, BeforeValidator(_parse_length)]


def window_between(since_ns: int, until_ns: int, now_ns: int) -> Window:
    """Return the window from one time to another, extended to whole minutes.

    Raises:
        ValueError: the window is empty or too long.
    """
    since, until = since_ns // MINUTE_NS * MINUTE_NS, -(-until_ns // MINUTE_NS) * MINUTE_NS
    if since >= until:
        raise ValueError("since must be before until")
    if until - since > MAX_WINDOW_NS:
        raise ValueError("a window is from 1m to 31d long")
    step = next((length for length in _STEP_LENGTHS_NS if length * MAX_STEPS >= until - since), DAY_NS)
    return Window(since, until, step, now_ns)


def _check_time(value: object) -> str:
    parse_time_ns(value)
    return str(value)


TimeText = Annotated[str | None, BeforeValidator(_check_time), Field(max_length=80)]


class ModelFilter(Parameters):
    """Select the window of the model metrics: an age up to now, or from one time to another."""

    since: TimeText = Field(None, description="Start of the window; an age such as 15m moves with the clock.")
    until: TimeText = Field(None, description="End of the window.")
    window: WindowLength = Field(
        parse_required_duration(DEFAULT_WINDOW),
        description="Without `since` and `until`, the length of the window up to now, 1m to 31d.",
        json_schema_extra={"type": "string"},
    )

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        self.current_window()
        return self

    def current_window(self) -> Window:
        """Return the window of the parameters at the time of the call.

        Raises:
            ValueError: the window is empty, too short or too long.
        """
        now_ns = time.time_ns()
        age_ns = None if self.since is None else parse_duration_ns(self.since)
        if self.until is None and (self.since is None or age_ns is not None):
            return window_ending_at(self.window if age_ns is None else _parse_length(self.since), now_ns)
        until_ns = now_ns if self.until is None else parse_time_ns(self.until)
        since_ns = until_ns - self.window if self.since is None else parse_time_ns(self.since)
        return window_between(since_ns, until_ns, now_ns)


StepName = Literal["minute", "hour", "day"]
Period = Annotated[
    StepName | None,
    Field(
        description="The length of a step; by default, a minute in windows of up to two hours, an hour in windows of "
        "up to three days, else a day. Windows of over twelve hours have no steps of a minute."
    ),
]


class QualityFilter(ModelFilter):
    """Select the labelled predictions of a model, and the steps of their figures over time."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH, description="`ml.model.name`.")]
    over: Period = None


class ModelPageView(ModelFilter):
    """The state of the models page: one model or all, the steps of its charts, and whether all features are shown."""

    model: ModelName = None
    over: Period = None
    all: bool = False


class PredictionFilter(LineFilter):
    """Filter predictions, labels or schema violations."""

    parameter_conditions: ClassVar[Mapping[str, tuple[str, str]]] = {
        "model": ("model", "="),
        "version": ("version", "="),
        "id": ("id", "="),
        "label": ("label", "="),
        "above": ("confidence", ">"),
        "below": ("confidence", "<="),
    }

    model: ModelName = Field(None, description="`ml.model.name`.")
    version: ModelName = Field(None, description="`ml.model.version`.")
    since: Time = Field(None, description="Later than this time.", json_schema_extra={"type": "string"})
    id: LimitedText = Field(None, description="The external ID: the client's own ID of the prediction.")
    tag: Annotated[str | None, Field(max_length=120, pattern=TAG_PATTERN)] = Field(
        None, description="A tag of the request, `NAME=VALUE`."
    )
    label: LimitedText = Field(None, description="The predicted label.")
    above: float | None = Field(None, description="Confidence above this.")
    below: float | None = Field(None, description="Confidence of at most this.")
    feature: LimitedText = Field(None, description="A feature; the items show its value.")
    bin: LimitedText = Field(
        None, description="A bin of the training data, of the feature's values; without a feature, of the predictions."
    )
    violation: LimitedText = Field(
        None, description="List schema violations with this reason (`any` for all), accepted or rejected."
    )
    true_label: LimitedText = Field(None, description="List the labels of the window that have this value.")
    outcome: Literal["incorrect", "correct", "labelled"] | None = Field(
        None, description="List the labels of the window whose prediction was incorrect, was correct, or both."
    )
    limit: int = Field(100, ge=1, le=1000, description="The maximum number of items, the newest first.")

    @property
    def kind(self) -> Literal["violations", "labels", "predictions"]:
        """The kind of the listed items."""
        if self.violation is not None:
            return "violations"
        return "labels" if self.true_label is not None or self.outcome is not None else "predictions"

    @property
    def field_set(self) -> FieldSet:
        """The fields of the filter line."""
        return {"violations": VIOLATION_FIELDS, "labels": LABEL_FIELDS, "predictions": PREDICTION_FIELDS}[self.kind]

    def bind(self, field_set: FieldSet) -> list[BoundCondition]:
        """Return the conditions of the parameters, of the filter line and of the tag."""
        tags = [] if self.tag is None or self.kind == "violations" else [self.tag.partition("=")]
        return [
            *super().bind(field_set),
            *(bind_attribute(field_set, f"tag.{name}", "=", value) for name, _, value in tags),
        ]
