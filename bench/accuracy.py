"""How often errors are reported without a reason, and after how many labels an increase of errors is reported.

False alerts: streams of labels with a constant error rate, for 30 days. The held-out rows of the model have the same
error rate; they are drawn again for each stream. A stream has a false alert if the model is worse than for its held-out
rows, or if concept drift is detected. The states are computed after each label, as the service does every minute.

Detection: the error rate changes, or is larger than that of the held-out rows from the first label on. The bench prints
after how many labels of the change either is reported: median and 95 % quantile over the streams.

Regressors: the same with absolute errors of light and of heavy tails.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.command import make_parser, print_as
from bench.error_monitor import (
    Errors,
    States,
    Thresholds,
    is_drifting,
    is_drifting_regressor,
    is_worse,
    is_worse_regressor,
    new_alerts,
    onsets,
)
from modeltrace.evaluation.baseline_comparison import MIN_LABELS
from modeltrace.telemetry.metrics.model_catalog import Baseline

DAYS: Final = 30
# 3,000, 20,010 and 201,000 labels in 30 days.
LABELS_PER_DAY: Final = (100, 667, 6700)
# The largest rate at which all streams are drawn. There are fewer of a larger rate, so that they have as many labels.
FULL_RATE: Final = 667
ERROR_RATES: Final = (0.001, 0.01, 0.05, 0.2, 0.4)
HELD_OUT_ROWS: Final = (100, 400, 2000, 10_000)
# Labels per day of the streams with a change.
CHANGE_RATE: Final = 1000
NEVER: Final = np.inf


class Change(NamedTuple):
    """A stream whose error rate changes: pairs of a number of labels and their error rate."""

    name: str
    held_out_error: float
    segments: tuple[tuple[int, float], ...]
    begin: int  # the label from which on the error rate is larger


CHANGES: Final = (
    Change("5 % to 8 %", 0.05, ((5000, 0.05), (15_000, 0.08)), 5000),
    Change("5 % to 10 %", 0.05, ((5000, 0.05), (15_000, 0.1)), 5000),
    Change("5 % to 20 %", 0.05, ((5000, 0.05), (15_000, 0.2)), 5000),
    Change("1 % to 5 %", 0.01, ((5000, 0.01), (15_000, 0.05)), 5000),
    Change("20 % to 30 %", 0.2, ((5000, 0.2), (15_000, 0.3)), 5000),
    Change("8 % from the first label on, 5 % held-out", 0.05, ((20_000, 0.08),), 0),
    Change("10 % from the first label on, 5 % held-out", 0.05, ((20_000, 0.1),), 0),
    Change("40 % from the first label on, 5 % held-out", 0.05, ((20_000, 0.4),), 0),
    Change("5 %, 60 % for 300 labels, then 40 %", 0.05, ((5000, 0.05), (300, 0.6), (17_500, 0.4)), 5000),
)
# Absolute errors of a regressor.
DISTRIBUTIONS: Final[dict[str, Callable[[np.random.Generator, int], Errors]]] = {
    "normal": lambda rng, n: np.abs(rng.normal(size=n)),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "Student, 3 degrees of freedom": lambda rng, n: np.abs(rng.standard_t(3, size=n)),
    "lognormal, sigma 1.5": lambda rng, n: rng.lognormal(sigma=1.5, size=n),
}


def draw_errors(segments: Sequence[tuple[int, float]], rng: np.random.Generator) -> Errors:
    """Return errors with each rate in turn."""
    return np.concatenate([(rng.random(length) < rate).astype(np.float64) for length, rate in segments])


def measure_false_alerts(rate: float, per_day: int, streams: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the false alerts of models with a constant error rate, per stream of 30 days."""
    drift, worse, thresholds = [], {rows: list[int]() for rows in HELD_OUT_ROWS}, Thresholds()
    for _ in range(streams):
        errors = draw_errors([(DAYS * per_day, rate)], rng)
        drift.append(new_alerts(is_drifting(errors, per_day), per_day))
        for rows, alerts in worse.items():
            baseline = Baseline(rows, float(rng.binomial(rows, rate)) / rows)
            alerts.append(onsets(is_worse(errors, baseline, per_day, thresholds)))
    return _alerts(drift, worse)


