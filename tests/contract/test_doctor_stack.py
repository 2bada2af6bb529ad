"""The command line with a real stack: `up --stack` sends telemetry to it, and the doctor finds it there."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from modeltrace.doctor.backends import stack as stack_backend
from modeltrace.doctor.backends.backend import UnresolvedExemplars
from modeltrace.doctor.backends.prometheus import PREDICTION_METRICS, Prometheus
from modeltrace.doctor.backends.stack import StackAddresses, StackBackend
from stack.layout import ROOT
from tests.helpers.backends import RealStack
from tests.helpers.log_stores import FileLogs
from tests.helpers.processes import free_port, running, wait_until
from tests.helpers.services import run_modeltrace, running_service
from tests.helpers.stack import StackUnderTest, running_stack

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def addresses(stack: RealStack) -> dict[str, str]:
    """Return the variables with the addresses of this stack."""
    logs = stack.log_store
    return {
        "MODELTRACE_JAEGER_URL": stack.jaeger,
        "MODELTRACE_PROMETHEUS_URL": stack.prometheus,
        **(
            {"MODELTRACE_STACK_LOG_FILE": str(logs.path)}
            if isinstance(logs, FileLogs)
            else {"MODELTRACE_LOKI_URL": stack.loki.url}
        ),
    }


@pytest.fixture(scope="module")
def url(bundle: Path, real_stack: RealStack) -> Iterator[str]:
    """The URL of a service that sends telemetry to the stack."""
    with running_service(bundle, real_stack.otlp_url) as (_, url):
        yield url


def test_everything_arrives_and_the_links_work(url: str, real_stack: RealStack) -> None:
    """All items arrive, and the content of each link contains the trace ID."""
    done = run_modeltrace("doctor", url, "--backend", "stack", "--json", **addresses(real_stack))
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"]
    assert len(result["items"]) == 7
    assert all(item["arrived_ms"] > 0 for item in result["items"])
    assert [link["name"] for link in result["links"]] == ["trace", "logs", "exemplars"]
    for link in result["links"]:
        # These builds of Jaeger and Prometheus have no web pages, so the links lead to JSON.
        assert result["trace_id"] in content(link["url"])
    (query,) = (link["query"] for link in result["links"] if link["query"])
    assert count_records(query, real_stack) == 2


def content(url: str) -> str:
    """Return the content of a link to a file or a server."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(parts.path).read_text()
    return httpx.get(url, timeout=10).raise_for_status().text


def count_records(query: str, stack: RealStack) -> int:
    """Count the records that a query finds: LogQL, or a command for the file."""
    if isinstance(stack.log_store, FileLogs):
        return len(subprocess.check_output(["sh", "-c", query], text=True).splitlines())
    return len(stack.loki.query(query))


def test_table_lists_items_and_links(url: str, real_stack: RealStack) -> None:
    """Each of the three components has a link, and Loki or the file has a query."""
    done = run_modeltrace("doctor", url, "--backend", "stack", **addresses(real_stack))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[-1] for line in lines[2:9]] == ["ms"] * 7
    trace_id = lines[0].rpartition(" ")[2]
    assert lines[9] == f"trace      {real_stack.jaeger}/api/v3/traces/{trace_id}"
    if isinstance(real_stack.log_store, FileLogs):
        assert lines[10] == f"logs       {real_stack.log_store.path.as_uri()}"
        assert lines[11].strip().startswith("jq -c ")
        assert trace_id in lines[11]
    else:
        assert lines[10].startswith(f"logs       {real_stack.loki.url}/loki/api/v1/query_range?query=")
        assert lines[11].strip() == f'{{service_name=~".+"}} | trace_id="{trace_id}"'
    assert lines[12].startswith(f"exemplars  {real_stack.prometheus}/api/v1/query_exemplars?query=")


