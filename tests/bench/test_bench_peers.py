"""What bench/peers makes of its runs, and how it treats what it cannot measure."""

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


def a_run(rate: float, *, other_core: float = 0.3, taken: float = 0.0, spans: float = 0.0) -> Run:
    """A run of one second."""
    load = LoadResult(int(rate), 0, 1.0, [0.001] * int(rate))
    return Run(
        load,
        cpu_seconds=1.0,
        cpu_on_other_core=0.0,
        other_core_usage=other_core,
        stolen_share=taken,
        spans=spans,
        log_records=0.0,
    )


def entry(name: str, variant: Variant, *runs: Run) -> Entry:
    """A server's runs."""
    return Entry(BY_NAME[name], variant, list(runs))


def test_the_ratio_is_of_everything_on_to_the_fastest_peer_with_its_telemetry_off() -> None:
    """It is about neither bare, nor a peer with telemetry on, nor one installed beyond its documentation."""
    result = summarise(
        [
            entry("bare", OFF, a_run(9000)),
            entry("modeltrace", OFF_BATCHING, a_run(8000)),
            entry("modeltrace", ON_BATCHING, a_run(4000)),
            entry("mlserver", OFF, a_run(1000)),
            entry("mlserver", OFF_BATCHING, a_run(2000)),
            entry("mlserver-httptools", OFF_BATCHING, a_run(2500)),
            entry("bentoml", ON_BATCHING, a_run(7000)),
        ],
        pinned=True,
        rounds=1,
    )
    assert result["ratio"] == 2.0
    assert result["best_peer"] == "mlserver, off, batching"
    assert result["ratio_to_tuned"] == 1.6
    assert result["best_peer_tuned"] == "mlserver-httptools, off, batching"


def test_a_share_is_taken_within_a_round() -> None:
    """A machine that is half as fast in one round changes no share."""
    bare = entry("bare", OFF, a_run(2000), a_run(1000), a_run(2000))
    assert throughput_ratio(entry("ray", OFF, a_run(500), a_run(250), a_run(500)), bare) == 0.25


def test_a_run_beside_which_somebody_else_had_the_cores_counts_nowhere() -> None:
    """Neither figures nor shares know it, and a variant with no other run says so."""
    void, robbed = a_run(10, other_core=0.99), a_run(10, taken=0.5)
    bare = entry("bare", OFF, a_run(2000), a_run(2000), a_run(2000))
    some, none = entry("ray", OFF, void, a_run(1000), robbed), entry("litserve", OFF, void, robbed, void)
    result = summarise([bare, some, none], pinned=True, rounds=3)
    assert result["variants"]["ray, off"]["of_bare"] == 0.5
    assert result["variants"]["ray, off"]["requests_per_second"] == 1000
    assert result["variants"]["litserve, off"]["of_bare"] is None
    assert [result["void"], result["variants"]["ray, off"]["void"]] == [True, False]
    assert result["best_peer"] == "ray, off"


def test_what_could_not_be_measured_stands_in_the_result_with_its_reason() -> None:
    """The others go on, and the ratio is of those that ran."""
    failed = entry("ray", OFF)
    failed.problems.append("cannot install ray: no wheel")
    result = summarise([entry("bare", OFF, a_run(2000)), failed], pinned=False, rounds=1)
    assert result["not_measured"] == {"ray, off": "cannot install ray: no wheel"}
    assert list(result["variants"]) == ["bare, off"]
    assert result["ratio"] is None


def test_what_telemetry_holds_stands_beside_the_figures_of_a_variant_that_has_it_on() -> None:
    """And what arrived of it, a request."""
    result = summarise(
        [entry("bare", OFF, a_run(2000)), entry("mlserver", ON, a_run(500, spans=4.0))], pinned=True, rounds=1
    )
    line = result["variants"]["mlserver, on"]
    assert line["telemetry_holds"] == BY_NAME["mlserver"].telemetry
    assert line["spans_per_request"] == 4.0
    assert result["variants"]["bare, off"]["telemetry_holds"] == "nothing"


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_every_variant_of_a_server_has_a_name_of_its_own(server: peers.Server) -> None:
    """Results go by it."""
    assert len({str(variant) for variant in server.variants}) == len(server.variants)


def test_every_variant_of_modeltrace_sets_what_the_service_knows(tmp_path: Path) -> None:
    """A setting that has another name by now would be ignored, and the figure be another variant's."""
    server = BY_NAME["modeltrace"]
    place = RunContext(tmp_path, tmp_path, tmp_path, tmp_path, 1, "http://127.0.0.1:9", "http://127.0.0.1:9")
    for variant in server.variants:
        reject_unknown_settings(server.launch(place, variant).env)
    with pytest.raises(RuntimeError, match="no setting MODELTRACE_TURBO"):
        reject_unknown_settings({"MODELTRACE_TURBO": "true"})


def test_an_unknown_server_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the names of those there are."""
    monkeypatch.setattr(sys, "argv", ["peers", "--only", "nobody"])
    with pytest.raises(SystemExit):
        peers.main()
    assert "mlserver" in capsys.readouterr().err


def wheel(folder: Path) -> Path:
    """A package with one module, as a wheel."""
    path = folder / "tiny_peer-1.0-py3-none-any.whl"
    about = "tiny_peer-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny_peer.py", "answer = 42\n")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-peer\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return path


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is another Python than the project's, has what was asked for, and the second call finds it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said: list[str] = []
    python = create_environment("tiny", [str(wheel(tmp_path))], said.append)
    done = subprocess.run([python, "-c", "import tiny_peer; print(tiny_peer.answer)"], capture_output=True, check=True)
    assert done.stdout.strip() == b"42"
    assert create_environment("tiny", [str(wheel(tmp_path))], said.append) == python
    assert said == ["installing tiny …"]


def test_what_cannot_be_installed_is_one_line_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an environment is not taken for a whole one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said: list[str] = []
    for _ in range(2):
        with pytest.raises(InstallError, match="cannot install tiny: ") as raised:
            create_environment("tiny", [str(tmp_path / "absent-1.0-py3-none-any.whl")], said.append)
        assert "\n" not in str(raised.value)
    assert len(said) == 2


PARENT = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, *os.sched_getaffinity(child.pid), flush=True)
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
server.serve_forever()
"""


@pytest.mark.skipif(not available_cores(), reason="the system cannot pin processes")
def test_what_a_server_starts_is_on_its_core_and_ends_with_it(tmp_path: Path) -> None:
    """A child that its parent forgot would eat the next server's time."""
    port, output = free_port(), tmp_path / "output.txt"
    command = [sys.executable, "-c", PARENT, str(port)]
    url = f"http://127.0.0.1:{port}/"
    with run_process(command, ready_url=url, core=available_cores()[0], folder=tmp_path, output=output):
        pid, *on = map(int, output.read_text().splitlines()[0].split())
        assert psutil.pid_exists(pid)
    assert on == [available_cores()[0]]
    assert not psutil.pid_exists(pid)


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    """Its last line says more than its exit code."""
    command = [sys.executable, "-c", "raise SystemExit('no such port')"]
    with (
        pytest.raises(RuntimeError, match="exited with 1: no such port"),
        run_process(command, ready_url="http://127.0.0.1:9/", output=tmp_path / "output.txt"),
    ):
        pass
