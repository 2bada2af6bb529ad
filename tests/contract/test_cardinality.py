"""The number of metric series depends on routes, status codes and the model, not on what clients send."""

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

# Methods that the HTTP parser accepts and the semantic conventions do not list. Metrics have `_OTHER` for them.
RARE_METHODS = ("PROPFIND", "MKCOL", "PURGE", "REPORT", "SUBSCRIBE", "UNLOCK", "MKCALENDAR", "LINK", "SEARCH")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", *RARE_METHODS)
KNOWN_PATHS = ("/predict", "/predict/batch", "/model", "/healthz", "/metrics", "/docs", "/openapi.json")
VERSIONS = ("1.0", "1.1")
PREFIXES = ("", "/predict", "/predict/batch", "/model", "/static-offline-docs", "/metrics")

Series = frozenset[tuple[str, tuple[tuple[str, str], ...]]]


@dataclass(frozen=True)
class Target:
    """A service and its `service.name`."""

    url: str
    name: str
    row: Mapping[str, float]


@pytest.fixture(params=["sidecar", "sdk"])
def target(
    request: pytest.FixtureRequest, bundle: Path, hub: HubProcess, rows: list[dict[str, float]]
) -> Iterator[Target]:
    """A service with its own name, with the sidecar and with the SDK."""
    name = f"hostile-{secrets.token_hex(4)}"
    own = {"OTEL_SERVICE_NAME": name, "MODELTRACE_INSTRUMENTATION": request.param}
    with running_service(bundle, hub.otlp_url, **own) as (_, url):
        yield Target(url, name, rows[0])


class HostileClient:
    """A client that sends the same kinds of requests in each wave, with new names and values."""

    def __init__(self, target: Target, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  no secret: the same words in every run
        self._target = target
        self._address = urlsplit(target.url)

    def wave(self) -> list[int]:
        """Send each method to known and unknown paths, and each kind of body. Return the status codes, 0 for none."""
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
            *(orjson.dumps({"features": row | {chosen: sign * far}}) for sign in (-1, 1)),  # one row of each label
            orjson.dumps({"features": row | {self._word(): 1.0}}),
            orjson.dumps({"features": dict.fromkeys(row, self._word())}),  # a violation of every feature
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
        with socket.create_connection(
            (self._address.hostname or "", self._address.port or 0), timeout=30
        ) as connection:
            connection.sendall(request)
            status = connection.makefile("rb").readline().split()
        return int(status[1]) if len(status) > 1 else 0

    def _word(self) -> str:
        return "".join(self._random.choices(string.ascii_lowercase, k=12))


def scraped_series(url: str) -> Series:
    """Return every series of `/metrics`."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=30).raise_for_status().text)
    return frozenset((s.name, tuple(sorted(s.labels.items()))) for family in families for s in family.samples)


def request_series(series: Series) -> Series:
    """Return the series that requests create, without those of the process, the SDK and the evaluation of the store.

    The evaluation is published once a minute, so its first series may appear between two requests.
    """
    return frozenset(
        item for item in series if item[0].startswith(("http_", "ml_")) and not item[0].startswith("ml_evaluation_")
    )


def points(hub: HubProcess, metric: str, service: str) -> list[dict[str, Any]]:
    """Return the newest points of a metric of a service in the hub."""
    params: dict[str, str | int] = {"name": metric, "service": service, "limit": 10_000}
    answer = httpx.get(f"{hub.page_url}/api/metrics", params=params, timeout=30).raise_for_status()
    newest: list[dict[str, Any]] = answer.json()["points"]
    return newest


def hub_series(hub: HubProcess, service: str) -> frozenset[tuple[str, bytes]]:
    """Wait until the hub has the counts of all requests until now, and return the series that requests create."""
    # A request is counted within half a second, and the next export contains it.
    counted_ns = time.time_ns() + 500_000_000

    def is_exported() -> bool:
        return any(p["time_ns"] > counted_ns for p in points(hub, HTTP_SERVER_REQUEST_DURATION, service)[:1])

    wait_until(is_exported, description="the next export")
    listed = httpx.get(f"{hub.page_url}/api/metrics", timeout=30).raise_for_status().json()["metrics"]
    return frozenset(
        (metric, orjson.dumps(point["attributes"], option=orjson.OPT_SORT_KEYS))
        for metric in {item["name"] for item in listed if item["name"].startswith(("http.", "ml."))}
        if not metric.startswith("ml.evaluation.")
        for point in points(hub, metric, service)
    )


def test_no_client_can_make_series(target: Target, hub: HubProcess) -> None:
    """New paths, methods, hosts, agents, headers, bodies and batch sizes change counts, and add no series.

    This holds on `/metrics` and in the hub: the requests of a second client are counted in the series of the first.
    """
    first = HostileClient(target, seed=1).wave()
    stored = hub_series(hub, target.name)
    before = scraped_series(target.url)

    second = HostileClient(target, seed=2).wave()
    again = [HostileClient(target, seed=seed).wave() for seed in (3, 4)]
    stored_after = hub_series(hub, target.name)
    after = scraped_series(target.url)

    assert {200, 404, 405, 422} <= set(first)
    assert sorted(first) == sorted(second) == sorted(again[0])  # the same kinds of requests, with other values
    assert request_series(after) == request_series(before)
    assert stored_after == stored


def test_labels_above_the_cardinality_limit_are_counted_in_one_series(tmp_path: Path, hub: HubProcess) -> None:
    """The predicted label is the only attribute that depends on inputs; labels above the limit are overflow."""
    classes = PREDICTIONS.cardinality_limit + 100
    table = pd.DataFrame({"x": np.arange(classes, dtype=float)})
    labels = pd.Series([f"class-{number}" for number in range(classes)], name="label")
    many = pd.concat([table, table, table], ignore_index=True)  # fewer would look like a regression to scikit-learn
    estimator = KNeighborsClassifier(1).fit(many.to_numpy(), [*labels] * 3)
    bundle = pack(estimator, table, labels, name="many", out=tmp_path / "many")
    with running_service(bundle, hub.otlp_url) as (_, url):
        answer = httpx.post(f"{url}/predict/batch", json={"rows": table.to_dict(orient="records")}, timeout=60)
        answered = {prediction["label"] for prediction in answer.raise_for_status().json()["predictions"]}
        assert len(answered) == classes

        def counted() -> list[dict[str, str]] | None:
            text = httpx.get(f"{url}/metrics", timeout=30).text
            name = f"{PREDICTIONS.name.replace('.', '_')}_total"
            samples = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name == name]
            return [s.labels for s in samples] if sum(s.value for s in samples) == classes else None

        series = wait_until(counted, description="every prediction to be counted")

    assert len(series) == PREDICTIONS.cardinality_limit + 1
    assert sum(labels.get("otel_metric_overflow") == "true" for labels in series) == 1
