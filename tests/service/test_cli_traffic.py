"""`modeltrace traffic` against a live service and a live hub."""

import json
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from modeltrace.cli.times import parse_seconds
from modeltrace.cli.traffic import traffic
from modeltrace.traffic.run import OTHER_KEY_WARNING
from tests.helpers.processes import free_port, running, wait_until
from tests.helpers.services import ID_KEY, ServiceAndHub, run_modeltrace, running_service, running_service_and_hub

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def live(example: Path) -> Iterator[ServiceAndHub]:
    """A service with the example, and a hub."""
    with running_service_and_hub(example) as stack:
        yield stack


def summary(output: str) -> dict[str, Any]:
    """Return the parsed last line."""
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def test_all_requests_are_answered(live: ServiceAndHub) -> None:
    """Rows sampled from the model's reference bins are all answered."""
    done = run_modeltrace(
        "traffic", live.service.url, "--rate", "200", "--count", "40", "--json", OTEL_SDK_DISABLED="true"
    )
    assert done.returncode == 0, done.stderr
    end = summary(done.stdout)
    assert (end["sent"], end["answered"], end["failed"]) == (40, 40, 0)


def test_held_out_rows_have_true_labels(live: ServiceAndHub, example: Path) -> None:
    """Most predictions for test rows are correct."""
    done = run_modeltrace(
        "traffic", live.service.url, "--bundle", str(example), "--batch", "50", "--count", "2", "--json",
        OTEL_SDK_DISABLED="true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    end = summary(done.stdout)
    assert end["labelled"] == 100
    assert end["correct"] > 90


def total(url: str, name: str) -> float:
    """Return the sum of a counter over all series. Requests are counted after they are answered."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))


def test_true_labels_follow_their_predictions(live: ServiceAndHub, example: Path) -> None:
    """A share of the predictions gets a true label after the delay; the rest is sent at the end."""
    done = run_modeltrace(
        "traffic", live.service.url, "--bundle", str(example), "--batch", "50", "--count", "8", "--rate", "4", "--json",
        "--feedback", "0.5", "--feedback-delay", "1s", "--seed", "1", OTEL_SDK_DISABLED="true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    end = summary(done.stdout)
    assert 140 < end["labels"] < 260
    url = live.service.url
    wait_until(
        lambda: total(url, "ml_feedback_total") == end["labels"], description=f"the counts of {end['labels']} labels"
    )


@pytest.mark.parametrize("options", [(), ("--unmarked",)])
def test_marked_traffic_is_counted_as_synthetic(example: Path, options: tuple[str, ...]) -> None:
    """Traffic with the service's key is counted as synthetic, unless it is not marked."""
    with running_service(example, MODELTRACE_ID_KEY=ID_KEY) as (_, url):
        done = run_modeltrace(
            "traffic", url, "--bundle", str(example), "--count", "20", "--rate", "100", "--json", *options,
            MODELTRACE_ID_KEY=ID_KEY, OTEL_SDK_DISABLED="true",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert summary(done.stdout)["labelled"] == 20
        assert OTHER_KEY_WARNING not in done.stderr
        counted, other = ("ml_predictions_total", "ml_predictions_synthetic_total")[:: 1 if options else -1]
        wait_until(lambda: total(url, counted) == 20, description="20 counted predictions")
        assert total(url, other) == 0


def test_traffic_with_another_key_is_reported_once(live: ServiceAndHub) -> None:
    """If the service does not have the key, one line says that the predictions count like real ones."""
    arguments = ("traffic", live.service.url, "--count", "3", "--json")
    for key, warnings in (("another key of 16 or more characters", 1), (ID_KEY, 0)):
        done = run_modeltrace(*arguments, MODELTRACE_ID_KEY=key, OTEL_SDK_DISABLED="true")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(OTHER_KEY_WARNING) == warnings


def test_feedback_without_true_labels_is_an_error(live: ServiceAndHub, example: Path, tmp_path: Path) -> None:
    """Sampled rows and a bundle without a target have no true labels: the error is one line, and nothing is sent."""
    unlabelled = tmp_path / "unlabelled"
    shutil.copytree(example, unlabelled)
    manifest = json.loads((unlabelled / "model.json").read_bytes())
    manifest["traffic"]["target"] = None
    (unlabelled / "model.json").write_text(json.dumps(manifest))
    for rows in ([], ["--bundle", str(unlabelled)]):
        done = run_modeltrace("traffic", live.service.url, *rows, "--feedback", "0.5", OTEL_SDK_DISABLED="true")
        assert done.returncode == 1
        assert "--feedback" in done.stderr
        assert "Traceback" not in done.stderr


def test_client_and_service_share_a_trace(live: ServiceAndHub) -> None:
    """The CLIENT span of traffic is the parent of the service's SERVER span; their service names differ."""
    done = run_modeltrace(
        "traffic", live.service.url, "--count", "3", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=live.hub.otlp_url
    )
    trace_id = summary(done.stdout)["last_trace_id"]

    def spans() -> dict[str, Any] | None:
        response = httpx.get(f"{live.hub.page_url}/api/traces/{trace_id}")
        by_kind = {span["kind"]: span for span in response.json()["spans"]} if response.status_code == 200 else {}
        return by_kind if {"CLIENT", "SERVER"} <= by_kind.keys() else None

    by_kind = wait_until(spans, description=f"both spans of {trace_id}")
    assert by_kind["SERVER"]["parent_span_id"] == by_kind["CLIENT"]["span_id"]
    assert by_kind["CLIENT"]["name"] == "POST /predict"
    assert by_kind["CLIENT"]["service_name"] == "modeltrace-traffic"
    assert by_kind["SERVER"]["service_name"] == "modeltrace"


def test_rejections_of_injected_faults_are_not_failures(live: ServiceAndHub) -> None:
    """The service rejects requests with faults and answers the rest; the exit code is 0."""
    done = run_modeltrace(
        "traffic", live.service.url, "--count", "60", "--rate", "200", "--seed", "1", "--json",
        "--missing", "0.2", "--wrong-type", "0.2", "--errors", "0.2",
        OTEL_SDK_DISABLED="true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    end = summary(done.stdout)
    assert end["failed"] == 0
    assert end["answered"] + end["rejected"] == 60
    assert 12 <= end["rejected"] <= 39


def test_missing_service_is_reported_in_one_line() -> None:
    """The line names the address and the command that starts a service; the exit code is 1."""
    port = free_port()
    done = run_modeltrace("traffic", f"http://127.0.0.1:{port}", OTEL_SDK_DISABLED="true")
    assert done.returncode == 1
    assert f"no service answers at http://127.0.0.1:{port}" in done.stderr
    assert "modeltrace serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_traffic_waits_until_the_service_is_ready(example: Path) -> None:
    """Traffic that is started before its service sends requests when the service is ready; none fails."""
    port = free_port()
    send = ["modeltrace", "traffic", f"http://127.0.0.1:{port}", "--wait", "2m", "--count", "3", "--json"]
    serve = ["modeltrace", "serve", str(example), "--port", str(port)]
    with (
        running(send, env={"OTEL_SDK_DISABLED": "true"}) as process,
        running(serve, env={"OTEL_SDK_DISABLED": "true"}),
    ):
        wait_until(lambda: process.popen.poll() is not None, description="the end of traffic")
        assert process.popen.returncode == 0, process.log
        end = summary(process.log)
    assert (end["sent"], end["answered"], end["failed"]) == (3, 3, 0)


def test_traffic_waits_for_a_limited_time() -> None:
    """If the service is not ready in time, the error is one line."""
    port = free_port()
    done = run_modeltrace("traffic", f"http://127.0.0.1:{port}", "--wait", "100ms", OTEL_SDK_DISABLED="true")
    assert done.returncode == 1
    assert f"no service answers at http://127.0.0.1:{port}" in done.stderr


def test_server_that_is_not_a_service_is_reported(live: ServiceAndHub) -> None:
    """The hub has no model."""
    done = run_modeltrace("traffic", live.hub.page_url, OTEL_SDK_DISABLED="true")
    assert done.returncode == 1
    assert "this is not a Modeltrace service" in done.stderr


def test_sigterm_ends_traffic_with_a_summary(live: ServiceAndHub) -> None:
    """Traffic waits for requests in flight, and the last line is the summary."""
    arguments = ["modeltrace", "traffic", live.service.url, "--json", "--interval", "100ms"]
    with running(arguments, env={"OTEL_SDK_DISABLED": "true"}) as process:
        wait_until(lambda: '"sent":' in process.log, description="traffic")
        assert process.stop(signal.SIGTERM) == 0
        end = summary(process.log)
    assert end["sent"] == end["answered"] > 0


def test_unresponsive_telemetry_endpoint_does_not_delay_the_end(live: ServiceAndHub) -> None:
    """Traffic ends within its timeout and reports how many spans were not delivered."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = run_modeltrace(
            "traffic", live.service.url, "--count", "5", "--rate", "100", "--json",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "telemetry not delivered since the start: 6 spans" in done.stderr


def test_service_that_ends_causes_failures(example: Path) -> None:
    """Traffic continues without its service, counts the failures, and exits with 1."""
    with running_service(example, OTEL_SDK_DISABLED="true") as (service, url):
        send = ["modeltrace", "traffic", url, "--interval", "100ms"]
        with running(send, env={"OTEL_SDK_DISABLED": "true"}) as process:
            wait_until(lambda: "last trace" in process.log or " sent" in process.log, description="traffic")
            service.stop(signal.SIGKILL)
            wait_until(lambda: " 0 failed" not in process.log.splitlines()[-1], description="failures")
            assert process.stop(signal.SIGTERM) == 1
            assert "requests failed; the last one: nothing listens at " in process.log


@pytest.fixture(scope="module")
def cli() -> typer.Typer:
    """The command in this process."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(traffic)
    return app


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rate", "0"], "--rate"),
        (["--missing", "1.1"], "--missing"),
        (["--count", "0"], "--count"),
        (["--duration", "soon"], "30s, 500ms, 5m or 1h"),
        (["--duration", "0s"], "above 0"),
        (["--data", "a.csv", "--bundle", "b"], "not both"),
        (["--shift", "age"], "FEATURE=FACTOR"),
        (["ftp://x"], "not an address"),
        (["http://"], "not an address"),
    ],
)
def test_invalid_arguments_are_an_error(cli: typer.Typer, arguments: list[str], complaint: str) -> None:
    """The message names the option or the valid form; nothing is sent."""
    result = CliRunner().invoke(cli, arguments, env={"COLUMNS": "200", "OTEL_SDK_DISABLED": "true"})
    assert result.exit_code != 0
    assert complaint in result.output + str(result.exception)


@pytest.mark.parametrize(
    ("text", "value"), [("30", 30.0), ("30s", 30.0), ("500ms", 0.5), ("5m", 300.0), ("1.5h", 5400.0)]
)
def test_durations(text: str, value: float) -> None:
    """A duration has a unit; without one it is in seconds."""
    assert parse_seconds(text) == value
