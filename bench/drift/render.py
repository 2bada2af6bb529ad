"""Print the results as tables."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

# The accepted share of windows without drift that raise an alarm.
ACCEPTED: Final = 0.01


def print_result(result: Mapping[str, Any]) -> None:
    """Print the parts that were measured."""
    console = Console(highlight=False, width=max(Console().width, 160))
    if result["false alarms"]:
        console.print(_false_alarms(result["false alarms"]))
    for name, shifts in result["power"].items():
        console.print(_power(name, shifts))
    if result["alerts"]:
        console.print(_alerts(result["alerts"]))
    for part in ("libraries", "libraries, power"):
        if result[part]:
            console.print(_libraries(part, result[part]))
    for name, correlations in result["dependence"].items():
        console.print(_dependence(name, correlations))
    if result["binning"]:
        console.print(_binning(next(iter(result["binning"].values()))))


def _false_alarms(by_population: Mapping[str, Any]) -> Table:
    first = next(iter(next(iter(by_population.values())).values()))
    table = Table(
        "data", "training rows", *(f"{size:,} rows" for size in first), "most alarms", "states",
        title="share of windows without drift that raise an alarm, with its 95 % interval",
    )  # fmt: skip
    for name, training_sizes in by_population.items():
        for training_rows, sizes in training_sizes.items():
            largest = max(sizes.values(), key=lambda figures: figures["alarms"]["share"])
            states = {state: share for state, share in largest["states"].items() if state not in ("ok", "drift")}
            alarms = [figures["alarms"] for figures in sizes.values()]
            table.add_row(
                name, f"{training_rows:,}", *map(_interval, alarms), _shares(largest["causes"]), _shares(states),
                style="red" if any(figures["low"] > ACCEPTED for figures in alarms)
                else "yellow" if any(figures["share"] > ACCEPTED for figures in alarms) else "",
            )  # fmt: skip
    return table


def _interval(alarms: Mapping[str, float]) -> str:
    return f"{alarms['share']:.1%} ({alarms['low']:.1%} to {alarms['high']:.1%})"


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


def _power(name: str, shifts: Mapping[str, Any]) -> Table:
    sizes = [f"{size:,}" for size in next(iter(shifts.values()))["shares"]]
    table = Table("shift", *sizes, "half", "95 %", "goal", "by", title=f"windows that detect a shift: {name}")
    for shift, figures in shifts.items():
        most, goal = figures["most"], figures["goal"]
        table.add_row(
            shift, *(f"{share:.0%}" for share in figures["shares"].values()), _size(figures["half"]), _size(most),
            _size(goal), ", ".join(figures["causes"]), style="red" if goal and (most is None or most > goal) else "",
        )  # fmt: skip
    return table


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size:,}"


def _alerts(by_population: Mapping[str, Any]) -> Table:
    table = Table(
        "data", "predictions/h", "alerts in 30 days", "months with alerts", "days with alerts", "months", "by",
        title="false alerts of Prometheus",
    )  # fmt: skip
    for name, rates in by_population.items():
        for rate, figures in rates.items():
            table.add_row(
                name, f"{rate:,}", f"{figures['alerts']:.2f}", f"{figures['months with alerts']:.0%}",
                f"{figures['days with alerts']:.1%}", str(figures["months"]),
                ", ".join(f"{cause}: {number}" for cause, number in figures["causes"].items()),
                style="red" if figures["alerts"] > 1 else "",
            )  # fmt: skip
    return table


def _libraries(title: str, by_name: Mapping[str, Any]) -> Table:
    first = next(iter(next(iter(next(iter(by_name.values())).values())).values()))
    table = Table("data or shift", "training rows", "library", *(f"{int(size):,} rows" for size in first), title=title)
    for name, training_sizes in by_name.items():
        for training_rows, by_library in training_sizes.items():
            for library, sizes in by_library.items():
                shares = (f"{figures['share']:.0%}" for figures in sizes.values())
                table.add_row(name, f"{training_rows:,}", library, *shares)
    return table


def _dependence(name: str, correlations: Mapping[str, Any]) -> Table:
    first = next(iter(next(iter(correlations.values())).values()))
    table = Table(
        "correlation", "rows", *first,
        title=f"share of windows without drift that raise an alarm, if rows depend on the rows before them: {name}",
    )  # fmt: skip
    for correlation, sizes in correlations.items():
        for n, shares in sizes.items():
            table.add_row(correlation, f"{n:,}", *(f"{share:.1%}" for share in shares.values()))
    return table


def _binning(shifts: Mapping[str, Any]) -> Table:
    table = Table("shift", *shifts["0"], title="effect of binning")
    for name, figures in shifts.items():
        table.add_row(name, *(f"{value:.3f}" for value in figures.values()))
    return table
