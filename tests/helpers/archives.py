"""Write and open archives by the API of a hub, and read what it stores."""

from typing import Any

import httpx

from tests.helpers.in_process_hubs import InProcessHub


def tables(hub: InProcessHub) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows without their time of arrival."""
    columns = {
        **dict.fromkeys(("spans", "logs", "metric_points", "exemplars"), "* EXCLUDE (received_ns)"),
        **dict.fromkeys(("resources", "scopes"), "*"),
    }
    return {
        table: hub.rows(f"SELECT {selected} FROM {table} ORDER BY ALL")  # noqa: S608  fixed names
        for table, selected in columns.items()
    }


def archive(hub: InProcessHub, **parameters: Any) -> bytes:
    """Return an archive."""
    response = httpx.get(f"{hub.page_url}/api/archive", params=parameters, timeout=60)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/zip"
    return response.content


def upload(hub: InProcessHub, content: bytes) -> httpx.Response:
    """Store a file by the API."""
    return httpx.post(f"{hub.page_url}/api/archive", content=content, timeout=60)
