"""How often drift is reported where there is none, and after how many predictions it is where there is some.

False alarms: a thousand windows of 200, 1,000 and 10,000 rows of the real data that scikit-learn carries. The data set
is taken as the population: training data (as many rows as a split of 70 % would have, anew for every ten windows) and
windows are drawn from it with replacement, so rows are independent and nothing has drifted. Windows drawn from a
held-out half would not do: the two halves of 569 rows differ by what chance made of them once, and 10,000 draws would
show that again and again as what it is, a difference. A model is fitted on each training data, so answers are watched,
too. An alarm is one of any statistic of any feature or of the answers.

Detection: one feature of breast-cancer is shifted, or scaled; the share of runs in which the window says so, by its
size. Binning: KS of the bins beside KS of the values, PSI of 10 bins beside that of 100.
"""

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import ks_2samp
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeltrace.bundles.columns import describe_column
from modeltrace.bundles.output_reference import build_output_reference, confidence_threshold
from modeltrace.inference.model import Model, Task, make_predict_fn
from modeltrace.inference.schema import MISSING, OTHER, Feature, Reference, Schema
from modeltrace.monitoring import drift
from modeltrace.monitoring.drift_check import DriftResult, WindowCounts, check_drift
from modeltrace.monitoring.reference_metrics import OUTPUTS, critical_values

FALSE_ALARM_SIZES: Final = (200, 1000, 10_000)
DETECTION_SIZES: Final = (200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000)
TRAINING_SHARE: Final = 0.7
# Windows that are compared with the same training data.
WINDOWS_PER_MODEL: Final = 10
ANY_STATISTIC, FIXED_PSI = "any", "psi above 0.1"
Floats = NDArray[np.float64]


class Dataset(NamedTuple):
    """A data set of scikit-learn's, and what is fitted on it."""

    name: str
    load: Callable[..., Any]
    estimator: Callable[[], Any]
    task: Task


def _scaled(estimator: Any) -> Any:  # noqa: ANN401  any estimator
    return make_pipeline(StandardScaler(), estimator)


DATASETS: Final = (
    Dataset("breast-cancer", load_breast_cancer, lambda: _scaled(LogisticRegression()), "classifier"),
    Dataset("digits", load_digits, GaussianNB, "classifier"),
    Dataset("diabetes", load_diabetes, Ridge, "regressor"),
    Dataset("wine", load_wine, lambda: _scaled(LogisticRegression()), "classifier"),
)  # fmt: skip


