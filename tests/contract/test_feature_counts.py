"""Feature values are counted exactly, for any number of workers, for single rows and for batches."""

import json
import secrets
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.helpers.hubs import HubProcess, latest_values
from tests.helpers.processes import wait_until
from tests.helpers.services import running_service

pytestmark = [pytest.mark.slow, pytest.mark.extended]
Rows = list[dict[str, float]]


def expected(bundle: Path, rows: Rows) -> Counter[tuple[str, str]]:
    """Return the number of values in each bin of the bundle, by feature and bin."""
    features = json.loads((bundle / "model.json").read_text())["features"]
    counts: Counter[tuple[str, str]] = Counter()
    for feature in features:
        bins = np.searchsorted(feature["reference"]["edges"], [row[feature["name"]] for row in rows], side="left")
        counts.update((feature["name"], f"{number:02d}") for number in bins)
    return counts


def counted(hub: HubProcess, service: str) -> Counter[tuple[str, str]]:
    """Return the sum of the counts of all workers in the hub, by feature and bin."""
    counts: Counter[tuple[str, str]] = Counter()
    for (_, *pairs), value in latest_values(hub, "ml.feature.observations", service).items():
        attributes = dict(pairs)
        counts[attributes["ml.feature.name"], attributes["ml.feature.bin"]] += int(value)
    return +counts


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_counts_do_not_depend_on_workers_and_batches(bundle: Path, hub: HubProcess, rows: Rows, workers: int) -> None:
    """Single rows and a batch, answered by 1, 2 or 4 workers, are counted once each; rejected rows are not counted."""
    name = f"counted-{secrets.token_hex(4)}"
    with running_service(bundle, hub.otlp_url, "--workers", str(workers), OTEL_SERVICE_NAME=name) as (_, url):
        for row in rows[:40]:
            # A new connection for each request, so that every worker gets some.
            assert httpx.post(f"{url}/predict", json={"features": row}, timeout=30).status_code == 200
        invalid = [{}, {**rows[0], "mean_radius": None}]
        answer = httpx.post(f"{url}/predict/batch", json={"rows": [*rows[40:60], *invalid]}, timeout=30)
        assert answer.status_code == 200

        of_rows = expected(bundle, rows[:60])
        wait_until(lambda: counted(hub, name) == of_rows, description="the counts of 60 rows")

        sums = latest_values(hub, "ml.feature.sum", name)
        radius = sum(
            value if ("ml.feature.sign", "positive") in series else -value
            for series, value in sums.items()
            if ("ml.feature.name", "mean_radius") in series
        )
        assert radius == pytest.approx(sum(row["mean_radius"] for row in rows[:60]))
