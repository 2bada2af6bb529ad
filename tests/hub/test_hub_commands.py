"""The commands that read telemetry, against a running hub and against a database file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from click.testing import Result
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from typer.testing import CliRunner

from modeltrace_hub.__main__ import cli
from modeltrace_hub.errors import HubError, SettingsError
from tests.helpers.in_process_hubs import InProcessHub, in_process_hub
from tests.helpers.otlp_messages import attribute, log_request, metric_request, span, trace_request
from tests.helpers.otlp_values import key_values

TRACE_ID = "ab" * 16
LLM_CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 40,
    "gen_ai.usage.output_tokens": 2,
    "gen_ai.response.finish_reasons": ["stop"],
}
KEY = "a-key-of-twenty-characters"


def send(hub: InProcessHub, headers: dict[str, str] | None = None) -> None:
    """Send a trace of two spans, a log record and a metric."""
    root, child = bytes.fromhex("01" * 8), bytes.fromhex("02" * 8)
    start = 1_700_000_000 * 10**9
    ids = {"trace_id": bytes.fromhex(TRACE_ID)}
    spans = [
        span(
            **ids,
            span_id=root,
            name="request",
            start_time_unix_nano=start,
            end_time_unix_nano=start + 2_000_000,
            attributes=key_values(LLM_CALL),
        ),
        span(
            **ids,
            span_id=child,
            parent_span_id=root,
            name="evil \x1b[31m",
            start_time_unix_nano=start,
            end_time_unix_nano=start + 1_000_000,
            status=Status(code=Status.STATUS_CODE_ERROR, message="it failed"),
            attributes=[attribute("user", "u1")],
        ),
    ]
    record = LogRecord(time_unix_nano=start, **ids, severity_text="WARN", body=AnyValue(string_value="two\nlines"))
    headers = {"Content-Type": "application/x-protobuf", **(headers or {})}
    for path, request in (
        ("traces", trace_request(*spans)),
        ("logs", log_request(record)),
        ("metrics", metric_request()),
    ):
        hub.client.post(f"/v1/{path}", content=request.SerializeToString(), headers=headers).raise_for_status()


@pytest.fixture(scope="module", params=["hub", "database"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Yield the options that name a running hub, or the file of a hub that has stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELTRACE_HUB_SQL_TIMEOUT", "2m")
        yield from open_source(request.param, tmp_path_factory)


def open_source(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Yield the options of a source."""
    if kind == "hub":
        with in_process_hub() as hub:
            send(hub)
            yield ["--url", hub.page_url]
    else:
        folder = tmp_path_factory.mktemp("data")
        with in_process_hub(memory=False, data=folder) as hub:
            send(hub)
        yield ["--database", str(folder / "hub.duckdb")]


def run(*arguments: str, stdin: str | None = None) -> Result:
    """Run a command."""
    return CliRunner().invoke(cli, [*arguments], input=stdin)


def output(arguments: Sequence[str], source: Sequence[str]) -> str:
    """Return the output of a command that succeeds."""
    result = run(*arguments, *source)
    assert result.exit_code == 0, result.output or result.exception
    return result.output


def test_traces(source: list[str]) -> None:
    """The list has the trace; filters and JSON are those of the API."""
    text = output(["traces"], source)
    assert TRACE_ID in text
    assert "request" in text
    assert orjson.loads(output(["traces", "--json", "--error"], source))["traces"][0]["trace_id"] == TRACE_ID
    assert TRACE_ID in output(["traces", "--attr", "user=u1", "--name", "EVIL", "--service", "svc"], source)
    assert output(["traces", "--no-error"], source) == "No trace matches.\n"


def test_filter_lines(source: list[str]) -> None:
    """Each list has the filter line of the pages. Filters of the list of all metrics would have no effect."""
    assert TRACE_ID in output(["traces", "--filter", "service = svc name ~ EVIL user = u1"], source)
    assert output(["traces", "--filter", "service = other"], source) == "No trace matches.\n"
    assert "two" in output(["logs", "--filter", "text ~ TWO service = svc"], source)
    assert output(["logs", "--filter", "text ~ three"], source) == "No log record matches.\n"
    name = orjson.loads(output(["metrics", "--json"], source))["metrics"][0]["name"]
    assert "svc" in output(["metrics", name, "--filter", "service = svc"], source)
    assert output(["metrics", name, "--filter", "service = other"], source) == "No data point matches.\n"
    assert "Name the metric" in str(run("metrics", "--filter", "service = svc", *source).exception)


def test_trace(source: list[str]) -> None:
    """The tree shows parents above children, and control characters are escaped."""
    text = output(["trace", TRACE_ID.upper()], source)
    root, child = (next(line for line in text.splitlines() if name in line) for name in ("request", "evil"))
    assert root.endswith("  0101010101010101  request")
    assert child.endswith("  0202020202020202  └ evil \\x1b[31m  (it failed)")
    assert "\x1b" not in text
    assert "two\\nlines" in text
    assert orjson.loads(output(["trace", TRACE_ID, "--json"], source))["span_count"] == 2


def test_logs_and_metrics(source: list[str]) -> None:
    """Lists of records, of metrics and of points."""
    assert "two\\nlines" in output(["logs", "--text", "TWO", "--trace", TRACE_ID, "--severity", "warn"], source) or (
        "No log record" in output(["logs", "--severity", "warn"], source)
    )
    name = orjson.loads(output(["metrics", "--json"], source))["metrics"][0]["name"]
    assert name in output(["metrics"], source)
    assert "svc" in output(["metrics", name], source)


