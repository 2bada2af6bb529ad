"""Features for synthetic telemetry of a model: bins of the training data, and values of requests."""

import random
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

# The drift statistics: their minimum effect, and their critical value.
MIN_EFFECT = {
    "psi": 0.1,
    "jensen_shannon": 0.02,
    "ks": 0.1,
    "location": 0.1,
    "spread": 0.1,
    "share_change": 0.02,
    "new_categories": 0.005,
    "missing": 0.01,
    "low_confidence": 0.03,
}
CRITICAL_VALUES = {
    "psi": 30.0,
    "jensen_shannon": 5.4,
    "ks": 2.1,
    "location": 4.0,
    "spread": 4.0,
    "share_change": 4.0,
    "new_categories": 3.7,
    "missing": 3.7,
    "low_confidence": 2.4,
}
EDGES = (-1.28, -0.84, -0.52, -0.25, 0.0, 0.25, 0.52, 0.84, 1.28)


@dataclass(frozen=True)
class Feature:
    """A normally distributed number, or a category; `shift` moves the values of requests."""

    name: str
    categories: tuple[str, ...] = ()
    shift: float = 0.0
    missing: float = 0.0
    privacy: str = "plain"
    importance: float | None = None

    @property
    def bins(self) -> dict[str, float]:
        """The share of each bin in the training data."""
        if self.categories:
            special = dict.fromkeys(("missing", "other", "unseen"), 0.0)
            return {**{name: 1 / len(self.categories) for name in self.categories}, **special}
        return {**{f"{number:02d}": 0.1 for number in range(10)}, "missing": 0.0, "other": 0.0}

    def draw(self, rng: random.Random) -> Any:
        """Draw the value of a request."""
        if rng.random() < self.missing:
            return None
        if self.categories:
            return "never seen" if rng.random() < self.shift else rng.choice(self.categories)
        return rng.gauss(self.shift, 1)

    def bin_of(self, value: Any) -> str:
        """Return the bin in which a value is counted."""
        if value is None:
            return "missing"
        if self.categories:
            return value if value in self.categories else "unseen"
        return f"{bisect_left(EDGES, value):02d}"

    def description(self) -> dict[str, Any]:
        """Return the description of the feature in the event `ml.model`."""
        common: dict[str, Any] = {"name": self.name, "type": "category" if self.categories else "number"}
        if self.privacy != "plain":
            return {**common, "privacy": self.privacy}
        if self.importance is not None:
            common["importance"] = self.importance
        if self.categories:
            return {**common, "bins": list(self.bins)}
        return {**common, "training_range": [-3.5, 3.5], "edges": EDGES, "mean": 0.0}
