"""What the pages and calls about models take: a sliding window, and which predictions in it."""

import time
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from modeltrace_hub.queries.filters import MAX_NS, Text, Time, duration_ns

MINUTE: Final = 60 * 10**9
DAY: Final = 24 * 60 * MINUTE
SHORTEST: Final = MINUTE
LONGEST: Final = 31 * DAY

# What the pages offer, as it stands in the address.
CHOICES: Final = ("15m", "1h", "6h", "24h", "7d")
DEFAULT: Final = "1h"

# A window is shown in at most this many steps, each of a length that can be named.
MOST_STEPS: Final = 60
_STEPS: Final = tuple(count * MINUTE for count in (1, 2, 5, 6, 10, 15, 30, 60, 120, 180, 360, 720, 1440))

# A counter's total before the window is looked for this long before it.
LOOKBACK_NS: Final = 60 * MINUTE


@dataclass(frozen=True, slots=True)
class Window:
    """From `since_ns`, outside of it, to `until_ns`, inside; in steps of `step_ns`. `now_ns` is where it was asked."""

    since_ns: int
    until_ns: int
    step_ns: int
    now_ns: int

    @property
    def seconds(self) -> float:
        """How much of it has passed, in seconds; at least one."""
        return max((min(self.now_ns, self.until_ns) - self.since_ns) / 1e9, 1.0)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Start and end of each step."""
        starts = range(self.since_ns, self.until_ns, self.step_ns)
        return [(start, min(start + self.step_ns, self.until_ns)) for start in starts]


def window_of(length_ns: int, now_ns: int) -> Window:
    """The window of this length that ends with the step that now is in, so that its bars stay when time goes on."""
    step = next((one for one in _STEPS if one * MOST_STEPS >= length_ns), DAY)
    until = -(-now_ns // step) * step
    return Window(until - length_ns, until, step, now_ns)


def _length(value: object) -> int:
    length = duration_ns(str(value))
    if not SHORTEST <= length <= LONGEST:
        raise ValueError("a window is from 1m to 31d long")
    return length


Length = Annotated[int, BeforeValidator(_length)]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: object) -> object:
        return {key: value for key, value in values.items() if value != ""} if isinstance(values, dict) else values


class ModelFilter(_Asked):
    """Over which window the models are looked at."""

    window: Length = Field(
        duration_ns(DEFAULT),
        description="Length of the window up to now, 1m to 31d.",
        json_schema_extra={"type": "string"},
    )

    def now(self) -> Window:
        """The window as of now."""
        return window_of(self.window, time.time_ns())


class ModelView(ModelFilter):
    """What of the models the page shows."""

    model: Text = None
    all: bool = False


class PredictionFilter(_Asked):
    """Which predictions. `violation` asks for the requests that broke the schema, answered or not."""

    model: Text = Field(None, description="`ml.model.name`.")
    version: Text = Field(None, description="`ml.model.version`.")
    since: Time = Field(None, description="Later than this time.", json_schema_extra={"type": "string"})
    until: Time = Field(None, description="Not after this time.", json_schema_extra={"type": "string"})
    label: Text = Field(None, description="What the model answered.")
    above: float | None = Field(None, description="Confidence above this.")
    below: float | None = Field(None, description="Confidence of at most this.")
    feature: Text = Field(None, description="A feature; its value is shown.")
    bin: Text = Field(
        None, description="The bin of the training data that the feature's value is in; without a feature, the answer."
    )
    violation: Text = Field(None, description="Requests that broke the schema for this reason (`any` for all).")
    truth: Text = Field(None, description="The true label, of those whose label came in the window.")
    outcome: Literal["wrong", "right", "labelled"] | None = Field(
        None, description="Those whose label came in the window, and what it says."
    )
    limit: int = Field(100, ge=1, le=1000, description="The most answered, the newest first.")

    @property
    def between(self) -> dict[str, Any]:
        """The bounds in time, the first outside."""
        return {"since_ns": self.since or 0, "until_ns": MAX_NS if self.until is None else self.until}

    @property
    def kind(self) -> Literal["violations", "labels", "predictions"]:
        """What is listed."""
        if self.violation is not None:
            return "violations"
        return "labels" if self.truth is not None or self.outcome is not None else "predictions"
