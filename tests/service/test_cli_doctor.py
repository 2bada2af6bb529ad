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
    """A service with the example, and a hub with a key."""
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
        "POST /predict", "validate", "features", "inference", "ml.prediction", "access log", "any metric",
    }  # fmt: skip
    assert all(item["arrived_ms"] > 0 for item in result["items"])


def test_table_lists_the_items_and_a_link(live: ServiceAndHub) -> None:
    """The table has one line per item with its milliseconds, followed by the link."""
    done = run_modeltrace("doctor", live.service.url, "--hub", live.hub.page_url, "--hub-key", KEY)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("breast-cancer 1.0.0 · one prediction, trace ")
    assert [line.split()[-1] for line in lines[2:9]] == ["ms"] * 7
    assert lines[9].startswith(f"trace  {live.hub.page_url}/t/")


def test_everything_arrives_with_200_other_requests_per_second(live: ServiceAndHub) -> None:
    """The exemplar of the prediction is kept because the request is pinned."""
    arguments = ["modeltrace", "traffic", live.service.url, "--rate", "200", "--interval", "100ms"]
    with running(arguments, env={"OTEL_SDK_DISABLED": "true"}) as traffic:
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


def test_hub_with_another_key_is_reported(live: ServiceAndHub, cli: typer.Typer) -> None:
    """The message names the setting for the key."""
    result = CliRunner().invoke(cli, [live.service.url, "--hub", live.hub.page_url, "--hub-key", "another"])
    assert result.exit_code == 1
    assert "requires its key: set MODELTRACE_HUB_KEY" in str(result.exception)


def test_a_key_that_no_header_can_carry_is_not_printed(cli: typer.Typer) -> None:
    """The error names the variable."""
    result = CliRunner().invoke(cli, [f"http://127.0.0.1:{free_port()}", "--hub-key", "sekret\n0123456789"])
    assert str(result.exception).startswith("MODELTRACE_HUB_KEY has a key with characters")
    assert "sekret" not in str(result.exception) + result.output


def test_missing_hub_is_reported(live: ServiceAndHub, cli: typer.Typer) -> None:
    """The message says that the hub, not the service, does not answer."""
    result = CliRunner().invoke(cli, [live.service.url, "--hub", f"http://127.0.0.1:{free_port()}"])
    assert result.exit_code == 1
    assert str(result.exception).startswith("no hub answers at http://127.0.0.1:")


def test_server_that_is_not_a_hub_is_reported(live: ServiceAndHub, cli: typer.Typer) -> None:
    """The error occurs before the prediction is sent, not after the timeout."""
    result = CliRunner().invoke(cli, [live.service.url, "--hub", live.service.url])
    assert result.exit_code == 1
    assert "is not a hub that can be queried; it answers 404" in str(result.exception)


def test_missing_stack_is_reported_in_one_line(live: ServiceAndHub) -> None:
    """The line names each component and the command that starts them; variables set their addresses."""
    urls = {f"MODELTRACE_{component}_URL": f"127.0.0.1:{free_port()}" for component in ("JAEGER", "LOKI", "PROMETHEUS")}
    done = run_modeltrace("doctor", live.service.url, "--backend", "stack", **urls)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert all(f"answers at http://{url}:" in line for url in urls.values())
    assert line.endswith("Start what is missing: ./dev stack up")


def test_addresses_of_the_stack_are_documented(cli: typer.Typer) -> None:
    """docs/settings.md has a row for each option with its variable and its default."""
    settings = (ROOT / "docs" / "settings.md").read_text()
    command = typer.main.get_command(cli)
    options = {p.opts[0]: p for p in command.params if str(p.envvar).endswith(("_URL", "_LOG_FILE"))}
    assert set(options) == {"--jaeger", "--loki", "--prometheus", "--grafana", "--log-file"}
    for name, option in options.items():
        assert f"| `{name}` | `{option.envvar}` | {option.default or 'unset'} |" in settings


def test_error_is_json_with_json_option(live: ServiceAndHub, cli: typer.Typer) -> None:
    """With --json, an error is printed as JSON on stdout."""
    missing_url = f"http://127.0.0.1:{free_port()}"
    result = CliRunner().invoke(cli, [missing_url, "--hub", live.hub.page_url, "--hub-key", KEY, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"].startswith("no service answers at http://127.0.0.1:")


def test_error_is_one_line(live: ServiceAndHub) -> None:
    """An error is one line on stderr without a traceback, and the exit code is 1."""
    missing_url = f"http://127.0.0.1:{free_port()}"
    done = run_modeltrace("doctor", missing_url, "--hub", live.hub.page_url, "--hub-key", KEY)
    assert done.returncode == 1
    assert done.stderr.startswith("modeltrace: no service answers at http://127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


def test_telemetry_sent_elsewhere_is_missing(live: ServiceAndHub, example: Path) -> None:
    """If nothing arrives, the exit code is 1, and stderr says what to check first."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "MODELTRACE_FLUSH_TIMEOUT": "0"}
    with running_service(example, **env) as (_, url):
        done = run_modeltrace("doctor", url, "--hub", live.hub.page_url, "--hub-key", KEY, "--timeout", "0.5")
    assert done.returncode == 1
    assert done.stdout.count("missing") == 7
    assert done.stderr.startswith("- nothing arrived: does OTEL_EXPORTER_OTLP_ENDPOINT of the service")
