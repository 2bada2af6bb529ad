"""The prediction store under faults, with real processes: each prediction is stored once, or counted as lost."""

import os
import re
import resource
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from modeltrace.store.rows import StoredPrediction
from modeltrace.store.store import open_store
from tests.helpers.load import LoadClients
from tests.helpers.postgres import Postgres, failover_url, running_postgres, running_standby
from tests.helpers.processes import free_port, running, wait_until
from tests.helpers.services import running_service
from tests.helpers.sidecars import counts_in_log, has_ended, kill_leftover, sidecars

pytestmark = pytest.mark.slow
Rows = list[dict[str, float]]

STORE_LOST = "predictions for the store"
# The maximum file size for the sidecar on a "full disk": smaller than the store's write-ahead log by then, and larger
# than the sidecar's output, which is also written to a file.
FULL_DISK_BYTES = 65_536
QUIET = {"MODELTRACE_SPOOL_MAX_BYTES": "0", "MODELTRACE_LOG_LEVEL": "WARNING"}


@pytest.fixture
def nowhere() -> str:
    """An endpoint without a listener, so that the export of telemetry does not influence the store."""
    return f"http://127.0.0.1:{free_port()}"


def read_all(url: str) -> list[StoredPrediction]:
    """Return all predictions of a store."""
    with open_store(url, create=False) as store:
        return [row for page in store.read() for row in page]


def row_counts(url: str) -> Counter[str]:
    """Return how often a store has each prediction."""
    return Counter(row.prediction_id for row in read_all(url))


def wait_for_rows(url: str, number: int) -> None:
    """Wait until a store has that many predictions, so that a shutdown cannot lose them."""
    with open_store(url, create=False) as store:
        wait_until(lambda: store.counts().predictions >= number, description=f"{number} rows")


@pytest.mark.extended
@pytest.mark.parametrize("instrumentation", ["sidecar", "sdk"])
def test_a_shutdown_stores_every_prediction(
    bundle: Path, rows: Rows, nowhere: str, store_url: str, instrumentation: str
) -> None:
    """After SIGTERM under load each prediction is stored once, with its inputs, label and trace."""
    # The default of 2 s is too short on a busy machine.
    env = {
        "MODELTRACE_FLUSH_TIMEOUT": "8",
        "MODELTRACE_INSTRUMENTATION": instrumentation,
        "MODELTRACE_STORE": store_url,
    }
    with running_service(bundle, nowhere, **env) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(300)
            service.stop(signal.SIGTERM)
        log = service.log

    by_id = {row.prediction_id: row for row in read_all(store_url)}
    trace_ids = {response.prediction_id: response.trace_id for response in load.answers}
    assert set(load.prediction_ids) <= set(by_id)
    assert {prediction_id: by_id[prediction_id].trace_id for prediction_id in trace_ids} == trace_ids
    assert all(row.inputs in rows and row.sampled and row.code_version for row in by_id.values())
    assert {row.label for row in by_id.values()} == {"benign", "malignant"}
    assert STORE_LOST not in log


