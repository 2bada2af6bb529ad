"""A challenger in another service: one trace contains the spans of both services, and counts are by version."""

import re
import secrets
import signal
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from modeltrace.bundles.manifest import MANIFEST_FILE
from modeltrace.store.store import open_store
from tests.helpers.hubs import HubProcess, latest_values
from tests.helpers.processes import Process, free_port, running, wait_until
from tests.helpers.services import otlp_environment, running_service

pytestmark = [pytest.mark.slow, pytest.mark.extended]
Rows = list[dict[str, float]]


@pytest.fixture
def later(bundle: Path, tmp_path: Path) -> Path:
    """The same model with a later version."""
    copy = tmp_path / "later"
    copy.mkdir()
    for file in bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    manifest = copy / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"version": "1.0.0"', '"version": "2.0.0"', 1))
    return copy


def predictions(hub: HubProcess, service: str) -> Counter[str]:
    """Return the number of predictions of each version, summed over all workers."""
    counts: Counter[str] = Counter()
    for (_, *attributes), value in latest_values(hub, "ml.predictions", service).items():
        counts[dict(attributes)["ml.model.version"]] += int(value)
    return counts


def test_one_trace_across_both_services(bundle: Path, later: Path, hub: HubProcess, rows: Rows, tmp_path: Path) -> None:
    """The challenger's SERVER span is a child of the primary's `shadow` span; the store has both predictions."""
    name, store = f"primary-{secrets.token_hex(4)}", tmp_path / "both.db"
    with (
        running_service(later, hub.otlp_url, OTEL_SERVICE_NAME="challenger", MODELTRACE_STORE=str(store)) as (
            _,
            challenger,
        ),
        running_service(
            bundle, hub.otlp_url, OTEL_SERVICE_NAME=name, MODELTRACE_STORE=str(store), MODELTRACE_CHALLENGER=challenger
        ) as (_, url),
    ):
        answer = httpx.post(f"{url}/predict", json={"features": rows[0]}, timeout=30).json()
        assert answer["model"]["version"] == "1.0.0"

        def spans_of_both() -> dict[tuple[str, str], dict[str, object]] | None:
            spans = {(span["service_name"], span["name"]): span for span in hub.trace(answer["trace_id"])["spans"]}
            return spans if {(name, "shadow"), ("challenger", "POST /predict")} <= spans.keys() else None

        spans = wait_until(spans_of_both, description="spans of both services")
        assert spans["challenger", "POST /predict"]["parent_span_id"] == spans[name, "shadow"]["span_id"]
        assert spans[name, "shadow"]["parent_span_id"] == spans[name, "POST /predict"]["span_id"]
        assert ("challenger", "inference") in spans
        wait_until(lambda: predictions(hub, name) == {"1.0.0": 1}, description="the primary's count")
        wait_until(lambda: predictions(hub, "challenger")["2.0.0"] == 1, description="the challenger's count")
    with open_store(str(store)) as opened:
        stored = {row.model_version: row for chunk in opened.read() for row in chunk}
    assert set(stored) == {"1.0.0", "2.0.0"}
    assert stored["2.0.0"].shadow_of == answer["prediction_id"]


@pytest.mark.parametrize("workers", [1, 2])
def test_counts_by_version_are_exact(bundle: Path, later: Path, hub: HubProcess, rows: Rows, workers: int) -> None:
    """A challenger in the same process predicts each of 60 rows, whichever worker answers; one trace has both calls."""
    name = f"in-process-{secrets.token_hex(4)}"
    env = {"OTEL_SERVICE_NAME": name, "MODELTRACE_CHALLENGER": str(later)}
    with running_service(bundle, hub.otlp_url, "--workers", str(workers), **env) as (_, url):
        for row in rows[:40]:
            answer = httpx.post(f"{url}/predict", json={"features": row}, timeout=30).json()
        batch = httpx.post(f"{url}/predict/batch", json={"rows": [*rows[40:60], {}]}, timeout=30)
        assert batch.status_code == 200
        wait_until(lambda: predictions(hub, name) == {"1.0.0": 60, "2.0.0": 60}, description="60 of each")
        for metric in ("ml.feature.observations", "ml.inference.duration"):
            versions = {dict(series[1:])["ml.model.version"] for series in latest_values(hub, metric, name)}  # type: ignore[arg-type]  # pairs
            assert versions == {"1.0.0", "2.0.0"}
        names = Counter(span["name"] for span in hub.trace(answer["trace_id"])["spans"])
        # Shadow requests that wait at the same time share a call of the model, and then have a `queue` span.
        assert names - Counter(["queue"]) == {
            "POST /predict": 1, "shadow": 1, "validate": 2, "features": 2, "inference": 2,
        }  # fmt: skip
        assert hub.prediction_count(answer["trace_id"]) == 2


def test_a_killed_challenger_fails_no_request_and_is_used_again_after_its_restart(
    bundle: Path, later: Path, hub: HubProcess, rows: Rows
) -> None:
    """While it is down, every request is answered and its rows are counted as failed or dropped."""
    name, port = f"primary-{secrets.token_hex(4)}", free_port()
    challenger_url = f"http://127.0.0.1:{port}"

    def running_challenger() -> AbstractContextManager[Process]:
        arguments = ["modeltrace", "serve", str(later), "--port", str(port)]
        return running(arguments, env={**otlp_environment(hub.otlp_url), "OTEL_SERVICE_NAME": f"{name}-challenger"})

    def send_rows(number: int) -> None:
        for row in rows[:number]:
            assert httpx.post(f"{url}/predict", json={"features": row}, timeout=30).status_code == 200

    def outcomes() -> Counter[str]:
        counts: Counter[str] = Counter()
        for (_, *attributes), value in latest_values(hub, "modeltrace.challenger.rows", name).items():
            counts[dict(attributes)["modeltrace.outcome"]] += int(value)
        return counts

    with running_service(bundle, hub.otlp_url, OTEL_SERVICE_NAME=name, MODELTRACE_CHALLENGER=challenger_url) as (
        service,
        url,
    ):
        with running_challenger() as process:
            process.wait_for(f"{challenger_url}/readyz")
            send_rows(10)
            wait_until(lambda: outcomes() == {"answered": 10}, description="10 answered rows")
            process.popen.send_signal(signal.SIGKILL)
            send_rows(20)
            wait_until(lambda: outcomes().total() == 30, description="the outcomes of the other rows")
        assert outcomes()["answered"] == 10
        assert outcomes()["failed"] + outcomes()["dropped"] == 20
        reasons = re.findall(r"the challenger does not answer for now: ([^\"]+)", service.log)
        assert 1 <= len({*reasons}) == len(reasons) <= 2  # one interrupted and one refused call, logged once each
        with running_challenger() as process:
            process.wait_for(f"{challenger_url}/readyz")
            send_rows(10)
            wait_until(lambda: outcomes()["answered"] == 20, description="rows answered after the restart")
        assert "the challenger answers again" in service.log
