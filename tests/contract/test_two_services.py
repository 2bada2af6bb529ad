"""A challenger that is another service, as a backend has it: one trace across both, and counts by version."""

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
    """The same model under a later version."""
    copy = tmp_path / "later"
    copy.mkdir()
    for file in bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    manifest = copy / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"version": "1.0.0"', '"version": "2.0.0"', 1))
    return copy


def predictions(hub: HubProcess, service: str) -> Counter[str]:
    """How many each version has answered, over all workers."""
    found: Counter[str] = Counter()
    for (_, *attributes), value in latest_values(hub, "ml.predictions", service).items():
        found[dict(attributes)["ml.model.version"]] += int(value)
    return found


def test_one_trace_across_both_services(bundle: Path, later: Path, hub: HubProcess, rows: Rows, tmp_path: Path) -> None:
    """The challenger's SERVER span is below the `shadow` span of the service that asked it; the store has both."""
    name, store = f"asked-{secrets.token_hex(4)}", tmp_path / "both.db"
    with (
        running_service(later, hub.otlp_url, OTEL_SERVICE_NAME="challenger", MODELTRACE_STORE=str(store)) as (
            _,
            beside,
        ),
        running_service(
            bundle, hub.otlp_url, OTEL_SERVICE_NAME=name, MODELTRACE_STORE=str(store), MODELTRACE_CHALLENGER=beside
        ) as (_, url),
    ):
        answer = httpx.post(f"{url}/predict", json={"features": rows[0]}, timeout=30).json()
        assert answer["model"]["version"] == "1.0.0"

        def whole() -> dict[tuple[str, str], dict[str, object]] | None:
            found = hub.trace(answer["trace_id"])["spans"]
            spans = {(one["service_name"], one["name"]): one for one in found}
            return spans if {(name, "shadow"), ("challenger", "POST /predict")} <= spans.keys() else None

        spans = wait_until(whole, description="spans of both services")
        assert spans["challenger", "POST /predict"]["parent_span_id"] == spans[name, "shadow"]["span_id"]
        assert spans[name, "shadow"]["parent_span_id"] == spans[name, "POST /predict"]["span_id"]
        assert ("challenger", "inference") in spans
        wait_until(lambda: predictions(hub, name) == {"1.0.0": 1}, description="the primary's count")
        wait_until(lambda: predictions(hub, "challenger")["2.0.0"] == 1, description="the challenger's count")
    with open_store(str(store)) as opened:
        kept = {one.model_version: one for chunk in opened.read() for one in chunk}
    assert set(kept) == {"1.0.0", "2.0.0"}
    assert kept["2.0.0"].shadow_of == answer["prediction_id"]


@pytest.mark.parametrize("workers", [1, 2])
def test_counts_by_version_are_exact(bundle: Path, later: Path, hub: HubProcess, rows: Rows, workers: int) -> None:
    """Of 60 predictions the challenger in the same process sees 60, whatever worker answered; one trace has both."""
    name = f"beside-{secrets.token_hex(4)}"
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
        found = hub.trace(answer["trace_id"])["spans"]
        names = Counter(one["name"] for one in found)
        # A shadow that waits for the one before shares its call, and has `queue`.
        assert names - Counter(["queue"]) == {
            "POST /predict": 1, "shadow": 1, "validate": 2, "features": 2, "inference": 2,
        }  # fmt: skip
        assert hub.prediction_count(answer["trace_id"]) == 2


def test_a_challenger_that_is_killed_and_comes_back_costs_no_answer(
    bundle: Path, later: Path, hub: HubProcess, rows: Rows
) -> None:
    """While it is away its rows are counted as failed or dropped, every request is answered; then it is asked again."""
    name, port = f"asked-{secrets.token_hex(4)}", free_port()
    beside = f"http://127.0.0.1:{port}"

    def challenger() -> AbstractContextManager[Process]:
        arguments = ["modeltrace", "serve", str(later), "--port", str(port)]
        return running(arguments, env={**otlp_environment(hub.otlp_url), "OTEL_SERVICE_NAME": f"{name}-challenger"})

    def asked(number: int) -> None:
        for row in rows[:number]:
            assert httpx.post(f"{url}/predict", json={"features": row}, timeout=30).status_code == 200

    def became() -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, *attributes), value in latest_values(hub, "modeltrace.challenger.rows", name).items():
            found[dict(attributes)["modeltrace.outcome"]] += int(value)
        return found

    with running_service(bundle, hub.otlp_url, OTEL_SERVICE_NAME=name, MODELTRACE_CHALLENGER=beside) as (service, url):
        with challenger() as process:
            process.wait_for(f"{beside}/readyz")
            asked(10)
            wait_until(lambda: became() == {"answered": 10}, description="what it answered")
            process.popen.send_signal(signal.SIGKILL)
            asked(20)
            wait_until(lambda: became().total() == 30, description="what became of the others")
        assert became()["answered"] == 10
        assert became()["failed"] + became()["dropped"] == 20
        reasons = re.findall(r"the challenger does not answer for now: ([^\"]+)", service.log)
        assert 1 <= len({*reasons}) == len(reasons) <= 2  # a call broke off, the next was refused: each is said once
        with challenger() as process:
            process.wait_for(f"{beside}/readyz")
            asked(10)
            wait_until(lambda: became()["answered"] == 20, description="what it answers again")
        assert "the challenger answers again" in service.log