@pytest.mark.extended
@pytest.mark.parametrize("env", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_SAMPLER": "always_off"}], ids=str)
def test_the_store_is_complete_without_sampled_traces(
    bundle: Path, rows: Rows, nowhere: str, tmp_path: Path, env: dict[str, str]
) -> None:
    """This holds without sampled traces and without telemetry; a row says that its trace was not sampled."""
    file = str(tmp_path / "s.db")
    with running_service(bundle, nowhere, MODELTRACE_STORE=file, **env) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(50)
        wait_for_rows(file, len(load.prediction_ids))
        service.stop(signal.SIGTERM)

    predictions = read_all(file)
    assert {row.prediction_id for row in predictions} == set(load.prediction_ids)
    assert not any(row.sampled for row in predictions)
    assert {row.trace_id is None for row in predictions} == {"OTEL_SDK_DISABLED" in env}


@pytest.mark.parametrize(
    "kill_both",
    [
        pytest.param(False, id="the service", marks=pytest.mark.extended),
        pytest.param(True, id="the service and its sidecar"),
    ],
)
def test_predictions_committed_before_a_kill_are_stored(
    bundle: Path, rows: Rows, nowhere: str, store_url: str, kill_both: bool
) -> None:
    """Predictions are committed while the service works. After SIGKILL each of them is stored exactly once."""
    with ExitStack() as stack:
        service, url = stack.enter_context(running_service(bundle, nowhere, MODELTRACE_STORE=store_url))
        with LoadClients(url, rows, pause=0.01) as load:
            load.wait_for_answers(200)
            (sidecar,) = sidecars(service)
            stack.callback(kill_leftover, sidecar)
            answered = set(load.prediction_ids)
            wait_until(lambda: answered <= set(row_counts(store_url)), description="the commit of these predictions")
            for pid in (*([sidecar] if kill_both else []), service.popen.pid):
                os.kill(pid, signal.SIGKILL)
            service.popen.wait()
        wait_until(lambda: has_ended(sidecar), description="the sidecar to end")

    counts = row_counts(store_url)
    lost = set(load.prediction_ids) - set(counts)
    print(f"{len(load.prediction_ids)} predictions, {len(lost)} of the last not stored")  # noqa: T201  for the reader
    assert answered <= set(counts)
    assert set(counts.values()) == {1}


@pytest.mark.extended
def test_a_killed_sidecar_loses_no_row(bundle: Path, rows: Rows, nowhere: str, store_url: str) -> None:
    """After repeated SIGKILL under load the next sidecar gets the uncommitted rows, and each row is stored once."""
    kills = 3
    with running_service(bundle, nowhere, MODELTRACE_STORE=store_url) as (service, url):
        with LoadClients(url, rows, pause=0.01) as load:
            for _ in range(kills):
                load.wait_for_answers(150)
                time.sleep(1.5)
                (sidecar,) = sidecars(service)
                os.kill(sidecar, signal.SIGKILL)
                wait_until(lambda old=sidecar: sidecars(service) not in ([], [old]), description="another sidecar")  # type: ignore[misc]
            load.wait_for_answers(150)
        wait_for_rows(store_url, len(load.prediction_ids))
        service.stop(signal.SIGTERM)
        log = service.log

    assert load.rejected_statuses == []
    assert row_counts(store_url) == dict.fromkeys(load.prediction_ids, 1)
    assert log.count("the sidecar died") == kills
    assert STORE_LOST not in log


@pytest.mark.extended
def test_workers_share_a_store(bundle: Path, rows: Rows, nowhere: str, store_url: str) -> None:
    """Two workers store as many rows as there are predictions."""
    with running_service(bundle, nowhere, "--workers", "2", MODELTRACE_STORE=store_url) as (service, url):
        service.wait_for_workers(2)
        with LoadClients(url, rows, clients=8, reconnect=True) as load:
            load.wait_for_answers(400)
        wait_for_rows(store_url, len(load.prediction_ids))
        service.stop(signal.SIGTERM)

    with open_store(store_url, create=False) as store:
        assert store.counts().predictions == len(load.prediction_ids)
    assert row_counts(store_url) == dict.fromkeys(load.prediction_ids, 1)


@pytest.mark.extended
def test_a_full_disk_loses_rows_but_no_responses(bundle: Path, rows: Rows, nowhere: str, tmp_path: Path) -> None:
    """Predictions continue when the sidecar cannot write; the shutdown logs the number of lost rows."""
    file = str(tmp_path / "s.db")
    with running_service(bundle, nowhere, MODELTRACE_STORE=file, **QUIET) as (service, url):
        (sidecar,) = wait_until(lambda: sidecars(service), description="the sidecar")
        with LoadClients(url, rows, pause=0.01) as load:
            load.wait_for_answers(50)
            resource.prlimit(sidecar, resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, FULL_DISK_BYTES))
            load.wait_for_answers(150)
        service.stop(signal.SIGTERM)
        log = service.log

    counts = row_counts(file)
    assert load.rejected_statuses == []
    assert "no prediction is stored for now" in log
    assert counts_in_log(log, "not delivered")[STORE_LOST] == len(load.prediction_ids) - len(counts) > 0
    assert set(counts) < set(load.prediction_ids)


@pytest.mark.extended
def test_queued_rows_are_stored_once_the_disk_has_space(bundle: Path, rows: Rows, nowhere: str, tmp_path: Path) -> None:
    """A temporarily full disk loses no row."""
    file = str(tmp_path / "s.db")
    with running_service(bundle, nowhere, MODELTRACE_STORE=file, **QUIET) as (service, url):
        (sidecar,) = wait_until(lambda: sidecars(service), description="the sidecar")
        with LoadClients(url, rows, pause=0.01) as load:
            load.wait_for_answers(50)
            _, hard = resource.prlimit(sidecar, resource.RLIMIT_FSIZE)
            resource.prlimit(sidecar, resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, hard))
            wait_until(lambda: "no prediction is stored for now" in service.log, description="the disk to be full")
            resource.prlimit(sidecar, resource.RLIMIT_FSIZE, (hard, hard))
            wait_until(lambda: "predictions are stored again" in service.log, description="free space")
        wait_for_rows(file, len(load.prediction_ids))
        service.stop(signal.SIGTERM)
        log = service.log

    assert row_counts(file) == dict.fromkeys(load.prediction_ids, 1)
    assert STORE_LOST not in log


