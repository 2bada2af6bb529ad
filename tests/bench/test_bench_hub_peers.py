"""The bench of the hub and its peers: both servers store all that they acknowledge, and the queries find the same."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bench import hub_peers
from bench.hub_peers import Peer, jaeger_path, measure, run_hub_peer, run_jaeger
from bench.trace_load import SPANS_PER_TRACE, TRACES_PER_REQUEST

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("start", [run_hub_peer, run_jaeger])
def test_all_figures_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[[Path, int | None], AbstractContextManager[Peer]]
) -> None:
    """A small load is stored completely, and each query has a time."""
    if start is run_jaeger and not jaeger_path().exists():
        pytest.skip("Jaeger is not built: ./dev stack build")
    monkeypatch.setattr(hub_peers, "QUIET_SECONDS", 0.5)
    with start(tmp_path, None) as peer:
        result = measure(peer, TRACES_PER_REQUEST)

    assert result["spans"] == 4 * TRACES_PER_REQUEST * SPANS_PER_TRACE
    assert result["complete_percent"] == 100
    assert result["query_ms"].keys() == peer.paths.keys()
    assert all(result[key] > 0 for key in ("spans_per_second", "memory_mb"))
    # A small load may take less than a tick of the clock and less than the resolution of the size.
    assert all(result[key] >= 0 for key in ("cpu_ms_per_1000_spans", "disk_mb"))


def test_a_query_that_finds_nothing_is_an_error(tmp_path: Path) -> None:
    """A server that answers with an empty list is not compared."""
    with run_hub_peer(tmp_path, None) as peer:
        peer.paths["newest of a service"] = "/api/traces?service=another"
        with pytest.raises(RuntimeError, match="returned 0 traces"):
            measure(peer, TRACES_PER_REQUEST)