class DriftMonitor:
    """Training data drawn from a population, what is watched because of it, and where the population falls."""

    def __init__(self, data: Dataset, population: pd.DataFrame, target: NDArray[Any], rng: np.random.Generator) -> None:
        drawn = rng.integers(len(population), size=round(TRAINING_SHARE * len(population)))
        training = population.iloc[drawn]
        estimator = data.estimator().fit(training.to_numpy(), target[drawn])
        ask = make_predict_fn(estimator, data.task)
        classes = tuple(estimator.classes_.tolist()) if data.task == "classifier" else None
        seen, everything = ask(training.to_numpy()), ask(population.to_numpy())
        self.schema = Schema(features=tuple(describe_column(training[name]) for name in training.columns))
        self.output_reference = build_output_reference(seen, [], classes)
        threshold = confidence_threshold(seen, [], classes)
        model = Model(
            data.name, "1", "", data.task, classes, self.schema, as_frame=False, created="", predict_fn=ask,
            output_reference=self.output_reference, confidence_threshold=threshold,
        )  # fmt: skip
        self.critical_values: dict[str, dict[str, float]] = {}
        for (name, statistic), value in critical_values(model).items():
            self.critical_values.setdefault(name, {})[statistic] = value
        places = {label: place for place, label in enumerate(self.output_reference.shares)}
        if classes is None:
            self._output_bins = np.searchsorted(
                self.output_reference.edges or (), [one.value or 0.0 for one in everything]
            )
        else:
            self._output_bins = np.array([places[str(one.label)] for one in everything])
        self._low_confidence = np.array([(one.confidence or 0.0) < (threshold or 0.0) for one in everything])
        self._values = population.to_numpy(dtype=np.float64)

    def find_alarms(self, weights: NDArray[np.int64]) -> dict[tuple[str, str], NDArray[np.bool_]]:
        """Which windows raise which alarms, by feature and statistic; `times`, shape (windows, rows), as for `drawn`.

        The same as `modeltrace.monitoring.drift_check`, for many windows at once.
        """
        n = int(weights[0].sum())
        found: dict[tuple[str, str], NDArray[np.bool_]] = {}
        for place, feature in enumerate(self.schema.features):
            values = self._values[:, place]
            bins = np.searchsorted(feature.reference.edges or (), values)
            found |= self._compare_bins(feature.name, feature.reference, bins, weights)
            if (critical := self.critical_values[feature.name].get(drift.MEAN_CHANGE)) is not None:
                mean = feature.reference.mean or 0.0
                change = np.abs(weights @ values / n - mean) / drift.mean_scale(mean, feature.reference.deviation)
                limit = drift.threshold(drift.MEAN_CHANGE, critical, n, feature.reference.n)
                found[feature.name, drift.MEAN_CHANGE] = change > limit
        found |= self._compare_bins(OUTPUTS, self.output_reference, self._output_bins, weights)
        if (critical := self.critical_values[OUTPUTS].get(drift.LOW_CONFIDENCE)) is not None:
            low = weights @ self._low_confidence / n
            found[OUTPUTS, drift.LOW_CONFIDENCE] = low > drift.low_confidence_threshold(critical, n)
        return found

    def _compare_bins(
        self, name: str, reference: Reference, bins: NDArray[np.intp], weights: NDArray[np.int64]
    ) -> dict[tuple[str, str], NDArray[np.bool_]]:
        counts = weights @ np.eye(len(reference.shares), dtype=np.int64)[bins]
        training = np.array(list(reference.shares.values())) * reference.n
        numbers = [place for place, one in enumerate(reference.shares) if one not in (MISSING, OTHER)]
        values = {
            drift.PSI: drift.psi(counts, training),
            drift.JENSEN_SHANNON: drift.jensen_shannon(counts, training),
            drift.KS: drift.ks(counts[:, numbers], training[numbers]),
        }
        n = int(weights[0].sum())
        found = {
            (name, one): value > drift.threshold(one, critical, n, reference.n)
            for one, value in values.items()
            if (critical := self.critical_values[name].get(one)) is not None
        }
        return {**found, (name, FIXED_PSI): values[drift.PSI] > drift.MIN_EFFECT[drift.PSI]}

    def check_feature(self, feature: Feature, values: Floats, weights: NDArray[np.int64]) -> list[DriftResult]:
        """The same of one feature, which may have other values than the population."""
        reference = feature.reference
        bins = np.searchsorted(reference.edges or (), values)
        counts = np.bincount(bins, weights, len(reference.shares)).astype(int)
        return check_drift(
            reference, WindowCounts(counts.tolist(), float(weights @ values)), self.critical_values[feature.name]
        )


def draw_windows(rng: np.random.Generator, rows: int, size: int, *, windows: int) -> NDArray[np.int64]:
    """How often each row comes when `size` of them are drawn with replacement; shape (windows, rows)."""
    return rng.multinomial(size, np.full(rows, 1 / rows), size=windows)


