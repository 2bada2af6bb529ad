"""The rate limit: requests per second of a key or an address, shared by all workers."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from starlette.testclient import TestClient

from modeltrace.api import rate_limit
from modeltrace.api.auth import wrap_with_auth
from modeltrace.api.rate_limit import RateLimiter, build_rate_limit
from modeltrace.errors import SettingsError
from modeltrace.settings import read_settings
from modeltrace.telemetry.metrics.outcomes import rate_limit_counter

KEY, FIRST, SECOND = "a key of 16 signs", "first-key-of-the-tests", "second-key-of-the-tests"


class Clock:
    """A monotonic clock that tests set."""

    now = 1000.0

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of rate limits."""
    clock = Clock()
    monkeypatch.setattr(rate_limit, "time", clock)
    return clock


def test_a_burst_then_the_rate(clock: Clock) -> None:
    """Three requests at once, then one every half second. Rejected requests do not count, and pauses fill the burst."""
    limiter = RateLimiter(rate=2.0, burst=3)

    assert [limiter.acquire(b"a") for _ in range(5)] == [0, 0, 0, 1, 1]
    clock.now += 0.5
    assert [limiter.acquire(b"a") for _ in range(2)] == [0, 1]
    assert limiter.acquire(b"b") == 0
    clock.now += 60.0
    assert [limiter.acquire(b"a") for _ in range(4)] == [0, 0, 0, 1]


def test_retry_after_is_when_the_next_request_is_accepted(clock: Clock) -> None:
    """The header has whole seconds, rounded up."""
    limiter = RateLimiter(rate=0.1, burst=1)
    assert limiter.acquire(b"a") == 0
    clock.now += 2.5

    assert limiter.acquire(b"a") == 8
    clock.now += 7.4
    assert limiter.acquire(b"a") == 1
    clock.now += 1.0
    assert limiter.acquire(b"a") == 0


@given(st.floats(0.1, 1000.0), st.integers(1, 50), st.lists(st.floats(0.0, 5.0), min_size=1, max_size=200))
def test_no_interval_has_more_requests_than_burst_and_rate(rate: float, burst: int, pauses: list[float]) -> None:
    """In any interval, at most `burst + rate * seconds` requests are accepted."""
    clock = Clock()
    accepted = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limit, "time", clock)
        limiter = RateLimiter(rate, burst)
        for pause in pauses:
            clock.now += pause / rate
            if limiter.acquire(b"a") == 0:
                accepted.append(clock.now)

    for first, start in enumerate(accepted):
        for last in range(first, len(accepted)):
            assert last - first + 1 <= burst + rate * (accepted[last] - start) + 1e-6


@pytest.mark.usefixtures("clock")
def test_the_table_is_bounded_and_keeps_busy_clients() -> None:
    """With many clients, those that are closest to a full burst are forgotten first."""
    limiter = RateLimiter(rate=1.0, burst=10)
    assert [limiter.acquire(b"busy") for _ in range(11)][-1] > 0
    accepted = sum(limiter.acquire(b"%d" % number) == 0 for number in range(70_000))

    assert accepted == 70_000
    assert limiter.acquire(b"busy") > 0


SEND = """
import pathlib, sys
from modeltrace.api.rate_limit import RateLimiter
limiter = RateLimiter(rate=0.001, burst=300, folder=pathlib.Path(sys.argv[1]))
print(sum(limiter.acquire(b"client") == 0 for _ in range(250)))
"""


@pytest.mark.slow
def test_workers_share_the_limit(tmp_path: Path) -> None:
    """Two processes accept exactly one burst together."""
    arguments = [sys.executable, "-c", SEND, str(tmp_path)]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]

    assert sum(int(process.communicate(timeout=120)[0]) for process in processes) == 300


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """A reader of the metric."""
    return InMemoryMetricReader()


@pytest.fixture
def client(app: Any, reader: InMemoryMetricReader, clock: Clock) -> Callable[..., TestClient]:
    """Return a function that creates a client of a service that accepts two requests at once, then one in 10 s."""
    assert clock.now == Clock.now
    counter = rate_limit_counter(MeterProvider([reader], shutdown_on_exit=False).get_meter("tests"))

    def create(address: str = "192.0.2.1", **settings: Any) -> TestClient:
        values = read_settings(rate_limit=0.1, rate_limit_burst=2, **settings)
        wrapped = wrap_with_auth(app, values, build_rate_limit(values, None, counter))
        return TestClient(wrapped, base_url="http://localhost:8000", client=(address, 4711))

    return create


