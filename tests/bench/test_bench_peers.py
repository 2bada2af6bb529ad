"""The peers bench: the summary of its runs, its environments and the servers that it cannot measure."""

import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest

from bench.load import LoadResult
from bench.peers import __main__ as peers
from bench.peers.environments import InstallError, create_environment
from bench.peers.launch import RunContext, Variant
from bench.peers.run import reject_unknown_settings
from bench.peers.servers import SERVERS
from bench.peers.summary import Entry, Run, summarise, throughput_ratio
from bench.processes import available_cores, free_port, run_process

pytestmark = pytest.mark.slow

BY_NAME = {server.name: server for server in SERVERS}
OFF, ON = Variant(telemetry=False), Variant(telemetry=True)
OFF_BATCHING, ON_BATCHING = Variant(telemetry=False, batching=True), Variant(telemetry=True, batching=True)


def make_run(rate: float, *, other_core: float = 0.3, stolen: float = 0.0, spans: float = 0.0) -> Run:
    """Make a run of one second."""
    load = LoadResult(int(rate), 0, 1.0, [0.001] * int(rate))
    return Run(
        load,
        cpu_seconds=1.0,
        cpu_on_other_core=0.0,
        other_core_usage=other_core,
        stolen_share=stolen,
        spans=spans,
        log_records=0.0,
    )


def make_entry(name: str, variant: Variant, *runs: Run) -> Entry:
    """Make the entry of a server."""
    return Entry(BY_NAME[name], variant, list(runs))


def test_the_ratio_compares_full_telemetry_with_the_fastest_peer_without_telemetry() -> None:
    """It ignores bare, peers with telemetry, and peers installed with more than their documentation requires."""
    result = summarise(
        [
            make_entry("bare", OFF, make_run(9000)),
            make_entry("modeltrace", OFF_BATCHING, make_run(8000)),
            make_entry("modeltrace", ON_BATCHING, make_run(4000)),
            make_entry("mlserver", OFF, make_run(1000)),
            make_entry("mlserver", OFF_BATCHING, make_run(2000)),
            make_entry("mlserver-httptools", OFF_BATCHING, make_run(2500)),
            make_entry("bentoml", ON_BATCHING, make_run(7000)),
        ],
        pinned=True,
        rounds=1,
    )
    assert result["ratio"] == 2.0
    assert result["best_peer"] == "mlserver, off, batching"
    assert result["ratio_to_tuned"] == 1.6
    assert result["best_peer_tuned"] == "mlserver-httptools, off, batching"


def test_throughput_ratios_are_taken_within_a_round() -> None:
    """A round on a machine that is half as fast does not change the ratio."""
    bare = make_entry("bare", OFF, make_run(2000), make_run(1000), make_run(2000))
    assert throughput_ratio(make_entry("ray", OFF, make_run(500), make_run(250), make_run(500)), bare) == 0.25


def test_runs_disturbed_by_other_processes_are_excluded() -> None:
    """Medians and ratios ignore them, and a variant without a valid run is marked."""
    saturated, stolen = make_run(10, other_core=0.99), make_run(10, stolen=0.5)
    bare = make_entry("bare", OFF, make_run(2000), make_run(2000), make_run(2000))
    ray, litserve = (
        make_entry("ray", OFF, saturated, make_run(1000), stolen),
        make_entry("litserve", OFF, saturated, stolen, saturated),
    )
    result = summarise([bare, ray, litserve], pinned=True, rounds=3)
    assert result["variants"]["ray, off"]["of_bare"] == 0.5
    assert result["variants"]["ray, off"]["requests_per_second"] == 1000
    assert result["variants"]["litserve, off"]["of_bare"] is None
    assert [result["void"], result["variants"]["ray, off"]["void"]] == [True, False]
    assert result["best_peer"] == "ray, off"


def test_servers_that_cannot_be_measured_are_listed_with_the_reason() -> None:
    """The other servers are measured, and the ratio uses those that ran."""
    failed = make_entry("ray", OFF)
    failed.problems.append("cannot install ray: no wheel")
    result = summarise([make_entry("bare", OFF, make_run(2000)), failed], pinned=False, rounds=1)
    assert result["not_measured"] == {"ray, off": "cannot install ray: no wheel"}
    assert list(result["variants"]) == ["bare, off"]
    assert result["ratio"] is None


