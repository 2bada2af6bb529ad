"""One run of one server for bench/peers: start, check a prediction, load, count its telemetry, stop."""

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
# Seconds without new telemetry after which all of it has arrived.
QUIET_SECONDS = 2.5
# Helper processes of a server that may run on the other core, because no request waits for them.
HELPERS = ("modeltrace.sidecar",)


def wait_until_settled(receiver: Receiver) -> dict[str, int]:
    """Wait until no new telemetry arrives. Return the received items by kind."""
    last_counts, since = receiver.count_accepted(), time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        time.sleep(0.25)
        if (now := receiver.count_accepted()) != last_counts:
            last_counts, since = now, time.monotonic()
    return last_counts


def check_prediction(server: Server, port: int, model: Example) -> None:
    """Wait for the first answer, which must be the prediction of the model.

    Raises:
        RuntimeError: there was no answer within the timeout, or the answer was wrong.
    """
    deadline = time.monotonic() + READY_TIMEOUT
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(
            "POST", server.predict_path, server.encode_body(model.rows[0]), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if response.status == http.client.OK:
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.predict_path} answers {response.status}: {content[:200]!r}")
        time.sleep(0.25)
    if (
        abs(server.read_confidence(json.loads(content)) - model.confidences[0]) > 1e-5
    ):  # ONNX Runtime computes in float32
        raise RuntimeError(f"{server.predict_path} answers {content[:200]!r}, and the model {model.confidences[0]}")


def find_helpers(pid: int) -> dict[str, psutil.Process]:
    """Return the helper processes of a server, by name."""
    descendants = process_tree(pid)[1:]
    return {name: process for name in HELPERS for process in descendants if name in process.cmdline()}


def reject_unknown_settings(env: Mapping[str, str]) -> None:
    """Reject settings that the service would ignore, because the run would measure another variant.

    Raises:
        RuntimeError: a setting is unknown.
    """
    known = {f"MODELTRACE_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in env if name.startswith("MODELTRACE_") and name not in known)
    if unknown:
        raise RuntimeError(f"the service has no setting {', '.join(unknown)}")


@dataclass(frozen=True)
class PeerBench:
    """The parameters that all runs share."""

    model: Example
    receiver: Receiver
    pins: CoreAssignment
    seconds: float


def measure(bench: PeerBench, server: Server, variant: Variant, python: Path) -> Run:
    """Run one server once.

    Raises:
        RuntimeError: it did not start, its prediction was wrong, or more than 1 % of the requests failed.
    """
    model, receiver, pins = bench.model, bench.receiver, bench.pins
    requests = [encode_post(server.predict_path, server.encode_body(row)) for row in model.rows]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        context = RunContext(
            python, folder, model.bundle, model.joblib, free_port(), receiver.http_endpoint, receiver.grpc_endpoint
        )
        launch = server.launch(context, variant)
        reject_unknown_settings(launch.env)
        with run_process(
            launch.command,
            ready_url=f"http://127.0.0.1:{context.port}{server.ready_path}",
            env={**common_env(context, variant), **launch.env},
            core=pins.service,
            folder=folder,
            output=folder / "output.txt",
            ready_timeout=READY_TIMEOUT,
        ) as process:
            check_prediction(server, context.port, model)
            helpers = find_helpers(process.pid)
            moved = [] if variant.sidecar_on_server_core or pins.other is None else list(helpers.values())
            for helper in moved:
                pin_process(helper, pins.other or 0)
            before = receiver.count_accepted()
            warm_up = run_load(context.port, requests, seconds=min(WARM_UP_SECONDS, bench.seconds))
            server_processes = [child for child in process_tree(process.pid) if child not in moved]
            cpu, cpu_on_other_core = cpu_seconds(server_processes), cpu_seconds(moved)
            psutil.cpu_percent(percpu=True)  # start of the interval that the next call reports
            measured = run_load(context.port, requests, seconds=bench.seconds)
            busy = psutil.cpu_percent(percpu=True)
            cpu, cpu_on_other_core = cpu_seconds(server_processes) - cpu, cpu_seconds(moved) - cpu_on_other_core
            after = wait_until_settled(receiver) if variant.telemetry else receiver.count_accepted()
        if measured.failed > measured.requests / 100 or not measured.requests:
            raise RuntimeError(f"{measured.failed} of {measured.requests} requests failed")
        sent = warm_up.requests + measured.requests
        return Run(
            load=measured,
            cpu_seconds=cpu + cpu_on_other_core,
            cpu_on_other_core=cpu_on_other_core,
            other_core_usage=busy[pins.other] / 100 if pins.other is not None else 0.0,
            stolen_share=max(0.0, busy[pins.service] / 100 - cpu / measured.seconds)
            if pins.service is not None
            else 0.0,
            spans=(after["spans"] - before["spans"]) / sent,
            log_records=(after["log records"] - before["log records"]) / sent,
            helpers=dict.fromkeys(
                helpers, "other core" if moved else "server's core" if pins.service is not None else "any core"
            ),
        )


def measure_with_retry(bench: PeerBench, server: Server, variant: Variant, python: Path) -> Run:
    """Run one server, and once more if other processes disturbed the first run."""
    run = measure(bench, server, variant, python)
    return measure(bench, server, variant, python) if run.void else run