@pytest.mark.extended
def test_a_temporarily_unavailable_database_loses_no_row(
    bundle: Path, rows: Rows, nowhere: str, postgres: Postgres
) -> None:
    """PostgreSQL crashes and restarts: predictions continue, and each one is stored once."""
    location = postgres.url(postgres.create_database())
    with running_service(bundle, nowhere, MODELTRACE_STORE=location) as (service, url):
        with LoadClients(url, rows, pause=0.01) as load:
            load.wait_for_answers(100)
            postgres.stop()
            load.wait_for_answers(200)
            postgres.start()
            load.wait_for_answers(50)
            wait_until(lambda: "predictions are stored again" in service.log, description="the store to be back")
        wait_for_rows(location, len(load.prediction_ids))
        service.stop(signal.SIGTERM)
        log = service.log

    assert load.rejected_statuses == []
    assert row_counts(location) == dict.fromkeys(load.prediction_ids, 1)
    assert STORE_LOST not in log
    assert postgres.password not in log


@pytest.mark.extended
def test_a_failover_under_load_loses_no_row(bundle: Path, rows: Rows, nowhere: str) -> None:
    """The primary crashes and its synchronous standby takes over: each answered prediction is there once."""
    with running_postgres() as primary, ExitStack() as stack:
        database = primary.create_database()
        standby = stack.enter_context(running_standby(primary))
        location = failover_url(primary, standby, database)
        with running_service(bundle, nowhere, MODELTRACE_STORE=location) as (service, url):
            with LoadClients(url, rows, pause=0.01) as load:
                load.wait_for_answers(100)
                primary.stop()
                load.wait_for_answers(200)
                standby.promote()
                load.wait_for_answers(50)
                wait_until(lambda: "predictions are stored again" in service.log, description="the store to be back")
            wait_for_rows(location, len(load.prediction_ids))
            service.stop(signal.SIGTERM)
            log = service.log

        assert load.rejected_statuses == []
        assert row_counts(standby.url(database)) == dict.fromkeys(load.prediction_ids, 1)
        assert STORE_LOST not in log
        assert primary.password not in log


@pytest.mark.extended
def test_a_batch_of_10_000_rows_is_stored(bundle: Path, rows: Rows, nowhere: str, store_url: str) -> None:
    """Each row is stored with its index and the same trace ID."""
    body = {"rows": [rows[number % len(rows)] for number in range(10_000)]}
    with running_service(bundle, nowhere, MODELTRACE_STORE=store_url) as (service, url):
        response = httpx.post(f"{url}/predict/batch", json=body, timeout=60).raise_for_status().json()
        wait_until(lambda: len(read_all(store_url)) == 10_000, description="every row")
        service.stop(signal.SIGTERM)

    by_id = {row.prediction_id: row for row in read_all(store_url)}
    assert [by_id[row["prediction_id"]].row for row in response["predictions"]] == list(range(10_000))
    assert {row.trace_id for row in by_id.values()} == {response["trace_id"]}


@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_cannot_be_opened_prevents_startup(
    bundle: Path, postgres: Postgres, tmp_path: Path, workers: int
) -> None:
    """The log has the reason and the setting, and no password."""
    (tmp_path / "file").touch()
    for location in (str(tmp_path / "file" / "s.db"), postgres.url("postgres", "hunter2"), "mysql://u:hunter2@h/d"):
        arguments = ["modeltrace", "serve", str(bundle), "--port", str(free_port()), "--workers", str(workers)]
        with running(arguments, env={"MODELTRACE_STORE": location}) as service:
            code = service.popen.wait(60)
            log = service.log

        assert code != 0
        assert "MODELTRACE_STORE" in log
        assert "Traceback" not in log
        assert "hunter2" not in log


@pytest.mark.extended
def test_stored_rows_are_counted_by_a_metric(bundle: Path, rows: Rows, nowhere: str, tmp_path: Path) -> None:
    """`modeltrace.store.rows` by outcome is on /metrics."""
    with running_service(bundle, nowhere, MODELTRACE_STORE=str(tmp_path / "s.db")) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(20)
        pattern = (
            rf'modeltrace_store_rows_total{{[^}}]*modeltrace_outcome="stored"[^}}]*}} {len(load.prediction_ids)}.0\n'
        )
        wait_until(lambda: re.search(pattern, httpx.get(f"{url}/metrics").text), description=pattern)
        service.stop(signal.SIGTERM)


@pytest.mark.extended
def test_without_a_store_no_prediction_is_stored(bundle: Path, rows: Rows, nowhere: str, tmp_path: Path) -> None:
    """With `none` there is no file, no metric and no loss."""
    with running_service(bundle, nowhere, MODELTRACE_STORE="none", XDG_DATA_HOME=str(tmp_path)) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(20)
        assert "modeltrace_store" not in httpx.get(f"{url}/metrics").text
        service.stop(signal.SIGTERM)
        log = service.log

    assert not list(tmp_path.rglob("*.db*"))
    assert STORE_LOST not in log
