"""The startup bench: the summary of its rounds."""

from bench.startup import StartupCost, measure_exit, summarise


def test_ratios_are_taken_within_a_round() -> None:
    """A round on a machine that is half as fast does not change the ratio."""
    rounds = [
        {"reference": StartupCost(1.0, 0.8), "serve": StartupCost(2.0, 1.2)},
        {"reference": StartupCost(2.0, 1.6), "serve": StartupCost(4.0, 2.4)},
        {"reference": StartupCost(1.0, 0.8), "serve": StartupCost(2.0, 1.2)},
    ]

    result = summarise(rounds)

    assert result["cpu_ratio"] == 1.5
    assert result["starts"]["serve"] == {"wall_s": 2.0, "cpu_s": 1.2, "wall_ratio": 2.0, "cpu_ratio": 1.5}
    assert result["starts"]["reference"]["cpu_ratio"] == 1.0


def test_the_cpu_time_of_a_program_is_measured() -> None:
    """The CPU time of a program that has exited is above 0."""
    measured = measure_exit(["-c", "sum(range(10**6))"], {})

    assert measured.cpu > 0