def measure_regressor_false_alerts(name: str, per_day: int, streams: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the false alerts of regressors whose absolute errors have a constant distribution."""
    draw = DISTRIBUTIONS[name]
    drift, worse = [], {rows: list[int]() for rows in HELD_OUT_ROWS}
    for _ in range(streams):
        errors = draw(rng, DAYS * per_day)
        drift.append(new_alerts(is_drifting_regressor(errors, per_day), per_day))
        for rows, alerts in worse.items():
            held_out = draw(rng, rows)
            baseline = Baseline(rows, float(held_out.mean()), float(held_out.std()))
            alerts.append(onsets(is_worse_regressor(errors, baseline, per_day, interval=max(1, per_day // 24))))
    return _alerts(drift, worse)


def _alerts(drift: Sequence[int], worse: dict[int, list[int]]) -> dict[str, Any]:
    def summary(alerts: Sequence[int]) -> dict[str, float]:
        return {"alerts": float(np.mean(alerts)), "streams with alerts": float(np.mean([n > 0 for n in alerts]))}

    return {
        "concept drift": summary(drift),
        "worse": {str(rows): summary(alerts) for rows, alerts in worse.items()},
    }


def measure_detection(change: Change, rows: int, streams: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return after how many labels a change is reported, and the share of the labels afterwards without a report."""
    delays: dict[str, list[float]] = {"worse": [], "concept drift": [], "either": []}
    silent, thresholds = [], Thresholds()
    early = 0
    for _ in range(streams):
        errors = draw_errors(change.segments, rng)
        baseline = Baseline(rows, change.held_out_error)
        states = {
            "worse": is_worse(errors, baseline, CHANGE_RATE, thresholds),
            "concept drift": is_drifting(errors, CHANGE_RATE),
        }
        states["either"] = states["worse"] | states["concept drift"]
        early += bool(states["either"][: change.begin].any())
        for name, state in states.items():
            delays[name].append(_delay(state[change.begin :]))
        reported = states["either"][change.begin :]
        silent.append(float((~reported[int(reported.argmax()) :]).mean()) if reported.any() else 1.0)
    return {
        **{name: _quantiles(values) for name, values in delays.items()},
        "reported before the change": early / streams,
        "silent after the first report": float(np.mean(silent)),
    }


def _delay(states: States) -> float:
    return float(states.argmax()) + 1 if states.any() else NEVER


def _quantiles(delays: Sequence[float]) -> dict[str, float | None]:
    """Return median and 95 % quantile; None if the change is not reported in so many streams."""
    values = np.quantile(delays, (0.5, 0.95), method="inverted_cdf").tolist()
    return {name: value if value < NEVER else None for name, value in zip(("median", "95 %"), values, strict=True)}


def run(streams: int, seed: int, rates: Sequence[int] = LABELS_PER_DAY) -> dict[str, Any]:
    """Measure false alerts and detection."""
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    false_alerts = {
        str(per_day): {
            str(rate): measure_false_alerts(rate, per_day, _streams_at(per_day, streams), rng) for rate in ERROR_RATES
        }
        for per_day in rates
    }
    regressors = {name: measure_regressor_false_alerts(name, rates[0], streams, rng) for name in DISTRIBUTIONS}
    detection = {change.name: measure_detection(change, 2000, streams, rng) for change in CHANGES}
    return {
        "most false alerts": max(
            part["alerts"]
            for by_rate in (*false_alerts.values(), regressors)
            for figures in by_rate.values()
            for part in (figures["concept drift"], *figures["worse"].values())
        ),
        "streams": streams,
        "days": DAYS,
        "min labels": MIN_LABELS,
        "false alerts": false_alerts,
        "false alerts of regressors": regressors,
        "detection": detection,
        "seconds": round(time.perf_counter() - start, 1),
    }


def _streams_at(per_day: int, streams: int) -> int:
    return streams if per_day <= FULL_RATE else max(1, streams * FULL_RATE // per_day)


def print_result(result: dict[str, Any]) -> None:
    """Print the result as tables."""
    console = Console(highlight=False)
    headings = ["concept drift", *(f"{rows:,} held-out rows" for rows in HELD_OUT_ROWS)]
    title = f"false alerts per model in {result['days']} days"
    table = Table("labels a day", "streams", "error rate", *headings, title=title)
    for per_day, by_rate in result["false alerts"].items():
        for rate, figures in by_rate.items():
            streams = _streams_at(int(per_day), result["streams"])
            table.add_row(f"{int(per_day):,}", f"{streams}", f"{float(rate):.1%}", *_alert_cells(figures))
    for name, figures in result["false alerts of regressors"].items():
        table.add_row(next(iter(result["false alerts"])), f"{result['streams']}", name, *_alert_cells(figures))
    console.print(table)
    table = Table("error rate", "worse", "concept drift", "either", "before", "silent", title="labels until the report")
    for name, figures in result["detection"].items():
        cells = (_delay_cell(figures[part]) for part in ("worse", "concept drift", "either"))
        shares = (figures["reported before the change"], figures["silent after the first report"])
        table.add_row(name, *cells, *(f"{share:.1%}" for share in shares))
    console.print(table)
    console.print(f"most {title}: {result['most false alerts']:.3f}")


def _alert_cells(figures: dict[str, Any]) -> list[str]:
    return [f"{part['alerts']:.3f}" for part in (figures["concept drift"], *figures["worse"].values())]


def _delay_cell(quantiles: dict[str, float | None]) -> str:
    return ", ".join("never" if value is None else f"{value:,.0f}" for value in quantiles.values())


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--streams", type=int, default=200, help="streams of each kind (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random streams (default: 0)")
    arguments = parser.parse_args()
    print_as(run(arguments.streams, arguments.seed), print_result, as_json=arguments.json)


if __name__ == "__main__":
    main()
