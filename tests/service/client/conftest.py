"""Fixtures for tests of the clients."""

import time

import pytest

from tests.helpers.client_calls import Call, call_async, call_sync


@pytest.fixture(params=[call_sync, call_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Both clients."""
    result: Call = request.param
    return result


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a client would have waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr("modeltrace.client.retries.asyncio.sleep", sleep)
    return waited
