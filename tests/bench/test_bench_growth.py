"""What bench/growth.py measures, and what it makes of its runs."""

from pathlib import Path

import orjson
import pytest

from bench.growth import AXES, Case, Run, build_bundle, build_requests, cases, summarise
from bench.load import LoadResult
from bench.subject import CpuSeconds
from modeltrace.bundles.manifest import read_manifest


def a_run(rate: float, *, rows: int = 1, cpu: float = 1.0, failed: int = 0, other_core: float = 0.3) -> Run:
    """A run of one second."""
    load = LoadResult(int(rate), failed, 1.0, [0.001] * int(rate))
    return Run(load, rows, CpuSeconds(cpu, cpu / 2), other_core_usage=other_core, lost_records=0)


def test_one_thing_changes_at_a_time_and_the_defaults_are_measured_once() -> None:
    """Each case differs from the defaults in one place at the most, and none appears twice."""
    found = cases(list(AXES))

    assert len(found) == len(set(found)) == 1 + sum(len(values) - 1 for values in AXES.values())
    assert all(sum(a != b for a, b in zip(case, Case(), strict=True)) <= 1 for case in found)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is half as fast in one round changes no ratio."""
    runs = {
        (Case(), "all"): [a_run(900), a_run(450), a_run(900)],
        (Case(), "none"): [a_run(1000), a_run(500), a_run(1000)],
    }
    for value in (10, 300):
        runs |= {(Case(features=value), variant): [a_run(100)] * 3 for variant in ("all", "none")}

    result = summarise(["features"], runs)

    assert result["ratio"] == 0.9
    assert list(result["axes"]["features"]) == ["10", "30", "300"]
    assert result["axes"]["features"]["300"]["ratio"] == 1.0


def test_a_rate_is_void_where_the_load_itself_waited_for_its_core() -> None:
    """There is no main ratio then; CPU time a row does not depend on who waits, and stays."""
    runs = {(Case()._replace(features=n), variant): [a_run(100)] for n in (10, 30, 300) for variant in ("all", "none")}
    runs[Case(), "none"] = [a_run(50, cpu=1.0, other_core=0.99)]

    result = summarise(["features"], runs)

    assert (result["ratio"], result["cpu_ratio"]) == (None, 0.5)
    assert result["void"] == ["features 30"]


def test_cost_is_told_by_the_answered_row() -> None:
    """A second of CPU over 100 requests of 50 rows, 20 of which failed, is 250 µs a row."""
    run = a_run(100, rows=50, cpu=1.0, failed=20)

    assert run.predictions == 4000
    assert run.service_us == pytest.approx(250)
    assert run.sidecar_us == pytest.approx(125)


def test_versions_of_a_model_differ_in_nothing_else(tmp_path: Path) -> None:
    """They take the same rows and have the same name, but are two: one model beside itself would have no shadow."""
    (first, _), (second, _) = (read_manifest(build_bundle(tmp_path, 10, version)) for version in (1, 2))

    assert (first.version, second.version) == ("1.0.0", "2.0.0")
    assert (first.name, first.features) == (second.name, second.features)


def test_what_is_sent_is_what_the_bundle_takes(tmp_path: Path) -> None:
    """Requests hold as many rows as the case asks for, each with all features of the model."""
    bundle = build_bundle(tmp_path, 10)

    (_, single), *_ = (request.split(b"\r\n\r\n") for request in build_requests(bundle, 1))
    (head, many), *others = (request.split(b"\r\n\r\n") for request in build_requests(bundle, 1000))

    assert set(orjson.loads(single)["features"]) == {f"feature_{number}" for number in range(10)}
    assert head.startswith(b"POST /predict/batch ")
    assert [len(row) for row in orjson.loads(many)["rows"]] == [10] * 1000
    assert len(others) == 9
