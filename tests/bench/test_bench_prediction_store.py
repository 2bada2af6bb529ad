"""The prediction store bench: all steps run on a small store, and the files give the metrics of the store."""

import pytest

from bench.prediction_store import is_close, print_result, run

pytestmark = pytest.mark.slow


def test_metrics_are_compared_within_rounding() -> None:
    """Numbers may differ by 1e-9 of their value, and nothing else may."""
    value = {"a": [1.0, None, "x"], "b": {"c": 3}}

    assert is_close(value, {"a": [1.0 + 1e-12, None, "x"], "b": {"c": 3}})
    assert is_close(value, {"a": (1.0 + 1e-12, None, "x"), "b": {"c": 3}})  # both are arrays in JSON
    assert is_close(value | {"a": ({"d": 0.0},)}, value | {"a": ({"d": 1e-17},)})
    assert not is_close(({"d": 1.0},), ({"d": 1.0 + 1e-6},))
    for other in ({"a": [1.0 + 1e-6, None, "x"], "b": {"c": 3}}, {"a": [1.0, None], "b": {"c": 3}}, {"a": [1.0]}):
        assert not is_close(value, other)


def test_every_step_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """The metrics of store and files are equal, and the files are smaller."""
    result = run(None, 3000)
    print_result(result)

    assert result["equal_metrics"] is True
    assert 0 < result["exported_bytes_per_row"] < result["bytes_per_row"]
    assert set(result["seconds"]) == {
        "insert", "evaluate", "evaluate a copy", "export by day", "evaluate the files", "delete a tenth", "vacuum",
    }  # fmt: skip
    assert "metrics of the files are equal: yes" in " ".join(capsys.readouterr().out.split())
