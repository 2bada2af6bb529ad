"""Clients send whatever they like: the number of series stays what routes, statuses and the model make of it."""

import random
import secrets
import socket
import string
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import orjson
import pandas as pd
import pytest
from opentelemetry.semconv.metrics.http_metrics import HTTP_SERVER_REQUEST_DURATION
from prometheus_client.parser import text_string_to_metric_families
from sklearn.neighbors import KNeighborsClassifier

from modeltrace.bundles.pack import pack
from modeltrace.telemetry.metrics.instruments import PREDICTIONS
from tests.helpers.hubs import HubProcess
from tests.helpers.processes import wait_until
from tests.helpers.services import running_service

pytestmark = [pytest.mark.slow, pytest.mark.extended]

# Those that the server's parser knows and the conventions do not: `_OTHER` to a metric.
RARE_METHODS = ("PROPFIND", "MKCOL", "PURGE", "REPORT", "SUBSCRIBE", "UNLOCK", "MKCALENDAR", "LINK", "SEARCH")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", *RARE_METHODS)
KNOWN_PATHS = ("/predict", "/predict/batch", "/model", "/healthz", "/metrics", "/docs", "/openapi.json")
VERSIONS = ("1.0", "1.1")
PREFIXES = ("", "/predict", "/predict/batch", "/model", "/static-offline-docs", "/metrics")

Series = frozenset[tuple[str, tuple[tuple[str, str], ...]]]


@dataclass(frozen=True)
class Target:
    """A service, and the name under which its telemetry stands."""

    url: str
    name: str
    row: Mapping[str, float]


@pytest.fixture(params=["sidecar", "sdk"])
def target(
    request: pytest.FixtureRequest, bundle: Path, hub: HubProcess, rows: list[dict[str, float]]
) -> Iterator[Target]:
    """A service of its own for each way of telling."""
    name = f"hostile-{secrets.token_hex(4)}"
    own = {"OTEL_SERVICE_NAME": name, "MODELTRACE_INSTRUMENTATION": request.param}
    with running_service(bundle, hub.otlp_url, **own) as (_, url):
        yield Target(url, name, rows[0])


