"""One run of one server for bench/peers: started, asked, loaded, its telemetry counted, stopped."""

import http.client
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.example import Example
from bench.load import encode_post, run_load
from bench.peers.launch import RunContext, Variant, common_env
from bench.peers.servers import Server
from bench.peers.summary import Run
from bench.processes import CoreAssignment, cpu_seconds, free_port, pin_process, process_tree, run_process
from bench.receiver import Receiver
from modeltrace.settings import Settings

WARM_UP_SECONDS = 2.0
READY_TIMEOUT = 90.0
# A server's telemetry has arrived when nothing new has come for this long.
QUIET_SECONDS = 2.5
# Processes of a server that may run elsewhere: what its telemetry is encoded in, which a request never waits for.
HELPERS = ("modeltrace.sidecar",)


def wait_until_settled(receiving: Receiver) -> dict[str, int]:
    """What has arrived, once nothing new arrives."""
    last, since = receiving.count_accepted(), time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        time.sleep(0.25)
        if (now := receiving.count_accepted()) != last:
            last, since = now, time.monotonic()
    return last


def check_prediction(server: Server, port: int, model: Example) -> None:
    """Wait for the first answer, which has to be the model's.

    Raises:
        RuntimeError: none came in time, or another.
    """
    deadline = time.monotonic() + READY_TIMEOUT
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(
            "POST", server.predict_path, server.encode_body(model.rows[0]), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status == http.client.OK:
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.predict_path} answers {response.status}: {answer[:200]!r}")
        time.sleep(0.25)
    if abs(server.read_confidence(json.loads(answer)) - model.confidences[0]) > 1e-5:  # ONNX Runtime counts in float32
        raise RuntimeError(f"{server.predict_path} answers {answer[:200]!r}, and the model {model.confidences[0]}")


def find_helpers(pid: int) -> dict[str, psutil.Process]:
    """A server's helpers, by name."""
    below = process_tree(pid)[1:]
    return {name: process for name in HELPERS for process in below if name in process.cmdline()}


def reject_unknown_settings(env: Mapping[str, str]) -> None:
    """A variable that the service does not know would be ignored, and the figure would be another variant's.

    Raises:
        RuntimeError: it names one.
    """
    known = {f"MODELTRACE_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in env if name.startswith("MODELTRACE_") and name not in known)
    if unknown:
        raise RuntimeError(f"the service has no setting {', '.join(unknown)}")


@dataclass(frozen=True)
class PeerBench:
    """What all runs have in common."""

    model: Example
    receiver: Receiver
    pins: CoreAssignment
    seconds: float


def measure(bench: PeerBench, server: Server, variant: Variant, python: Path) -> Run:
    """One run of one server.

    Raises:
        RuntimeError: it did not start, or did not answer as the model does, or refused more than a few requests.
    """
    model, receiving, pins = bench.model, bench.receiver, bench.pins
    requests = [encode_post(server.predict_path, server.encode_body(row)) for row in model.rows]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        place = RunContext(
            python, folder, model.bundle, model.joblib, free_port(), receiving.http_endpoint, receiving.grpc_endpoint
        )
        launch = server.launch(place, variant)
        reject_unknown_settings(launch.env)
        with run_process(
            launch.command,
            ready_url=f"http://127.0.0.1:{place.port}{server.ready_path}",
            env={**common_env(place, variant), **launch.env},
            core=pins.service,
            folder=folder,
            output=folder / "output.txt",
            ready_timeout=READY_TIMEOUT,
        ) as process:
            check_prediction(server, place.port, model)
            helpers = find_helpers(process.pid)
            moved = [] if variant.sidecar_on_server_core or pins.other is None else list(helpers.values())
            for helper in moved:
                pin_process(helper, pins.other or 0)
            before = receiving.count_accepted()
            warm_up = run_load(place.port, requests, seconds=min(WARM_UP_SECONDS, bench.seconds))
            stay = [x for x in process_tree(process.pid) if x not in moved]
            used, used_elsewhere = cpu_seconds(stay), cpu_seconds(moved)
            psutil.cpu_percent(percpu=True)  # what the next call says is since this one
            measured = run_load(place.port, requests, seconds=bench.seconds)
            busy = psutil.cpu_percent(percpu=True)
            used, used_elsewhere = cpu_seconds(stay) - used, cpu_seconds(moved) - used_elsewhere
            after = wait_until_settled(receiving) if variant.telemetry else receiving.count_accepted()
        if measured.failed > measured.requests / 100 or not measured.requests:
            raise RuntimeError(f"{measured.failed} of {measured.requests} requests failed")
        sent = warm_up.requests + measured.requests
        return Run(
            load=measured,
            cpu_seconds=used + used_elsewhere,
            cpu_on_other_core=used_elsewhere,
            other_core_usage=busy[pins.other] / 100 if pins.other is not None else 0.0,
            stolen_share=max(0.0, busy[pins.service] / 100 - used / measured.seconds)
            if pins.service is not None
            else 0.0,
            spans=(after["spans"] - before["spans"]) / sent,
            log_records=(after["log records"] - before["log records"]) / sent,
            helpers=dict.fromkeys(
                helpers, "other core" if moved else "server's core" if pins.service is not None else "any core"
            ),
        )


def measure_with_retry(bench: PeerBench, server: Server, variant: Variant, python: Path) -> Run:
    """The same; a run beside which somebody else needed the cores is made once more."""
    run = measure(bench, server, variant, python)
    return measure(bench, server, variant, python) if run.void else run