def load_population(data: Dataset) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Its rows and labels."""
    features, target = data.load(return_X_y=True)
    return pd.DataFrame(features, columns=[f"f{place:02d}" for place in range(features.shape[1])]), np.asarray(target)


def measure_false_alarms(
    data: Dataset, windows: int, rng: np.random.Generator, sizes: Sequence[int] = FALSE_ALARM_SIZES
) -> dict[int, Any]:
    """The share of windows that raise an alarm, over all and by statistic; and where PSI above 0.1 would be one."""
    table, target = load_population(data)
    alarmed: dict[int, Counter[str]] = {size: Counter() for size in sizes}
    for _ in range(windows // WINDOWS_PER_MODEL):
        watch = DriftMonitor(data, table, target, rng)
        for size in sizes:
            found = watch.find_alarms(draw_windows(rng, len(table), size, windows=WINDOWS_PER_MODEL))
            fixed = np.any(
                [one for (name, what), one in found.items() if what == FIXED_PSI and name != OUTPUTS], axis=0
            )
            judged = {key: one for key, one in found.items() if key[1] != FIXED_PSI}
            alarmed[size].update(
                {ANY_STATISTIC: int(np.any(list(judged.values()), axis=0).sum()), FIXED_PSI: int(fixed.sum())}
            )
            for statistic in {what for _, what in judged}:
                some = np.any([one for (_, what), one in judged.items() if what == statistic], axis=0)
                alarmed[size][statistic] += int(some.sum())
    return {
        size: {"alarms": count.pop(ANY_STATISTIC) / windows, FIXED_PSI: count.pop(FIXED_PSI) / windows,
               "by statistic": {name: number / windows for name, number in sorted(count.items()) if number}}
        for size, count in alarmed.items()
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
    """For each shift of `mean_radius`: the window from which on 95 % of runs say so, and which statistic does first."""
    data = DATASETS[0]
    table, target = load_population(data)
    values = table.to_numpy(dtype=np.float64)[:, 0]
    watches = [DriftMonitor(data, table, target, rng) for _ in range(runs)]
    said: dict[str, Any] = {}
    for name, shift in SHIFTS.items():
        moved, shares = shift(values), {}
        first: Counter[str] = Counter()
        for size in DETECTION_SIZES:
            seen = 0
            for watch in watches:
                found = watch.check_feature(
                    watch.schema.features[0], moved, draw_windows(rng, len(table), size, windows=1)[0]
                )
                drifted = [one.statistic for one in found if one.state == "drift"]
                seen += bool(drifted)
                first.update(drifted)
            shares[size] = seen / runs
            if shares[size] >= 0.95 and size > FALSE_ALARM_SIZES[0]:
                break
        half = next((size for size, share in shares.items() if share >= 0.5), None)
        nearly = next((size for size, share in shares.items() if share >= 0.95), None)
        said[name] = {"half": half, "nearly all": nearly, "by": [one for one, _ in first.most_common(2)]}
    return said


def measure_binning(rng: np.random.Generator) -> dict[str, Any]:
    """KS of values and of bins, PSI of 10 and of 100 bins, for shifts of every feature of breast-cancer; medians."""
    table, _ = load_population(DATASETS[0])
    said: dict[str, Any] = {}
    for deviations in (0.0, 0.25, 0.5, 1.0):
        rows = []
        for name in table.columns:
            values = table[name].to_numpy(dtype=np.float64)
            training, window = rng.choice(values, 5000), rng.choice(values, 5000) + deviations * values.std()
            counts = []
            for bins in (10, 100):
                edges = np.unique(np.quantile(training, np.linspace(0, 1, bins + 1)[1:-1]))
                counts.append([np.bincount(np.searchsorted(edges, one), minlength=bins) for one in (window, training)])
            ks = float(ks_2samp(training, window).statistic)
            rows.append((ks, drift.ks(*counts[0]), drift.psi(*counts[1]), drift.psi(*counts[0])))
        middle = np.median(rows, axis=0)
        most = float(np.max([raw - binned for raw, binned, _, _ in rows]))
        said[f"{deviations:g}"] = dict(
            zip(("ks", "ks of bins", "psi of 100", "psi of 10"), map(float, middle), strict=True)
        )
        said[f"{deviations:g}"]["most ks lost"] = most
    return said


PARTS: Final = (*(data.name for data in DATASETS), "detection", "binning")


def run_part(name: str, windows: int, runs: int, seed: int) -> dict[Any, Any]:
    """One of the parts, in a process of its own."""
    warnings.filterwarnings("ignore", module="sklearn")  # constant columns, models that would go on
    rng = np.random.default_rng([seed, PARTS.index(name)])
    if name == "detection":
        return measure_detection(runs, rng)
    if name == "binning":
        return measure_binning(rng)
    return measure_false_alarms(next(data for data in DATASETS if data.name == name), windows, rng)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1000, help="undrifted windows of each size and data set")
    parser.add_argument("--runs", type=int, default=100, help="runs of each shift")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    console = Console(stderr=options.json, highlight=False)
    # Each part draws for itself, so it says the same however many processors there are.
    with ProcessPoolExecutor() as pool:
        parts = [pool.submit(run_part, name, options.windows, options.runs, options.seed) for name in PARTS]
        said = {}
        for name, one in zip(PARTS, parts, strict=True):
            said[name] = one.result()
            console.print(f"{name}: done")
    result = {
        "windows": options.windows,
        "false alarms": {data.name: said[data.name] for data in DATASETS},
        "detection": said["detection"],
        "binning": said["binning"],
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print_result(console, result)


def print_result(console: Console, result: dict[str, Any]) -> None:
    """The same as tables."""
    table = Table("data", "rows", "alarms", "PSI above 0.1", "by statistic", title="windows without drift")
    for name, sizes in result["false alarms"].items():
        for size, one in sizes.items():
            by = ", ".join(f"{statistic} {share:.1%}" for statistic, share in one["by statistic"].items())
            table.add_row(name, f"{size:,}", f"{one['alarms']:.1%}", f"{one['psi above 0.1']:.1%}", by)
    console.print(table)
    table = Table("shift of mean_radius", "half of runs", "95 %", "by", title="seen after so many predictions")
    for name, one in result["detection"].items():
        table.add_row(name, str(one["half"] or "-"), str(one["nearly all"] or "-"), ", ".join(one["by"]))
    console.print(table)
    table = Table("shift", *result["binning"]["0"], title="what binning changes")
    for name, one in result["binning"].items():
        table.add_row(name, *(f"{value:.3f}" for value in one.values()))
    console.print(table)


if __name__ == "__main__":
    main()
