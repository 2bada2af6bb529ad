"""The path of a prediction in the service, from the ASGI call to the frame for the sidecar.

`python -m bench.counted.service FOLDER` answers the predictions of each phase and writes its frames to FOLDER.
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
from modeltrace.inference.model import Model
from modeltrace.settings import read_settings
from modeltrace.telemetry.export.health import ExportHealth
from modeltrace.telemetry.export.protocol import DONE, LINES_WRITTEN, SidecarEvent, write_frame
from modeltrace.telemetry.export.queue import ExportQueue
from modeltrace.telemetry.metrics.features import FeatureMetrics
from modeltrace.telemetry.metrics.model_catalog import ModelCatalog
from modeltrace.telemetry.metrics.predictions import PredictionMetrics
from modeltrace.telemetry.providers import SidecarPipeline, Telemetry
from modeltrace.telemetry.records.trace import RequestTracer


class FrameFile:
    """A replacement of the sidecar that writes every frame to a file and acknowledges it at once."""

    def __init__(self, path: Path, on_event: Callable[[SidecarEvent], None]) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._on_event = on_event

    def write(self, frame: tuple[object, ...]) -> None:
        """Write a frame."""
        write_frame(self._descriptor, frame)
        for kind in (LINES_WRITTEN, DONE):
            self._on_event(SidecarEvent(kind, (frame[0],)))

    def stop(self, deadline: float) -> bool:  # noqa: ARG002  part of the interface
        """Close the file."""
        os.close(self._descriptor)
        return True


def build_app(frames_file: Path, model: Model) -> tuple[ASGIApp, ExportQueue]:
    """Build the application with all requests sampled, and its export queue, which writes to a file."""
    catalog, health = ModelCatalog(), ExportHealth()
    metrics = (
        PredictionMetrics(exemplar_filter="trace_based").add,
        FeatureMetrics(catalog, exemplar_filter="trace_based").add,
    )
    queue = ExportQueue(
        lambda on_event: FrameFile(frames_file, on_event), metrics, on_event=health.on_event, model_catalog=catalog
    )
    tracer = RequestTracer(DEFAULT_ON, Random(0).getrandbits)  # noqa: S311  the same trace IDs every time
    telemetry = Telemetry(pipeline=SidecarPipeline(tracer, queue, health, Counter()))
    # The threshold makes the model run on the event loop, however slow the machine is.
    settings = read_settings(id_key="a key for counting only", store="none", inline_threshold=NEVER)
    return wrap_with_auth(create_app(settings, model, telemetry, catalog=catalog), settings), queue


async def send_predictions(app: ASGIApp, bodies: Sequence[bytes], query: bytes = b"") -> None:
    """Send each body to the application as one request, in its own task as the server does.

    `query` is the query string of all requests.

    Raises:
        RuntimeError: the status of a response was not 200.
    """
    for body in bodies:
        statuses: list[int] = []
        await asyncio.create_task(_request(app, body, query, statuses))
        if statuses != [200]:
            raise RuntimeError(f"POST /predict was answered with {statuses}, not 200")


async def _request(app: ASGIApp, body: bytes, query: bytes, statuses: list[int]) -> None:
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/predict", "raw_path": b"/predict", "query_string": query, "root_path": "",
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
    # Records wait until the queue is closed, so that the frames have the same sizes in every run.
    with patch("modeltrace.telemetry.export.queue.SEND_INTERVAL", NEVER):
        for phase, count in enumerate(PHASES):
            app, queue = build_app(folder / f"frames-{phase}", build_model())
            with counting():
                asyncio.run(send_predictions(app, bodies[:count]))
                queue.close(time.monotonic() + NEVER)


if __name__ == "__main__":
    main()
