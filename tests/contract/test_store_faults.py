"""The prediction store under faults, with real processes: what was answered is there, once, or is told to be lost."""

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
from tests.helpers.postgres import Postgres
from tests.helpers.processes import free_port, running, wait_until
from tests.helpers.services import running_service
from tests.helpers.sidecars import counts_in_log, has_ended, kill_leftover, sidecars

pytestmark = pytest.mark.slow
Rows = list[dict[str, float]]

# What the store promises: so long after its answer a prediction is committed. Seconds.
COMMITTED = 0.2
STORE_LOST = "predictions for the store"
# A file that may grow no further, for the exporter process: smaller than the store's log by then, and larger than what
# it prints, which goes to a file as well.
FULL = 65_536
QUIET = {"MODELTRACE_SPOOL_MAX_BYTES": "0", "MODELTRACE_LOG_LEVEL": "WARNING"}


@pytest.fixture
def nowhere() -> str:
    """An endpoint that nobody listens on: telemetry waits, and nothing of it helps the store."""
    return f"http://127.0.0.1:{free_port()}"


def everything(url: str) -> list[StoredPrediction]:
    """All that a store has."""
    with open_store(url, create=False) as store:
        return [one for chunk in store.read() for one in chunk]


def stored(url: str) -> Counter[str]:
    """How often a store has each prediction."""
    return Counter(one.prediction_id for one in everything(url))


def wait_for_rows(url: str, number: int) -> None:
    """Return when a store has that many predictions: a stop that is not the matter must not cut them short."""
    with open_store(url, create=False) as store:
        wait_until(lambda: store.counts().predictions >= number, description=f"{number} rows")


@pytest.mark.extended
@pytest.mark.parametrize("instrumentation", ["sidecar", "sdk"])
def test_a_stop_leaves_every_prediction_in_the_store(
    bundle: Path, rows: Rows, nowhere: str, store_url: str, instrumentation: str
) -> None:
    """SIGTERM under load: each answered prediction is there once, with its inputs, its answer and its trace."""
    # The 2 s of the default are too few where other processes have the processors.
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

    found = {one.prediction_id: one for one in everything(store_url)}
    trace_ids = {answer.prediction_id: answer.trace_id for answer in load.answers}
    assert set(load.prediction_ids) <= set(found)
    assert {one: found[one].trace_id for one in trace_ids} == trace_ids
    assert all(one.inputs in rows and one.sampled and one.code_version for one in found.values())
    assert {one.label for one in found.values()} == {"benign", "malignant"}
    assert STORE_LOST not in log


