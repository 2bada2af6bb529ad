"""How often the drift check raises false alarms, and how many predictions it needs to detect drift.

False alarms: a thousand windows of 200, 1,000 and 10,000 rows are checked for each of four data sets of scikit-learn.
The data set is the population. Training data (70 % of the size of the population, drawn again for every ten windows)
and windows are drawn from it with replacement, so rows are independent and there is no drift. Windows from a held-out
half would not be free of drift: the two halves of 569 rows differ by chance, and every window would show this same
difference. A model is fitted on each training sample, so the drift of its outputs is checked, too. A window raises an
alarm if any statistic of any feature or of the outputs exceeds its threshold.

Detection: one feature of breast-cancer is shifted or scaled. The bench reports from which window size on half of the
runs, and 95 % of the runs, detect it. Binning: compares KS of bins with KS of values, and PSI of 10 with 100 bins.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import ks_2samp

from bench.command import make_parser, print_as
from bench.drift_monitor import DATASETS, FIXED_PSI, Dataset, DriftMonitor, Floats, draw_windows, load_population
from modeltrace.monitoring import drift
from modeltrace.monitoring.reference_metrics import OUTPUTS

FALSE_ALARM_SIZES: Final = (200, 1000, 10_000)
DETECTION_SIZES: Final = (200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000)
# Windows that are compared with the same training data.
WINDOWS_PER_MODEL: Final = 10
ANY_STATISTIC: Final = "any"


def measure_false_alarms(
    data: Dataset, windows: int, rng: np.random.Generator, sizes: Sequence[int] = FALSE_ALARM_SIZES
) -> dict[int, Any]:
    """Return the share of undrifted windows that raise an alarm, by size: any, by statistic, and of PSI above 0.1."""
    table, target = load_population(data)
    alarm_counts: dict[int, Counter[str]] = {size: Counter() for size in sizes}
    for _ in range(windows // WINDOWS_PER_MODEL):
        monitor = DriftMonitor(data, table, target, rng)
        for size in sizes:
            alarms = monitor.find_alarms(draw_windows(rng, len(table), size, windows=WINDOWS_PER_MODEL))
            by_statistic: dict[str, list[NDArray[np.bool_]]] = {}
            for (name, statistic), raised in alarms.items():
                if statistic != FIXED_PSI or name != OUTPUTS:
                    by_statistic.setdefault(statistic, []).append(raised)
            combined = {statistic: np.any(raised, axis=0) for statistic, raised in by_statistic.items()}
            checked = [raised for statistic, raised in combined.items() if statistic != FIXED_PSI]
            combined[ANY_STATISTIC] = np.any(checked, axis=0)
            alarm_counts[size].update({statistic: int(raised.sum()) for statistic, raised in combined.items()})
    return {
        size: {"alarms": count.pop(ANY_STATISTIC) / windows, FIXED_PSI: count.pop(FIXED_PSI) / windows,
               "by statistic": {name: number / windows for name, number in sorted(count.items()) if number}}
        for size, count in alarm_counts.items()
    }  # fmt: skip


SHIFTS: Final[dict[str, Callable[[Floats], Floats]]] = {
    "mean + 0.25 deviations": lambda values: values + 0.25 * values.std(),
    "mean + 0.5 deviations": lambda values: values + 0.5 * values.std(),
    "mean + 1 deviation": lambda values: values + values.std(),
    "all values + 10 %": lambda values: values * 1.1,
    "all values + 20 %": lambda values: values * 1.2,
    "half as spread": lambda values: values.mean() + (values - values.mean()) / 2,
    "one in ten is 0": lambda values: np.where(np.arange(len(values)) % 10 == 0, 0.0, values),
}


def measure_detection(runs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return, for each shift of `mean_radius`, the window sizes that detect it and the statistics that do so."""
    data = DATASETS[0]
    table, target = load_population(data)
    values = table.to_numpy(dtype=np.float64)[:, 0]
    monitors = [DriftMonitor(data, table, target, rng) for _ in range(runs)]
    summary: dict[str, Any] = {}
    for name, shift in SHIFTS.items():
        shifted, shares = shift(values), {}
        statistics: Counter[str] = Counter()
        for size in DETECTION_SIZES:
            detected = 0
            for monitor in monitors:
                (window,) = draw_windows(rng, len(table), size, windows=1)
                results = monitor.check_feature(monitor.schema.features[0], shifted, window)
                drifted = [result.statistic for result in results if result.state == "drift"]
                detected += bool(drifted)
                statistics.update(drifted)
            shares[size] = detected / runs
            if shares[size] >= 0.95 and size > FALSE_ALARM_SIZES[0]:
                break
        half = next((size for size, share in shares.items() if share >= 0.5), None)
        most = next((size for size, share in shares.items() if share >= 0.95), None)
        most_frequent = [statistic for statistic, _ in statistics.most_common(2)]
        summary[name] = {"half": half, "95 %": most, "by": most_frequent}
    return summary