class Hostile:
    """A client that never says the same thing twice, in the same few ways."""

    def __init__(self, target: Target, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  no secret: the same words at every run
        self._target = target
        self._where = urlsplit(target.url)

    def wave(self) -> list[int]:
        """Every method on known and unknown paths, every kind of body; the statuses of the answers, 0 for none."""
        answers = [
            self._send(method, path, version=version)
            for version in VERSIONS
            for method in (*METHODS, self._word().upper())
            for path in (*KNOWN_PATHS, *(f"{prefix}/{self._word()}" for prefix in PREFIXES))
        ]
        for body in self._bodies():
            answers += [
                self._send("POST", path, body, version=version)
                for version in VERSIONS
                for path in ("/predict", "/predict/batch")
            ]
        return answers

    def _bodies(self) -> list[bytes]:
        row = dict(self._target.row)
        chosen = self._random.choice(list(row))
        far = self._random.uniform(1e6, 1e9)
        return [
            *(orjson.dumps({"features": row | {chosen: sign * far}}) for sign in (-1, 1)),  # one of each label
            orjson.dumps({"features": row | {self._word(): 1.0}}),
            orjson.dumps({"features": dict.fromkeys(row, self._word())}),  # every feature that the bundle knows
            orjson.dumps({"rows": [row] * self._random.randint(1, 40)}),
            orjson.dumps({"rows": [dict.fromkeys(row, self._word())] * self._random.randint(1, 40)}),
            orjson.dumps({"rows": [row, {self._word(): self._word()}] * self._random.randint(1, 40)}),
            orjson.dumps({self._word(): self._word()}),
            self._random.randbytes(self._random.randint(1, 200)),
            b"[" * self._random.randint(1, 500),
        ]

    def _send(self, method: str, path: str, body: bytes = b"", *, version: str) -> int:
        headers = {
            "Host": f"localhost:{self._random.randint(1, 65535)}",  # other names are refused
            "Connection": "close",
            "Content-Length": str(len(body)),
            "Content-Type": self._random.choice(("application/json", f"{self._word()}/{self._word()}")),
            "User-Agent": f"{self._word()}/{self._random.random()}",
            "X-Forwarded-For": f"192.0.2.{self._random.randint(1, 254)}",
            "X-Forwarded-Proto": self._word(),
            "Forwarded": f"proto={self._word()};host={self._word()}",
            "traceparent": f"00-{self._random.randbytes(16).hex()}-{self._random.randbytes(8).hex()}-01",
            "tracestate": f"{self._word()}={self._word()}",
            "baggage": f"{self._word()}={self._word()},modeltrace.pin={self._word()}",
            f"X-{self._word()}": self._word(),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"{method} {path}?{self._word()}={self._word()} HTTP/{version}\r\n{head}\r\n".encode() + body
        with socket.create_connection((self._where.hostname or "", self._where.port or 0), timeout=30) as connection:
            connection.sendall(request)
            status = connection.makefile("rb").readline().split()
        return int(status[1]) if len(status) > 1 else 0

    def _word(self) -> str:
        return "".join(self._random.choices(string.ascii_lowercase, k=12))


def on_the_page(url: str) -> Series:
    """Every series of `/metrics`."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=30).raise_for_status().text)
    return frozenset((s.name, tuple(sorted(s.labels.items()))) for family in families for s in family.samples)


def of_requests(series: Series) -> Series:
    """Return the series that requests make, without those of the process, the SDK, and the store's evaluation.

    The evaluation is published once a minute, so its first series may appear between two requests.
    """
    return frozenset(
        one for one in series if one[0].startswith(("http_", "ml_")) and not one[0].startswith("ml_evaluation_")
    )


def points(hub: HubProcess, metric: str, service: str) -> list[dict[str, Any]]:
    """The hub's newest points of one metric of a service."""
    asked: dict[str, str | int] = {"name": metric, "service": service, "limit": 10_000}
    answer = httpx.get(f"{hub.page_url}/api/metrics", params=asked, timeout=30).raise_for_status()
    found: list[dict[str, Any]] = answer.json()["points"]
    return found


def in_the_hub(hub: HubProcess, service: str) -> frozenset[tuple[str, bytes]]:
    """Every series of requests that the hub has of a service, once it has all that the service did until now."""
    # A request is counted within a moment; the export that follows tells of it.
    counted = time.time_ns() + 500_000_000

    def told() -> bool:
        return any(p["time_ns"] > counted for p in points(hub, HTTP_SERVER_REQUEST_DURATION, service)[:1])

    wait_until(told, description="the export that follows")
    listed = httpx.get(f"{hub.page_url}/api/metrics", timeout=30).raise_for_status().json()["metrics"]
    return frozenset(
        (metric, orjson.dumps(point["attributes"], option=orjson.OPT_SORT_KEYS))
        for metric in {one["name"] for one in listed if one["name"].startswith(("http.", "ml."))}
        if not metric.startswith("ml.evaluation.")
        for point in points(hub, metric, service)
    )


def test_no_client_can_make_series(target: Target, hub: HubProcess) -> None:
    """New paths, methods, hosts, agents, headers, bodies and batch sizes change counts, and add no series.

    On `/metrics` and in the hub alike: what a second client makes up is told in the series that the first one left.
    """
    first = Hostile(target, seed=1).wave()
    stored = in_the_hub(hub, target.name)
    before = on_the_page(target.url)

    second = Hostile(target, seed=2).wave()
    again = [Hostile(target, seed=seed).wave() for seed in (3, 4)]
    stored_after = in_the_hub(hub, target.name)
    after = on_the_page(target.url)

    assert {200, 404, 405, 422} <= set(first)
    assert sorted(first) == sorted(second) == sorted(again[0])  # the same ways of asking, with other words
    assert of_requests(after) == of_requests(before)
    assert stored_after == stored


def test_a_model_of_many_classes_fills_one_series_with_the_rest(tmp_path: Path, hub: HubProcess) -> None:
    """Labels are the only words of a metric that inputs choose: beyond the limit they are counted as overflow."""
    classes = PREDICTIONS.cardinality_limit + 100
    table = pd.DataFrame({"x": np.arange(classes, dtype=float)})
    labels = pd.Series([f"class-{number}" for number in range(classes)], name="label")
    many = pd.concat([table, table, table], ignore_index=True)  # fewer would look like a regression to scikit-learn
    estimator = KNeighborsClassifier(1).fit(many.to_numpy(), [*labels] * 3)
    bundle = pack(estimator, table, labels, name="many", out=tmp_path / "many")
    with running_service(bundle, hub.otlp_url) as (_, url):
        answer = httpx.post(f"{url}/predict/batch", json={"rows": table.to_dict(orient="records")}, timeout=60)
        answered = {one["label"] for one in answer.raise_for_status().json()["predictions"]}
        assert len(answered) == classes

        def counted() -> list[dict[str, str]] | None:
            text = httpx.get(f"{url}/metrics", timeout=30).text
            wanted = f"{PREDICTIONS.name.replace('.', '_')}_total"
            samples = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name == wanted]
            return [s.labels for s in samples] if sum(s.value for s in samples) == classes else None

        series = wait_until(counted, description="every prediction to be counted")

    assert len(series) == PREDICTIONS.cardinality_limit + 1
    assert sum(labels.get("otel_metric_overflow") == "true" for labels in series) == 1