def test_variants_with_telemetry_describe_its_content() -> None:
    """They also report the received spans per request."""
    result = summarise(
        [make_entry("bare", OFF, make_run(2000)), make_entry("mlserver", ON, make_run(500, spans=4.0))],
        pinned=True,
        rounds=1,
    )
    line = result["variants"]["mlserver, on"]
    assert line["telemetry_content"] == BY_NAME["mlserver"].telemetry
    assert line["spans_per_request"] == 4.0
    assert result["variants"]["bare, off"]["telemetry_content"] == "nothing"


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_the_variants_of_a_server_have_distinct_names(server: peers.Server) -> None:
    """The name is the key of the results."""
    assert len({str(variant) for variant in server.variants}) == len(server.variants)


def test_the_variants_of_modeltrace_use_settings_of_the_service(tmp_path: Path) -> None:
    """The service would ignore a setting with an old name, and the run would measure another variant."""
    server = BY_NAME["modeltrace"]
    context = RunContext(tmp_path, tmp_path, tmp_path, tmp_path, 1, "http://127.0.0.1:9", "http://127.0.0.1:9")
    for variant in server.variants:
        reject_unknown_settings(server.launch(context, variant).env)
    with pytest.raises(RuntimeError, match="no setting MODELTRACE_TURBO"):
        reject_unknown_settings({"MODELTRACE_TURBO": "true"})


def test_an_unknown_server_is_rejected(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The message lists the known servers."""
    monkeypatch.setattr(sys, "argv", ["peers", "--only", "nobody"])
    with pytest.raises(SystemExit):
        peers.main()
    assert "mlserver" in capsys.readouterr().err


def wheel(folder: Path) -> Path:
    """Build a wheel of a package with one module."""
    path = folder / "tiny_peer-1.0-py3-none-any.whl"
    metadata = "tiny_peer-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny_peer.py", "answer = 42\n")
        file.writestr(f"{metadata}/METADATA", "Metadata-Version: 2.1\nName: tiny-peer\nVersion: 1.0\n")
        file.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{metadata}/RECORD", "")
    return path


def test_an_environment_is_created_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has the required packages, and the second call uses it again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    messages: list[str] = []
    python = create_environment("tiny", [str(wheel(tmp_path))], messages.append)
    process = subprocess.run(
        [python, "-c", "import tiny_peer; print(tiny_peer.answer)"], capture_output=True, check=True
    )
    assert process.stdout.strip() == b"42"
    assert create_environment("tiny", [str(wheel(tmp_path))], messages.append) == python
    assert messages == ["installing tiny …"]


def test_an_installation_error_is_one_line_and_the_next_call_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incomplete environment is not used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    messages: list[str] = []
    for _ in range(2):
        with pytest.raises(InstallError, match="cannot install tiny: ") as raised:
            create_environment("tiny", [str(tmp_path / "absent-1.0-py3-none-any.whl")], messages.append)
        assert "\n" not in str(raised.value)
    assert len(messages) == 2


PARENT = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, *os.sched_getaffinity(child.pid), flush=True)
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
server.serve_forever()
"""


@pytest.mark.skipif(not available_cores(), reason="the system cannot pin processes")
def test_child_processes_of_a_server_run_on_its_core_and_end_with_it(tmp_path: Path) -> None:
    """A child that its parent leaves behind would use CPU time of the next server."""
    port, output = free_port(), tmp_path / "output.txt"
    command = [sys.executable, "-c", PARENT, str(port)]
    url = f"http://127.0.0.1:{port}/"
    with run_process(command, ready_url=url, core=available_cores()[0], folder=tmp_path, output=output):
        pid, *child_cores = map(int, output.read_text().splitlines()[0].split())
        assert psutil.pid_exists(pid)
    assert child_cores == [available_cores()[0]]
    assert not psutil.pid_exists(pid)


def test_the_error_of_a_server_that_does_not_start_quotes_its_output(tmp_path: Path) -> None:
    """The message contains the exit code and the last line of the output."""
    command = [sys.executable, "-c", "raise SystemExit('no such port')"]
    with (
        pytest.raises(RuntimeError, match="exited with 1: no such port"),
        run_process(command, ready_url="http://127.0.0.1:9/", output=tmp_path / "output.txt"),
    ):
        pass
