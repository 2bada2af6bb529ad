"""The pages and the API of a hub without ports: requests are stored directly, and every route can be requested."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from google.protobuf.message import Message
from starlette.testclient import TestClient

from modeltrace_hub.api import create_app
from modeltrace_hub.retention import TABLES, Retention
from modeltrace_hub.settings import HubSettings
from modeltrace_hub.store import Store
from modeltrace_hub.writer import Writer, append_batches
from tests.helpers.decoding import decode

BASE = "http://127.0.0.1"
REQUIRED_QUERIES = {
    "/api/archive": "?since=1h",
    "/api/compare": "?a={trace_id}&b={trace_id}",
    "/api/completions": "?list=traces",
    "/api/metrics/series": "?name=ml.predictions",
    "/api/quality": "?model=churn",
    "/api/sql": "?q=SELECT+count(*)+FROM+spans",
}


@dataclass
class HubPages:
    """The store and the application of a hub, without receivers and with a writer that is not started."""

    store: Store
    retention: Retention
    app: FastAPI
    client: TestClient

    def add(self, *requests: Message, received_ns: int | None = None) -> None:
        """Decode requests and store their rows."""
        now = time.time_ns() if received_ns is None else received_ns
        batches = [decode(request, now) for request in requests]
        with self.store.write() as connection:
            append_batches(connection, batches)

    def clear(self) -> None:
        """Delete all rows."""
        with self.store.write() as connection:
            for table in (*TABLES, "traces"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  fixed names

    def paths(self, *, trace_ids: Sequence[str], models: Sequence[str]) -> list[str]:
        """Return the paths of all GET routes, one per trace or model where the path has such a parameter.

        Routes that require a query parameter have one.
        """
        values = {"trace_id": trace_ids, "name": models}
        concrete = []
        for route in iter_route_contexts(self.app.routes):
            path = getattr(route, "path", "")
            if "GET" not in (getattr(route, "methods", None) or ()):
                continue
            parameter = re.search(r"\{(\w+)(?::\w+)?\}", path)
            if parameter is None:
                query = REQUIRED_QUERIES.get(path, "")
                concrete += [path + query.format(trace_id=value) for value in trace_ids[-1:] or [""]]
            else:
                concrete += [path.replace(parameter[0], value) for value in values[parameter[1]]]
        return concrete

    def links(self, path: str, html: str) -> list[str]:
        """Return the paths, with their queries, that a page links to."""
        links = (re.findall(r'(?:href|src|action)="([^"]*)"', html)) if html.startswith("<!doctype html>") else []
        targets = (urldefrag(urljoin(BASE + path, unescape(link))).url for link in links)
        return [link.removeprefix(BASE) for link in dict.fromkeys(targets) if urlsplit(link).netloc == BASE[7:]]


@contextmanager
def hub_pages(
    path: Path | None = None, *, max_age: timedelta = timedelta(days=7), max_size: int = 2**31
) -> Iterator[HubPages]:
    """Open a store, in memory unless a file is given, and serve its pages."""
    settings = HubSettings(
        memory=path is None,
        data=path.parent if path else Path(),
        max_age=max_age,
        max_size=max(max_size, 2**24),
        sql_timeout=timedelta(minutes=2),  # it starts a process, and the machine may be busy
    )
    store = Store(path)
    try:
        retention = Retention(store, max_age=max_age, max_size=max_size)
        app = create_app(store, Writer(store, retention), settings)
        with TestClient(app, base_url=BASE, follow_redirects=False) as client:
            yield HubPages(store, retention, app, client)
    finally:
        store.close()
