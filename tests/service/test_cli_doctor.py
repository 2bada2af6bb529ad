"""`modeltrace doctor` against a live service and a live hub."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from modeltrace.cli.doctor import doctor
from stack.layout import ROOT
from tests.helpers.processes import free_port, running, wait_until
from tests.helpers.services import ServiceAndHub, run_modeltrace, running_service, running_service_and_hub

pytestmark = pytest.mark.slow

KEY = "the key of the tests' hub"


@pytest.fixture(scope="module")
def live(example: Path) -> Iterator[ServiceAndHub]:
    """The example, served, and a hub with a key."""
    with running_service_and_hub(example, hub_key=KEY) as stack:
        yield stack


def test_everything_arrives(live: ServiceAndHub) -> None:
    """Spans, log records and an exemplar of one prediction are found, and the exit code is 0."""
    done = run_modeltrace("doctor", live.service.url, "--hub", live.hub.page_url, "--json", MODELTRACE_HUB_KEY=KEY)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"]
    assert result["link"] == f"{live.hub.page_url}/t/{result['trace_id']}"
    assert [link["url"] for link in result["links"]] == [result["link"]]
    assert {item["name"] for item in result["items"]} == {
        "POST /predict", "validate", "features", "inference", "ml.prediction (audit)", "access line", "any metric",
    }  # fmt: skip
    assert all(item["arrived_ms"] > 0 for item in result["items"])


def test_the_table_says_what_arrived_and_where_to_look(live: ServiceAndHub) -> None:
    """One line a thing, with its milliseconds."""
    done = run_modeltrace("doctor", live.service.url, "--hub", live.hub.page_url, "--key", KEY)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("breast-cancer 1.0.0 · one prediction, trace ")
    assert [line.split()[-1] for line in lines[2:9]] == ["ms"] * 7
    assert lines[9].startswith(f"look  {live.hub.page_url}/t/")


def test_everything_arrives_beside_200_requests_a_second(live: ServiceAndHub) -> None:
    """The prediction's exemplar is kept, for it is pinned."""
    beside = ["modeltrace", "traffic", live.service.url, "--rate", "200", "--every", "100ms"]
    with running(beside, env={"OTEL_SDK_DISABLED": "true"}) as traffic:
        wait_until(lambda: traffic.log.count("/s · ") > 10, description="traffic")
        done = run_modeltrace("doctor", live.service.url, "--hub", live.hub.page_url, "--json", MODELTRACE_HUB_KEY=KEY)
        assert traffic.popen.poll() is None, traffic.log
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def cli() -> typer.Typer:
    """The command by itself, in this process."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(doctor)
    return app


def test_a_hub_with_another_key_is_told_apart(live: ServiceAndHub, cli: typer.Typer) -> None:
    """The message names the setting."""
    result = CliRunner().invoke(cli, [live.service.url, "--hub", live.hub.page_url, "--key", "another"])
    assert result.exit_code == 1
    assert "wants its key: set MODELTRACE_HUB_KEY" in str(result.exception)


def test_a_hub_that_is_not_there_is_told_apart(live: ServiceAndHub, cli: typer.Typer) -> None:
    """It is not the service that is missing."""
    result = CliRunner().invoke(cli, [live.service.url, "--hub", f"http://127.0.0.1:{free_port()}"])
    assert result.exit_code == 1
    assert str(result.exception).startswith("no hub answers at http://127.0.0.1:")


def test_another_server_is_not_taken_for_a_hub(live: ServiceAndHub, cli: typer.Typer) -> None:
    """Before anything is sent, and not only when the time is over."""
    result = CliRunner().invoke(cli, [live.service.url, "--hub", live.service.url])
    assert result.exit_code == 1
    assert "is no hub that can be asked; it says: 404" in str(result.exception)


def test_a_stack_that_is_not_there_is_one_clear_line(live: ServiceAndHub) -> None:
    """Each of its parts is named, and what starts them; the environment can say where they are."""
    urls = {f"MODELTRACE_{part}_URL": f"127.0.0.1:{free_port()}" for part in ("JAEGER", "LOKI", "PROMETHEUS")}
    done = run_modeltrace("doctor", live.service.url, "--against", "stack", **urls)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert all(f"answers at http://{url}:" in line for url in urls.values())
    assert line.endswith("Start what is missing: ./dev stack up")


def test_where_the_stack_is_is_documented(cli: typer.Typer) -> None:
    """docs/settings.md has a row for each of its options, with the variable and the default."""
    settings = (ROOT / "docs" / "settings.md").read_text()
    command = typer.main.get_command(cli)
    options = {p.opts[0]: p for p in command.params if str(p.envvar).endswith(("_URL", "_LOG_FILE"))}
    assert set(options) == {"--jaeger", "--loki", "--prometheus", "--grafana", "--log-file"}
    for name, option in options.items():
        assert f"| `{name}` | `{option.envvar}` | {option.default or 'unset'} |" in settings


def test_an_error_is_json_where_json_was_asked_for(live: ServiceAndHub, cli: typer.Typer) -> None:
    """A program need not read stderr."""
    nobody = f"http://127.0.0.1:{free_port()}"
    result = CliRunner().invoke(cli, [nobody, "--hub", live.hub.page_url, "--key", KEY, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"].startswith("no service answers at http://127.0.0.1:")


def test_an_error_is_one_clear_line(live: ServiceAndHub) -> None:
    """On stderr, with exit code 1 and without a traceback."""
    nobody = f"http://127.0.0.1:{free_port()}"
    done = run_modeltrace("doctor", nobody, "--hub", live.hub.page_url, "--key", KEY)
    assert done.returncode == 1
    assert done.stderr.startswith("modeltrace: no service answers at http://127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


def test_telemetry_that_goes_elsewhere_is_missed(live: ServiceAndHub, example: Path) -> None:
    """Nothing arrives; the exit code is 1, and stderr says what to look at first."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "MODELTRACE_FLUSH_TIMEOUT": "0"}
    with running_service(example, **env) as (_, url):
        done = run_modeltrace("doctor", url, "--hub", live.hub.page_url, "--key", KEY, "--timeout", "0.5")
    assert done.returncode == 1
    assert done.stdout.count("missing") == 7
    assert done.stderr.startswith("- nothing arrived: does the service's OTEL_EXPORTER_OTLP_ENDPOINT")
