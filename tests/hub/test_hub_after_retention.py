"""Every page and API call works after rows were deleted, after a restart, and with an empty store."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeltrace_hub.store import FILE_NAME
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.unusual_telemetry import MODEL, model_requests, trace_ids

pytestmark = pytest.mark.slow

DAY_NS = 86400 * 10**9


def statuses(pages: HubPages, ids: list[str]) -> dict[str, int]:
    """Return the status of every route, and of every address that the pages link to."""
    result: dict[str, int] = {}
    waiting = pages.paths(trace_ids=ids, models=[MODEL])
    while waiting:
        path = waiting.pop()
        if path not in result:
            response = pages.client.get(path)
            result[path] = response.status_code
            # Links of these pages add filters to their own address, so following them would not end. Of the time
            # ranges, one is followed.
            waiting += [
                link
                for link in pages.links(path, response.text)
                if not re.search(r"predictions|span=|logs=|/logs\?|/sql\?|since=(?!1h)", link)
            ]
    return result


@pytest.fixture
def pruned(tmp_path: Path) -> Iterator[tuple[Path, HubPages, list[str]]]:
    """Yield a hub with a file whose older half is deleted, and the trace IDs of both halves."""
    path = tmp_path / FILE_NAME
    now = time.time_ns()
    with hub_pages(path) as pages:
        old, new = model_requests(), model_requests()
        pages.add(*old, received_ns=now - 9 * DAY_NS)
        for _ in range(12):
            pages.add(*new, received_ns=now)
        assert pages.retention.enforce(now) > 0
        yield path, pages, [*trace_ids(old)[:1], *trace_ids(new)[:2]]


def test_every_route_works_after_rows_were_deleted(pruned: tuple[Path, HubPages, list[str]]) -> None:
    """Deleted traces give 404 with the reason, all other addresses work, and `/api/stats` counts the deleted rows."""
    _, pages, ids = pruned
    result = statuses(pages, ids)
    assert {path: status for path, status in result.items() if status >= 400} == {
        f"/t/{ids[0]}": 404,
        f"/api/traces/{ids[0]}": 404,
        f"/api/traces/{ids[0]}/llm-calls": 404,
    }
    assert "deleted" in pages.client.get(f"/t/{ids[0]}").text
    assert "deleted" in pages.client.get(f"/api/traces/{ids[0]}/llm-calls").text
    storage = pages.client.get("/api/stats").json()["storage"]
    assert storage["deleted_rows"]["spans"] > 0
    assert storage["deleted_before_ns"] is not None


def test_every_route_works_after_a_restart(tmp_path: Path) -> None:
    """A hub works with a file from which rows were deleted before the restart."""
    path = tmp_path / FILE_NAME
    now = time.time_ns()
    requests = model_requests()
    with hub_pages(path) as pages:
        pages.add(*model_requests(), received_ns=now - 9 * DAY_NS)
        for _ in range(12):
            pages.add(*requests, received_ns=now)
        assert pages.retention.enforce(now) > 0
    with hub_pages(path) as pages:
        assert {path: s for path, s in statuses(pages, trace_ids(requests)[:1]).items() if s >= 400} == {}
        assert pages.client.get("/api/stats").json()["storage"]["deleted_before_ns"] is not None


def test_every_route_works_when_all_rows_were_deleted(tmp_path: Path) -> None:
    """With a size limit below any data, the pages show empty states."""
    with hub_pages(tmp_path / FILE_NAME, max_size=1) as pages:
        requests = model_requests()
        pages.add(*requests)
        assert pages.retention.enforce(time.time_ns()) > 0
        result = statuses(pages, trace_ids(requests)[:1])
        assert {path: status for path, status in result.items() if status >= 400 and status != 404} == {}
        assert pages.client.get("/api/stats").json()["storage"]["rows"]["spans"] == 0
