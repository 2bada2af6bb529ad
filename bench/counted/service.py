"""The service's path of a prediction, from ASGI to the frame for the exporter process.

`python -m bench.counted.service FOLDER` answers the predictions of each phase and leaves its frames in FOLDER.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast
from unittest.mock import patch

import orjson
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from starlette.types import ASGIApp, Message

from bench.counted.model import build_model, build_rows
from bench.counted.phases import NEVER, PHASES, counting, start_counting
from modeltrace.api.auth import wrap_with_auth
from modeltrace.app import create_app
from modeltrace.settings import read_settings
from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.export.protocol import DONE, LINES_WRITTEN, SidecarEvent, write_frame
from modeltrace.telemetry.export.queue import ExportQueue
from modeltrace.telemetry.metrics.features import FeatureMetrics
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.predictions import PredictionMetrics
from modeltrace.telemetry.provider import SidecarPipeline, Telemetry
from modeltrace.telemetry.records.trace import RequestTracer


class FrameFile:
    """Stands for the exporter process: keeps every frame in a file and confirms it at once."""

    def __init__(self, path: Path, on_event: Callable[[SidecarEvent], None]) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._on_event = on_event

    def write(self, frame: tuple[object, ...]) -> None:
        """Write a frame."""
        write_frame(self._descriptor, frame)
        for kind in (LINES_WRITTEN, DONE):
            self._on_event(SidecarEvent(kind, (frame[0],)))

    def stop(self, deadline: float) -> bool:  # noqa: ARG002  the protocol's
        """Close the file."""
        os.close(self._descriptor)
        return True


def build_app(frames_file: Path) -> tuple[ASGIApp, ExportQueue]:
    """The application with telemetry from records, all of it sampled and counted; its outbox writes to a file."""
    catalog, health = ModelCatalog(), ExportHealth()
    metrics = (
        PredictionMetrics(exemplar_filter="trace_based"),
        FeatureMetrics(catalog, exemplar_filter="trace_based"),
    )
    queue = ExportQueue(
        lambda hear: FrameFile(frames_file, hear), metrics, on_event=health.on_event, model_catalog=catalog
    )
    tracing = RequestTracer(DEFAULT_ON, Random(0).getrandbits)  # noqa: S311  the same trace IDs every time
    telemetry = Telemetry(pipeline=SidecarPipeline(tracing, queue, health, Counter()))
    # However slow the machine that counts is, the model is asked on the event loop.
    settings = read_settings(id_key="a key for counting only", store="none", inline_threshold=NEVER)
    return wrap_with_auth(create_app(settings, build_model(), telemetry, catalog=catalog), settings), queue


async def send_predictions(app: ASGIApp, bodies: Sequence[bytes]) -> None:
    """Put each body to the application as a request of its own, in a task as the server does.

    Raises:
        RuntimeError: one was not answered with 200.
    """
    for body in bodies:
        statuses: list[int] = []
        await asyncio.create_task(_request(app, body, statuses))
        if statuses != [200]:
            raise RuntimeError(f"POST /predict was answered with {statuses}, not 200")


async def _request(app: ASGIApp, body: bytes, statuses: list[int]) -> None:
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/predict", "raw_path": b"/predict", "query_string": b"", "root_path": "",
        "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 50000),
        "headers": [
            (b"host", b"127.0.0.1:8000"), (b"user-agent", b"bench"), (b"accept", b"*/*"),
            (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
        ],
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(cast("int", message["status"]))

    await app(scope, receive, send)


def main() -> None:
    """Run every phase."""
    folder = Path(sys.argv[1])
    bodies = [orjson.dumps({"features": row}) for row in build_rows(max(PHASES))]
    start_counting()
    # Records wait until the outbox is closed, so that they go out in frames of the same size every time.
    with patch("modeltrace.telemetry.export.queue.SEND_INTERVAL", NEVER):
        for phase, count in enumerate(PHASES):
            app, queue = build_app(folder / f"frames-{phase}")
            with counting():
                asyncio.run(send_predictions(app, bodies[:count]))
                queue.close(time.monotonic() + NEVER)


if __name__ == "__main__":
    main()