def measure_binning(rng: np.random.Generator) -> dict[str, Any]:
    """Compare KS of values with KS of bins, and PSI of 100 with 10 bins: medians over the features of breast-cancer."""
    table, _ = load_population(DATASETS[0])
    result: dict[str, Any] = {}
    for deviations in (0.0, 0.25, 0.5, 1.0):
        rows = []
        for name in table.columns:
            values = table[name].to_numpy(dtype=np.float64)
            training, window = rng.choice(values, 5000), rng.choice(values, 5000) + deviations * values.std()
            counts = []
            for bins in (10, 100):
                edges = np.unique(np.quantile(training, np.linspace(0, 1, bins + 1)[1:-1]))
                counts.append(
                    [np.bincount(np.searchsorted(edges, sample), minlength=bins) for sample in (window, training)]
                )
            ks = float(ks_2samp(training, window).statistic)
            rows.append((ks, drift.ks(*counts[0]), drift.psi(*counts[1]), drift.psi(*counts[0])))
        medians = np.median(rows, axis=0)
        max_ks_loss = float(np.max([raw - binned for raw, binned, _, _ in rows]))
        result[f"{deviations:g}"] = dict(
            zip(("ks", "ks of bins", "psi of 100 bins", "psi of 10 bins"), map(float, medians), strict=True)
        )
        result[f"{deviations:g}"]["max ks loss"] = max_ks_loss
    return result


PARTS: Final = (*(data.name for data in DATASETS), "detection", "binning")


def run_part(name: str, windows: int, runs: int, seed: int) -> dict[Any, Any]:
    """Run one part of the bench in its own process."""
    warnings.filterwarnings("ignore", module="sklearn")  # constant columns, models that did not converge
    rng = np.random.default_rng([seed, PARTS.index(name)])
    if name == "detection":
        return measure_detection(runs, rng)
    if name == "binning":
        return measure_binning(rng)
    return measure_false_alarms(next(data for data in DATASETS if data.name == name), windows, rng)


def print_result(result: dict[str, Any]) -> None:
    """Print the result as tables."""
    console = Console(highlight=False)
    table = Table("data", "rows", "alarms", "PSI above 0.1", "by statistic", title="windows without drift")
    for name, sizes in result["false alarms"].items():
        for size, shares in sizes.items():
            by = ", ".join(f"{statistic} {share:.1%}" for statistic, share in shares["by statistic"].items())
            table.add_row(name, f"{size:,}", f"{shares['alarms']:.1%}", f"{shares['psi above 0.1']:.1%}", by)
    console.print(table)
    table = Table("shift of mean_radius", "half of the runs", "95 %", "by", title="predictions until detection")
    for name, detection in result["detection"].items():
        table.add_row(name, str(detection["half"] or "-"), str(detection["95 %"] or "-"), ", ".join(detection["by"]))
    console.print(table)
    table = Table("shift", *result["binning"]["0"], title="effect of binning")
    for name, figures in result["binning"].items():
        table.add_row(name, *(f"{value:.3f}" for value in figures.values()))
    console.print(table)


def main() -> None:
    """Parse the arguments, run the bench and print the result."""
    parser = make_parser(__doc__)
    parser.add_argument("--windows", type=int, default=1000, help="undrifted windows of each size and data set")
    parser.add_argument("--runs", type=int, default=100, help="runs of each shift")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    # Each part has its own random generator, so the result does not depend on the number of processors.
    with ProcessPoolExecutor() as pool:
        futures = [pool.submit(run_part, name, options.windows, options.runs, options.seed) for name in PARTS]
        parts = {}
        for name, future in zip(PARTS, futures, strict=True):
            parts[name] = future.result()
            console.print(f"{name}: done")
    result = {
        "windows": options.windows,
        "false alarms": {data.name: parts[data.name] for data in DATASETS},
        "detection": parts["detection"],
        "binning": parts["binning"],
    }
    print_as(result, print_result, as_json=options.json)


if __name__ == "__main__":
    main()
