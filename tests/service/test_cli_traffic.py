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

from modeltrace.cli.durations import parse_seconds
from modeltrace.cli.traffic import traffic
from tests.helpers.processes import free_port, running, wait_until
from tests.helpers.services import ID_KEY, ServiceAndHub, run_modeltrace, running_service, running_service_and_hub

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def live(example: Path) -> Iterator[ServiceAndHub]:
    """The example, served."""
    with running_service_and_hub(example) as stack:
        yield stack


def summary(output: str) -> dict[str, Any]:
    """The last line, which is JSON."""
    end: dict[str, Any] = json.loads(output.splitlines()[-1])
    return end


def test_as_many_requests_as_asked_for_are_answered(live: ServiceAndHub) -> None:
    """Rows drawn from the model's own description are answered, every one."""
    done = run_modeltrace(
        "traffic", live.service.url, "--rate", "200", "--count", "40", "--json", OTEL_SDK_DISABLED="true"
    )
    assert done.returncode == 0, done.stderr
    end = summary(done.stdout)
    assert (end["sent"], end["answered"], end["failed"]) == (40, 40, 0)


def test_held_out_rows_come_with_their_true_labels(live: ServiceAndHub, example: Path) -> None:
    """The model agrees with most labels of rows that it has never seen."""
    done = run_modeltrace(
        "traffic", live.service.url, "--bundle", str(example), "--batch", "50", "--count", "2", "--json",
        OTEL_SDK_DISABLED="true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    end = summary(done.stdout)
    assert end["labelled"] == 100
    assert end["correct"] > 90


def total(url: str, name: str) -> float:
    """The sum of a counter over all series. Requests are counted after they are answered."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))


def test_true_labels_follow_their_predictions(live: ServiceAndHub, example: Path) -> None:
    """A share of the answers gets the label of its row, late; what is not due at the end is sent then."""
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
def test_who_has_the_key_is_left_out_of_the_figures(example: Path, options: tuple[str, ...]) -> None:
    """Unless the requests are to count; the rows of the example are fresh, with labels."""
    with running_service(example, MODELTRACE_ID_KEY=ID_KEY) as (_, url):
        done = run_modeltrace(
            "traffic", url, "--bundle", str(example), "--count", "20", "--rate", "100", "--json", *options,
            MODELTRACE_ID_KEY=ID_KEY, OTEL_SDK_DISABLED="true",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert summary(done.stdout)["labelled"] == 20
        counted, other = ("ml_predictions_total", "ml_predictions_synthetic_total")[:: 1 if options else -1]
        wait_until(lambda: total(url, counted) == 20, description="20 counted predictions")
        assert total(url, other) == 0


def test_labels_that_are_not_there_cannot_be_sent(live: ServiceAndHub, example: Path, tmp_path: Path) -> None:
    """Rows that were drawn have none, nor does a bundle without a target: one line says so, and nothing is sent."""
    bare = tmp_path / "bare"
    shutil.copytree(example, bare)
    manifest = json.loads((bare / "model.json").read_bytes())
    manifest["traffic"]["target"] = None
    (bare / "model.json").write_text(json.dumps(manifest))
    for rows in ([], ["--bundle", str(bare)]):
        done = run_modeltrace("traffic", live.service.url, *rows, "--feedback", "0.5", OTEL_SDK_DISABLED="true")
        assert done.returncode == 1
        assert "--feedback" in done.stderr
        assert "Traceback" not in done.stderr


def test_client_and_service_stand_in_one_trace(live: ServiceAndHub) -> None:
    """The traffic's CLIENT span is the parent of the service's SERVER span, under names of their own."""
    done = run_modeltrace(
        "traffic", live.service.url, "--count", "3", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=live.hub.otlp_url
    )
    trace_id = summary(done.stdout)["last_trace_id"]

    def spans() -> dict[str, Any] | None:
        answer = httpx.get(f"{live.hub.page_url}/api/traces/{trace_id}")
        found = {span["kind"]: span for span in answer.json()["spans"]} if answer.status_code == 200 else {}
        return found if {"CLIENT", "SERVER"} <= found.keys() else None

    found = wait_until(spans, description=f"both spans of {trace_id}")
    assert found["SERVER"]["parent_span_id"] == found["CLIENT"]["span_id"]
    assert found["CLIENT"]["name"] == "POST /predict"
    assert found["CLIENT"]["service_name"] == "modeltrace-traffic"
    assert found["SERVER"]["service_name"] == "modeltrace"


def test_refusals_of_injected_faults_are_no_failures(live: ServiceAndHub) -> None:
    """The service refuses what is spoilt, answers the rest, and the exit code is 0."""
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


def test_a_dead_service_is_one_clear_line() -> None:
    """The message names the address and how to start a service; the exit code is 1."""
    port = free_port()
    done = run_modeltrace("traffic", f"http://127.0.0.1:{port}", OTEL_SDK_DISABLED="true")
    assert done.returncode == 1
    assert f"no service answers at http://127.0.0.1:{port}" in done.stderr
    assert "modeltrace serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_waits_for_a_service_that_starts(example: Path) -> None:
    """Started before its service, it sends as soon as that is ready, and nothing fails."""
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


def test_it_does_not_wait_for_ever() -> None:
    """A service that is not ready in time is one clear line."""
    port = free_port()
    done = run_modeltrace("traffic", f"http://127.0.0.1:{port}", "--wait", "100ms", OTEL_SDK_DISABLED="true")
    assert done.returncode == 1
    assert f"no service answers at http://127.0.0.1:{port}" in done.stderr


def test_another_server_is_not_taken_for_a_service(live: ServiceAndHub) -> None:
    """The hub has no model."""
    done = run_modeltrace("traffic", live.hub.page_url, OTEL_SDK_DISABLED="true")
    assert done.returncode == 1
    assert "that is no Modeltrace service" in done.stderr


def test_sigterm_ends_it_with_a_summary(live: ServiceAndHub) -> None:
    """What is in flight is waited for, and the last line says how it went."""
    arguments = ["modeltrace", "traffic", live.service.url, "--json", "--every", "100ms"]
    with running(arguments, env={"OTEL_SDK_DISABLED": "true"}) as process:
        wait_until(lambda: '"sent":' in process.log, description="traffic")
        assert process.stop(signal.SIGTERM) == 0
        end = summary(process.log)
    assert end["sent"] == end["answered"] > 0


def test_a_silent_telemetry_endpoint_does_not_hold_it_up(live: ServiceAndHub) -> None:
    """It ends within its limit and says how much was not delivered."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = run_modeltrace(
            "traffic", live.service.url, "--count", "5", "--rate", "100", "--json",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "telemetry not delivered since the start: 6 spans" in done.stderr


def test_a_service_that_goes_away_makes_failures(example: Path) -> None:
    """Traffic goes on without its service, counts what failed, and exits with 1."""
    with running_service(example, OTEL_SDK_DISABLED="true") as (service, url):
        send = ["modeltrace", "traffic", url, "--every", "100ms"]
        with running(send, env={"OTEL_SDK_DISABLED": "true"}) as process:
            wait_until(lambda: "last trace" in process.log or " sent" in process.log, description="traffic")
            service.stop(signal.SIGKILL)
            wait_until(lambda: " 0 failed" not in process.log.splitlines()[-1], description="failures")
            assert process.stop(signal.SIGTERM) == 1
            assert "requests failed; the last one: nothing listens at " in process.log


@pytest.fixture(scope="module")
def cli() -> typer.Typer:
    """The command by itself."""
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
def test_bad_input_is_refused(cli: typer.Typer, arguments: list[str], complaint: str) -> None:
    """The message says which option, or what it should look like; nothing is sent."""
    result = CliRunner().invoke(cli, arguments, env={"COLUMNS": "200", "OTEL_SDK_DISABLED": "true"})
    assert result.exit_code != 0
    assert complaint in result.output + str(result.exception)


@pytest.mark.parametrize(
    ("text", "value"), [("30", 30.0), ("30s", 30.0), ("500ms", 0.5), ("5m", 300.0), ("1.5h", 5400.0)]
)
def test_times_are_read_with_their_unit(text: str, value: float) -> None:
    """Seconds are the default."""
    assert parse_seconds(text) == value
