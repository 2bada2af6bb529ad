"""Every page and call answers after rows were deleted, after a restart, and of a store that was emptied."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeltrace_hub.store import FILE_NAME
from tests.helpers.hub_pages import HubPages, hub_pages
from tests.helpers.odd_telemetry import MODEL, ordinary, trace_ids

pytestmark = pytest.mark.slow

DAY_NS = 86400 * 10**9


def statuses(pages: HubPages, ids: list[str]) -> dict[str, int]:
    """The status of every route, and of all that the pages link to."""
    found: dict[str, int] = {}
    waiting = pages.paths(trace_ids=ids, models=[MODEL])
    while waiting:
        path = waiting.pop()
        if path not in found:
            answer = pages.client.get(path)
            found[path] = answer.status_code
            waiting += [
                link for link in pages.links(path, answer.text) if not re.search("predictions|span=|logs=", link)
            ]
    return found


@pytest.fixture
def pruned(tmp_path: Path) -> Iterator[tuple[Path, HubPages, list[str]]]:
    """A hub in a file whose older half is deleted, and the trace IDs of both halves."""
    path = tmp_path / FILE_NAME
    now = time.time_ns()
    with hub_pages(path) as pages:
        old, new = ordinary(), ordinary()
        pages.add(*old, received_ns=now - 9 * DAY_NS)
        for _ in range(12):
            pages.add(*new, received_ns=now)
        assert pages.retention.enforce(now) > 0
        yield path, pages, [*trace_ids(old)[:1], *trace_ids(new)[:2]]


def test_every_route_answers_after_rows_were_deleted(pruned: tuple[Path, HubPages, list[str]]) -> None:
    """Deleted traces are absent with the reason, everything else answers; `/api/stats` counts what was deleted."""
    _, pages, ids = pruned
    found = statuses(pages, ids)
    assert {path: status for path, status in found.items() if status >= 400} == {
        f"/t/{ids[0]}": 404,
        f"/api/traces/{ids[0]}": 404,
    }
    assert "deleted" in pages.client.get(f"/t/{ids[0]}").text
    storage = pages.client.get("/api/stats").json()["storage"]
    assert storage["deleted"]["spans"] > 0
    assert storage["pruned_before_ns"] is not None


def test_every_route_answers_after_a_restart(tmp_path: Path) -> None:
    """A hub that opens a file from which rows were deleted answers as the one before did."""
    path = tmp_path / FILE_NAME
    now = time.time_ns()
    requests = ordinary()
    with hub_pages(path) as pages:
        pages.add(*ordinary(), received_ns=now - 9 * DAY_NS)
        for _ in range(12):
            pages.add(*requests, received_ns=now)
        assert pages.retention.enforce(now) > 0
    with hub_pages(path) as pages:
        assert {path: s for path, s in statuses(pages, trace_ids(requests)[:1]).items() if s >= 400} == {}
        assert pages.client.get("/api/stats").json()["storage"]["pruned_before_ns"] is not None


def test_every_route_answers_when_all_rows_were_deleted(tmp_path: Path) -> None:
    """A size limit that nothing fits into leaves pages that say that there is nothing."""
    with hub_pages(tmp_path / FILE_NAME, max_size=1) as pages:
        requests = ordinary()
        pages.add(*requests)
        assert pages.retention.enforce(time.time_ns()) > 0
        found = statuses(pages, trace_ids(requests)[:1])
        assert {path: status for path, status in found.items() if status >= 400 and status != 404} == {}
        assert pages.client.get("/api/stats").json()["storage"]["rows"]["spans"] == 0
