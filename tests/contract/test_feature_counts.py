"""Inputs are counted exactly, however many workers there are and however rows come together."""

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
    """How many values fall between which edges of the bundle."""
    features = json.loads((bundle / "model.json").read_text())["features"]
    found: Counter[tuple[str, str]] = Counter()
    for feature in features:
        places = np.searchsorted(feature["reference"]["edges"], [row[feature["name"]] for row in rows], side="left")
        found.update((feature["name"], f"{place:02d}") for place in places)
    return found


def counted(hub: HubProcess, service: str) -> Counter[tuple[str, str]]:
    """The counts of all workers together, by feature and bin."""
    found: Counter[tuple[str, str]] = Counter()
    for (_, *attributes), value in latest_values(hub, "ml.feature.observations", service).items():
        said = dict(attributes)
        found[said["ml.feature.name"], said["ml.feature.bin"]] += int(value)
    return +found


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_same_traffic_makes_the_same_counts(bundle: Path, hub: HubProcess, rows: Rows, workers: int) -> None:
    """One by one or in a batch, over 1, 2 or 4 workers: the counts are those of the rows, and refused rows are none."""
    name = f"counted-{secrets.token_hex(4)}"
    with running_service(bundle, hub.otlp_url, "--workers", str(workers), OTEL_SERVICE_NAME=name) as (_, url):
        for row in rows[:40]:
            # A connection each, so that every worker gets some.
            assert httpx.post(f"{url}/predict", json={"features": row}, timeout=30).status_code == 200
        bad = [{}, {**rows[0], "mean_radius": None}]
        answer = httpx.post(f"{url}/predict/batch", json={"rows": [*rows[40:60], *bad]}, timeout=30)
        assert answer.status_code == 200

        wanted = expected(bundle, rows[:60])
        wait_until(lambda: counted(hub, name) == wanted, description="the counts of 60 rows")

        sums = latest_values(hub, "ml.feature.sum", name)
        radius = sum(
            value if ("ml.feature.sign", "positive") in series else -value
            for series, value in sums.items()
            if ("ml.feature.name", "mean_radius") in series
        )
        assert radius == pytest.approx(sum(row["mean_radius"] for row in rows[:60]))
