"""The growth bench: its cases, its requests and the summary of its runs."""

from pathlib import Path

import orjson
import pytest

from bench.growth import AXES, Case, Run, build_bundle, build_requests, cases, summarise
from bench.load import LoadResult
from bench.subject import CpuSeconds
from modeltrace.bundles.manifest import read_manifest


def make_run(rate: float, *, rows: int = 1, cpu: float = 1.0, failed: int = 0, other_core: float = 0.3) -> Run:
    """Make a run of one second."""
    load = LoadResult(int(rate), failed, 1.0, [0.001] * int(rate))
    return Run(load, rows, CpuSeconds(cpu, cpu / 2), other_core_usage=other_core, lost_records=0)


def test_cases_differ_from_the_defaults_in_one_parameter_and_are_unique() -> None:
    """Each case differs from the default case in at most one parameter, and no case appears twice."""
    all_cases = cases(list(AXES))

    assert len(all_cases) == len(set(all_cases)) == 1 + sum(len(values) - 1 for values in AXES.values())
    assert all(sum(a != b for a, b in zip(case, Case(), strict=True)) <= 1 for case in all_cases)


def test_ratios_are_taken_within_a_round() -> None:
    """A round on a machine that is half as fast does not change the ratio."""
    runs = {
        (Case(), "all"): [make_run(900), make_run(450), make_run(900)],
        (Case(), "none"): [make_run(1000), make_run(500), make_run(1000)],
    }
    for value in (10, 300):
        runs |= {(Case(features=value), variant): [make_run(100)] * 3 for variant in ("all", "none")}

    result = summarise(["features"], runs)

    assert result["ratio"] == 0.9
    assert list(result["axes"]["features"]) == ["10", "30", "300"]
    assert result["axes"]["features"]["300"]["ratio"] == 1.0


def test_rates_are_void_if_the_other_core_was_saturated() -> None:
    """The main ratio is missing; the ratio of CPU time remains, because it does not depend on waiting."""
    runs = {
        (Case()._replace(features=n), variant): [make_run(100)] for n in (10, 30, 300) for variant in ("all", "none")
    }
    runs[Case(), "none"] = [make_run(50, cpu=1.0, other_core=0.99)]

    result = summarise(["features"], runs)

    assert (result["ratio"], result["cpu_ratio"]) == (None, 0.5)
    assert result["void"] == ["features 30"]


def test_cost_is_per_answered_row() -> None:
    """One second of CPU for 100 requests of 50 rows, 20 of which failed, is 250 µs per row."""
    run = make_run(100, rows=50, cpu=1.0, failed=20)

    assert run.predictions == 4000
    assert run.service_us == pytest.approx(250)
    assert run.sidecar_us == pytest.approx(125)


def test_versions_of_a_model_have_the_same_name_and_features(tmp_path: Path) -> None:
    """The versions differ, because a model cannot be the shadow of the same version."""
    (first, _), (second, _) = (read_manifest(build_bundle(tmp_path, 10, version)) for version in (1, 2))

    assert (first.version, second.version) == ("1.0.0", "2.0.0")
    assert (first.name, first.features) == (second.name, second.features)


def test_requests_contain_the_features_of_the_bundle(tmp_path: Path) -> None:
    """Requests have the requested number of rows, each with all features of the model."""
    bundle = build_bundle(tmp_path, 10)

    (_, single), *_ = (request.split(b"\r\n\r\n") for request in build_requests(bundle, 1))
    (head, many), *others = (request.split(b"\r\n\r\n") for request in build_requests(bundle, 1000))

    assert set(orjson.loads(single)["features"]) == {f"feature_{number}" for number in range(10)}
    assert head.startswith(b"POST /predict/batch ")
    assert [len(row) for row in orjson.loads(many)["rows"]] == [10] * 1000
    assert len(others) == 9