def test_requests_beyond_the_limit_are_429(
    client: Callable[..., TestClient], reader: InMemoryMetricReader, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The body is that of other errors. Probes are not limited; the metric counts, and the log has no line for each."""
    caller = client()
    answers = [caller.get("/model") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    error = answers[-1].json()["error"]
    assert error["type"] == "rate_limited"
    assert "address 192.0.2.1: send the next one in 10 s (MODELTRACE_RATE_LIMIT" in error["message"]
    assert answers[-1].headers["retry-after"] == "10"
    assert "too many" not in caplog.text
    assert caller.get("/readyz").status_code == 200
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert (metric.name, [point.value for point in metric.data.data_points]) == (  # type: ignore[union-attr]  # a sum
        "modeltrace.rate_limit.rejected",
        [2],
    )
    clock.now += 10.0
    assert caller.get("/model").status_code == 200


def test_a_protocol_has_its_own_form(client: Callable[..., TestClient]) -> None:
    """Clients of other protocols get the error in their form, with Retry-After."""
    caller = client()
    for _ in range(2):
        caller.get("/v2")
    answer = caller.get("/v2")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert "too many requests" in answer.json()["error"]


def test_each_key_has_its_limit(client: Callable[..., TestClient], tmp_path: Path) -> None:
    """A key has one limit for all addresses. Requests with a wrong key count for the address."""
    keys = tmp_path / "api.keys"
    keys.write_text(f"first {FIRST}\nsecond {SECOND}\n")
    keys.chmod(0o600)
    caller = client(api_keys_file=keys, api_key=KEY)

    def statuses(key: str, number: int = 3) -> list[int]:
        headers = {"Authorization": f"Bearer {key}"}
        return [caller.get("/model", headers=headers).status_code for _ in range(number)]

    assert statuses(FIRST) == statuses(SECOND) == statuses(KEY) == [200, 200, 429]
    assert statuses("a guessed key", 2) + statuses("another guess", 2) == [401, 401, 429, 429]
    assert "API key first" in caller.get("/model", headers={"Authorization": f"Bearer {FIRST}"}).text


def test_addresses(app: Any, clock: Clock) -> None:
    """IPv4 addresses are different clients; those of one IPv6 network are the same. Headers of proxies apply."""
    assert clock.now == Clock.now
    values = read_settings(rate_limit=0.1, rate_limit_burst=1, trusted_proxies=("192.0.2.9",))
    wrapped = wrap_with_auth(app, values, build_rate_limit(values, None, lambda: None))

    def status(address: str, **headers: str) -> int:
        client = TestClient(wrapped, base_url="http://localhost:8000", client=(address, 4711))
        return client.get("/model", headers=headers).status_code

    assert [status(f"192.0.2.{number}") for number in (1, 2, 1)] == [200, 200, 429]
    mapped = ("::ffff:192.0.2.2", "::ffff:192.0.2.7", "192.0.2.7", "::ffff:c000:207", "::1")
    assert [status(address) for address in mapped] == [429, 200, 429, 429, 200]
    assert [status(address) for address in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")] == [200, 429, 200]
    forwarded = [
        status("192.0.2.9", **{"X-Forwarded-For": address}) for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1")
    ]
    assert forwarded == [200, 200, 429]


def test_settings() -> None:
    """By default, the burst is the number of requests that the rate allows in a second, and at least 1."""
    assert build_rate_limit(read_settings(), None, lambda: None) is None
    for rate, burst in ((0.5, 1), (20.0, 20)):
        limit = build_rate_limit(read_settings(rate_limit=rate), None, lambda: None)
        assert limit is not None
        assert sum(limit._limiter.acquire(b"a") == 0 for _ in range(3 * burst)) == burst
    with pytest.raises(SettingsError, match="MODELTRACE_RATE_LIMIT: "):
        read_settings(rate_limit=0)
    with pytest.raises(SettingsError, match="MODELTRACE_RATE_LIMIT_BURST: "):
        read_settings(rate_limit=1, rate_limit_burst=0)