def test_series_services_and_llm_calls(source: list[str]) -> None:
    """A metric over time, the services, and the LLM calls are tables; JSON is that of the API."""
    name = orjson.loads(output(["metrics", "--json"], source))["metrics"][0]["name"]
    assert "TIME" in output(["series", name], source)
    assert orjson.loads(output(["series", name, "--json"], source))["name"] == name
    assert "No metric of this name" in str(run("series", "nothing", *source).exception)
    assert output(["services"], source).splitlines()[1].split()[:2] == ["svc", "1"]
    assert output(["services", "--until", "1970-01-02T00:00:00Z"], source) == "No spans have arrived in this time.\n"
    text = output(["llm-calls", "--filter", "tokens > 40"], source)
    assert text.splitlines()[1].split()[2:] == ["2", "ms", "gpt-4o", "chat", "40", "2", "stop", "svc", TRACE_ID]
    assert output(["llm-calls", "--model", "other"], source) == "No LLM call matches.\n"


def test_explain(source: list[str]) -> None:
    """The sizes of both sets are shown."""
    assert "1 selected traces against 0" in output(["explain", "select.error=true"], source)


@pytest.mark.slow
def test_sql(source: list[str]) -> None:
    """Rows as a table, as JSON, and as CSV; the query may come from standard input."""
    sql = "SELECT name, duration_ms FROM spans ORDER BY duration_ms DESC"
    assert output(["sql", sql], source).startswith("name           duration_ms\nrequest        2.0\n")
    assert orjson.loads(output(["sql", "--json", sql], source))["rows"][0] == ["request", 2.0]
    result = run("sql", "-", "--format", "csv", *source, stdin="SELECT 1 AS one")
    assert result.output == "one\n1\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace", "xyz"], "32"),
        (["trace", "cd" * 16], "Nothing is stored under this ID"),
        (["traces", "--since", "yesterday"], "since: a time is RFC 3339"),
        (["traces", "--attr", "nonsense"], "is not KEY=VALUE"),
        (["traces", "--filter", "duration >"], "filter: "),
        (["explain", "nonsense"], "is not NAME=VALUE"),
        (["sql", "DROP TABLE spans"], "read-only"),
    ],
)
def test_errors(source: list[str], arguments: list[str], message: str) -> None:
    """An error is a message, which `main` prints as one line with exit code 1 or 2."""
    result = run(*arguments, *source)
    assert isinstance(result.exception, HubError)
    assert message in str(result.exception)


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    """A hub that does not answer, an address that is none, and a file that is not there or in use."""
    for arguments, message in (
        (["--url", "http://127.0.0.1:9"], "No hub answers at http://127.0.0.1:9"),
        (["--url", "nonsense"], "is not the address of a hub"),
        (["--database", str(tmp_path)], "does not exist"),
        (["--key-file", str(tmp_path / "key")], "cannot be read"),
    ):
        assert message in str(run("traces", *arguments).exception)
    (tmp_path / "hub.duckdb").write_bytes(b"notes" * 5000)
    assert "is not a database" in str(run("traces", "--database", str(tmp_path)).exception)


def test_a_database_file_is_not_changed(tmp_path: Path) -> None:
    """Reading changes neither content nor permissions, also if the last hub did not merge its write-ahead log."""
    with in_process_hub(memory=False, data=tmp_path) as hub:
        send(hub)
        files = {name: (tmp_path / name).read_bytes() for name in ("hub.duckdb", "hub.duckdb.wal")}
    folder = tmp_path / "copy"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o444)

    assert TRACE_ID in run("traces", "--database", str(folder)).output

    assert {name: (folder / name).read_bytes() for name in files} == files
    assert {(folder / name).stat().st_mode & 0o777 for name in files} == {0o444}


def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, the error names the option and the variable."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    with in_process_hub(key=KEY) as hub:
        send(hub, {"Authorization": f"Bearer {KEY}"})
        refused = run("traces", "--url", hub.page_url)
        assert "MODELTRACE_HUB_KEY" in str(refused.exception)
        assert "--key-file" in str(refused.exception)
        assert TRACE_ID in run("traces", "--url", hub.page_url, "--key-file", str(file)).output
        monkeypatch.setenv("MODELTRACE_HUB_KEY", KEY)
        monkeypatch.setenv("MODELTRACE_HUB_URL", hub.page_url)
        assert TRACE_ID in run("traces").output
    assert KEY not in repr(run("traces").exception)


@pytest.mark.parametrize(
    "key", ["sekret-key\n0123456789", "sekret-key-\u00fc\u00fc\u00fc\u00fc", "sekret-key-\x1b[0m-01234"]
)
def test_a_key_that_no_header_can_carry_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The error names the variable and the option."""
    file = tmp_path / "key"
    file.write_text(key, encoding="utf-8")
    from_file = run("traces", "--key-file", str(file))
    monkeypatch.setenv("MODELTRACE_HUB_KEY", key)
    for result in (from_file, run("traces")):
        assert isinstance(result.exception, SettingsError)
        assert "MODELTRACE_HUB_KEY, or the file of --key-file," in str(result.exception)
        assert "sekret" not in str(result.exception) + result.output


def test_white_space_around_a_key_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable may have the newline of a file."""
    with in_process_hub(key=KEY) as hub:
        send(hub, {"Authorization": f"Bearer {KEY}"})
        monkeypatch.setenv("MODELTRACE_HUB_KEY", f"{KEY}\n")
        assert TRACE_ID in run("traces", "--url", hub.page_url).output


def test_options_of_the_hub_before_a_command_are_rejected() -> None:
    """An option of the hub would have no effect on a command, so it is an error."""
    assert "--port is an option of the hub" in str(run("--port", "1", "traces").exception)