def test_missing_spans_are_explained(bundle: Path, real_stack: RealStack) -> None:
    """The advice names the service's setting and the Collector's queue."""
    with running_service(bundle, real_stack.otlp_url, OTEL_TRACES_EXPORTER="none") as (_, url):
        done = run_modeltrace("doctor", url, "--backend", "stack", "--timeout", "8", **addresses(real_stack))
    assert done.returncode == 1
    assert done.stdout.count("missing") == 4
    first, second = done.stderr.splitlines()
    assert "Is OTEL_TRACES_EXPORTER none?" in first
    assert "the Collector has an empty queue for Jaeger" in second or "in the Collector for Jaeger" in second


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_up_sends_to_the_stack(bundle: Path, real_stack: RealStack, tmp_path: Path, protocol: str) -> None:
    """Service and traffic are started without a hub, and share traces in Jaeger."""
    port = free_port()
    env = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": real_stack.grpc_url if protocol == "grpc" else real_stack.otlp_url,
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        **addresses(real_stack),
    }
    with running(["modeltrace", "up", str(bundle), "--stack", "--traffic", "--port", str(port)], env=env) as process:
        wait_until(lambda: " · last trace " in process.log or process.popen.poll() is not None, description="traffic")
        assert f"  telemetry  {real_stack.jaeger}/api/traces?service=modeltrace" in process.log
        trace_id = process.log.rpartition(" · last trace ")[2].split()[0].rpartition("/")[2]

        def has_both_spans() -> bool:
            return {"CLIENT", "SERVER"} <= {span["kind"] for span in real_stack.spans(trace_id)}

        wait_until(has_both_spans, description="both sides of a request of the traffic in Jaeger")
        assert not (tmp_path / "state" / "modeltrace" / "log" / "hub.log").exists()
        assert process.stop() == 0


@pytest.fixture(scope="module")
def sampling() -> Iterator[StackUnderTest]:
    """A stack that samples no ordinary traces."""
    environment = {"OTELCOL_SAMPLING_PERCENTAGE": "0", "OTELCOL_SAMPLING_WAIT": "1s"}
    with running_stack(collector_configs=[ROOT / "otel" / "sampling.yaml"], environment=environment) as stack:
        yield stack


def test_exemplars_of_unsampled_traces_are_counted(
    bundle: Path, sampling: StackUnderTest, rows: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exemplars are stored although their traces are not sampled, and the doctor counts them."""
    monkeypatch.setattr(stack_backend, "SETTLE_SECONDS", 0)
    address = sampling.layout.address
    addresses = StackAddresses(
        jaeger=f"http://{address('jaeger', 'query')}",
        prometheus=f"http://{address('prometheus', 'http')}",
        log_file=sampling.layout.log_record_file,
    )

    async def exemplar_trace_ids() -> set[str]:
        async with httpx.AsyncClient() as client:
            return {
                exemplar.trace_id
                for exemplar in await Prometheus(addresses.prometheus, client).exemplars(PREDICTION_METRICS)
            }

    async def unresolved_exemplars() -> UnresolvedExemplars | None:
        async with httpx.AsyncClient() as client:
            return await StackBackend(client, addresses).unresolved_exemplars()

    with running_service(bundle, f"http://{address('otelcol', 'http')}") as (_, url):
        confident = next(
            prediction
            for row in rows
            if (prediction := httpx.post(f"{url}/predict", json={"features": row}).json())["confidence"] > 0.9
        )
        wait_until(lambda: confident["trace_id"] in asyncio.run(exemplar_trace_ids()), description="the exemplar")
    unresolved = asyncio.run(unresolved_exemplars())
    assert unresolved is not None
    assert 1 <= unresolved.traces_missing <= unresolved.traces_checked


def test_component_that_does_not_answer_is_named(sampling: StackUnderTest) -> None:
    """Only that component is named, and no prediction is sent."""
    address, file = sampling.layout.address, sampling.layout.log_record_file
    sampling.stop("jaeger")
    logs = ("--log-file", str(file)) if file else ("--loki", address("loki", "http"))
    parts = ("--jaeger", address("jaeger", "query"), "--prometheus", address("prometheus", "http"))
    done = run_modeltrace("doctor", "http://127.0.0.1:1", "--backend", "stack", *parts, *logs)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"modeltrace: no Jaeger answers at http://{address('jaeger', 'query')}: ")
    assert line.endswith("(--jaeger). Start what is missing: ./dev stack up")


@pytest.mark.parametrize("named", [True, False])
def test_file_without_a_collector_is_an_error(real_stack: RealStack, tmp_path: Path, *, named: bool) -> None:
    """The error names the file and its option; without a file and without Loki, Loki's address."""
    file = tmp_path / "nowhere" / "records.jsonl"
    parts = ("--jaeger", real_stack.jaeger, "--prometheus", real_stack.prometheus)
    loki = f"http://127.0.0.1:{free_port()}"
    options = ("--log-file", str(file)) if named else ("--loki", loki)
    done = run_modeltrace("doctor", "http://127.0.0.1:1", "--backend", "stack", *parts, *options)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    expected = f"no Collector writes log records to {file} (--log-file)" if named else f"no Loki answers at {loki}: "
    assert line.startswith(f"modeltrace: {expected}")