@pytest.mark.extended
@pytest.mark.parametrize("env", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_SAMPLER": "always_off"}], ids=str)
def test_the_store_is_complete_whatever_is_sampled(
    bundle: Path, rows: Rows, nowhere: str, tmp_path: Path, env: dict[str, str]
) -> None:
    """Without traces and without telemetry at all; the row says that there is no trace to look for."""
    file = str(tmp_path / "s.db")
    with running_service(bundle, nowhere, MODELTRACE_STORE=file, **env) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(50)
        wait_for_rows(file, len(load.prediction_ids))
        service.stop(signal.SIGTERM)

    found = everything(file)
    assert {one.prediction_id for one in found} == set(load.prediction_ids)
    assert not any(one.sampled for one in found)
    assert {one.trace_id is None for one in found} == {"OTEL_SDK_DISABLED" in env}


@pytest.mark.parametrize(
    "both",
    [
        pytest.param(False, id="the service", marks=pytest.mark.extended),
        pytest.param(True, id="the service and its exporter process"),
    ],
)
def test_what_was_answered_a_moment_before_a_kill_is_stored(
    bundle: Path, rows: Rows, nowhere: str, store_url: str, both: bool
) -> None:
    """SIGKILL under load: every prediction answered more than 200 ms before it is there, exactly once."""
    with ExitStack() as stack:
        service, url = stack.enter_context(running_service(bundle, nowhere, MODELTRACE_STORE=store_url))
        with LoadClients(url, rows, pause=0.01) as load:
            load.wait_for_answers(200)
            time.sleep(1)
            (exporter,) = sidecars(service)
            stack.callback(kill_leftover, exporter)
            safe = list(load.prediction_ids)
            time.sleep(COMMITTED)
            for pid in (*([exporter] if both else []), service.popen.pid):
                os.kill(pid, signal.SIGKILL)
            service.popen.wait()
        wait_until(lambda: has_ended(exporter), description="the exporter process to end")

    found = stored(store_url)
    print(f"{len(load.prediction_ids)} answered, {len(set(load.prediction_ids) - set(found))} of the last not stored")  # noqa: T201
    assert set(safe) <= set(found)
    assert set(found.values()) == {1}


@pytest.mark.extended
def test_an_exporter_process_that_is_killed_costs_no_row(
    bundle: Path, rows: Rows, nowhere: str, store_url: str
) -> None:
    """SIGKILL again and again under load: what it had not committed is told to the next one; all is there, once."""
    kills = 3
    with running_service(bundle, nowhere, MODELTRACE_STORE=store_url) as (service, url):
        with LoadClients(url, rows, pause=0.01) as load:
            for _ in range(kills):
                load.wait_for_answers(150)
                time.sleep(1.5)
                (exporter,) = sidecars(service)
                os.kill(exporter, signal.SIGKILL)
                wait_until(lambda old=exporter: sidecars(service) not in ([], [old]), description="another one")  # type: ignore[misc]
            load.wait_for_answers(150)
        wait_for_rows(store_url, len(load.prediction_ids))
        service.stop(signal.SIGTERM)
        log = service.log

    assert load.rejected_statuses == []
    assert stored(store_url) == dict.fromkeys(load.prediction_ids, 1)
    assert log.count("the sidecar died") == kills
    assert STORE_LOST not in log


@pytest.mark.extended
def test_workers_share_a_store(bundle: Path, rows: Rows, nowhere: str, store_url: str) -> None:
    """Two workers: as many rows as answers."""
    with running_service(bundle, nowhere, "--workers", "2", MODELTRACE_STORE=store_url) as (service, url):
        service.wait_for_workers(2)
        with LoadClients(url, rows, clients=8, reconnect=True) as load:
            load.wait_for_answers(400)
        wait_for_rows(store_url, len(load.prediction_ids))
        service.stop(signal.SIGTERM)

    with open_store(store_url, create=False) as store:
        assert store.counts().predictions == len(load.prediction_ids)
    assert stored(store_url) == dict.fromkeys(load.prediction_ids, 1)


@pytest.mark.extended
def test_a_full_disk_loses_rows_and_no_answers(bundle: Path, rows: Rows, nowhere: str, tmp_path: Path) -> None:
    """The exporter process cannot write any more: predictions go on, and the stop says how many are not stored."""
    file = str(tmp_path / "s.db")
    with running_service(bundle, nowhere, MODELTRACE_STORE=file, **QUIET) as (service, url):
        (exporter,) = wait_until(lambda: sidecars(service), description="the exporter process")
        with LoadClients(url, rows, pause=0.01) as load:
            load.wait_for_answers(50)
            resource.prlimit(exporter, resource.RLIMIT_FSIZE, (FULL, FULL))
            load.wait_for_answers(150)
        service.stop(signal.SIGTERM)
        log = service.log

    found = stored(file)
    assert load.rejected_statuses == []
    assert "no prediction is stored for now" in log
    assert counts_in_log(log, "not delivered")[STORE_LOST] == len(load.prediction_ids) - len(found) > 0
    assert set(found) < set(load.prediction_ids)


@pytest.mark.extended
def test_a_disk_that_has_room_again_takes_what_waited(bundle: Path, rows: Rows, nowhere: str, tmp_path: Path) -> None:
    """Full for a while: nothing is lost."""
    file = str(tmp_path / "s.db")
    with running_service(bundle, nowhere, MODELTRACE_STORE=file, **QUIET) as (service, url):
        (exporter,) = wait_until(lambda: sidecars(service), description="the exporter process")
        with LoadClients(url, rows, pause=0.01) as load:
            load.wait_for_answers(50)
            _, hard = resource.prlimit(exporter, resource.RLIMIT_FSIZE)
            resource.prlimit(exporter, resource.RLIMIT_FSIZE, (FULL, hard))
            wait_until(lambda: "no prediction is stored for now" in service.log, description="the disk to be full")
            resource.prlimit(exporter, resource.RLIMIT_FSIZE, (hard, hard))
            wait_until(lambda: "predictions are stored again" in service.log, description="room")
        wait_for_rows(file, len(load.prediction_ids))
        service.stop(signal.SIGTERM)
        log = service.log

    assert stored(file) == dict.fromkeys(load.prediction_ids, 1)
    assert STORE_LOST not in log


@pytest.mark.extended
def test_a_database_that_is_away_for_a_while_costs_no_row(
    bundle: Path, rows: Rows, nowhere: str, postgres: Postgres
) -> None:
    """PostgreSQL crashes and comes back: predictions go on, and all of them are there, once."""
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
    assert stored(location) == dict.fromkeys(load.prediction_ids, 1)
    assert STORE_LOST not in log
    assert postgres.password not in log


@pytest.mark.extended
def test_a_batch_of_10_000_rows_is_stored(bundle: Path, rows: Rows, nowhere: str, store_url: str) -> None:
    """Each row of it, in its place, under one trace."""
    body = {"rows": [rows[number % len(rows)] for number in range(10_000)]}
    with running_service(bundle, nowhere, MODELTRACE_STORE=store_url) as (service, url):
        answer = httpx.post(f"{url}/predict/batch", json=body, timeout=60).raise_for_status().json()
        wait_until(lambda: len(everything(store_url)) == 10_000, description="every row")
        service.stop(signal.SIGTERM)

    found = {one.prediction_id: one for one in everything(store_url)}
    assert [found[one["prediction_id"]].row for one in answer["predictions"]] == list(range(10_000))
    assert {one.trace_id for one in found.values()} == {answer["trace_id"]}


@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_cannot_be_opened_ends_the_start(
    bundle: Path, postgres: Postgres, tmp_path: Path, workers: int
) -> None:
    """The log says why and names the setting, and repeats no password."""
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
def test_what_is_stored_and_lost_is_a_metric(bundle: Path, rows: Rows, nowhere: str, tmp_path: Path) -> None:
    """`modeltrace.store.rows`, by outcome, on /metrics too."""
    with running_service(bundle, nowhere, MODELTRACE_STORE=str(tmp_path / "s.db")) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(20)
        wanted = (
            rf'modeltrace_store_rows_total{{[^}}]*modeltrace_outcome="stored"[^}}]*}} {len(load.prediction_ids)}.0\n'
        )
        wait_until(lambda: re.search(wanted, httpx.get(f"{url}/metrics").text), description=wanted)
        service.stop(signal.SIGTERM)


@pytest.mark.extended
def test_without_a_store_nothing_is_kept(bundle: Path, rows: Rows, nowhere: str, tmp_path: Path) -> None:
    """`none`: no file, no metric, and no loss."""
    with running_service(bundle, nowhere, MODELTRACE_STORE="none", XDG_DATA_HOME=str(tmp_path)) as (service, url):
        with LoadClients(url, rows) as load:
            load.wait_for_answers(20)
        assert "modeltrace_store" not in httpx.get(f"{url}/metrics").text
        service.stop(signal.SIGTERM)
        log = service.log

    assert not list(tmp_path.rglob("*.db*"))
    assert STORE_LOST not in log
