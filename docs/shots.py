"""Makes docs/images/trace.png, the README's picture: a real service and hub, a prediction, and the page that shows it.

`./dev shots` runs it; it needs Chromium.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import httpx
from playwright.sync_api import sync_playwright

T = TypeVar("T")

IMAGE: Final = Path(__file__).parent / "images" / "trace.png"
SIZE: Final = (1440, 1190)

# Traces that are looked through for one with exemplars, and how many of those it should have.
LATEST: Final = 200
EXEMPLARS: Final = 3


def main() -> None:
    """Start everything, take the picture, stop everything."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("shots: needs Chromium (Debian: apt install chromium)")
    port, hub_port, grpc_port, http_port = _free_ports(4)
    arguments = ["--port", port, "--hub-port", hub_port, "--grpc-port", grpc_port, "--http-port", http_port]
    with _running(["up", *(str(part) for part in arguments)]):
        hub = f"http://127.0.0.1:{hub_port}"
        trace_id = _until(lambda: _well_connected(hub), seconds=120, what="a trace with exemplars")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, device_scale_factor=1.5)
            page.goto(f"{hub}/t/{trace_id}", wait_until="networkidle")
            IMAGE.parent.mkdir(exist_ok=True)
            page.screenshot(path=IMAGE)
            browser.close()
    sys.stdout.write(f"{IMAGE}\n")


@contextmanager
def _running(arguments: list[str]) -> Iterator[None]:
    """Run `modeltrace …` with its data in a folder that is gone afterwards."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "MODELTRACE_", "XDG_"))}
    with TemporaryDirectory() as folder:
        popen = subprocess.Popen(
            [sys.executable, "-m", "service", *arguments],
            env=clean | {"HOME": folder, "OTEL_METRIC_EXPORT_INTERVAL": "2000"},
            stdout=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            popen.send_signal(signal.SIGINT)
            popen.wait(30)


def _well_connected(hub: str) -> str | None:
    """The ID of a prediction's trace that has its records, too, and some exemplars."""
    try:
        listed = httpx.get(f"{hub}/api/traces", params={"limit": LATEST, "error": "false"}).raise_for_status().json()
        for trace in listed["traces"]:
            found: dict[str, Any] = httpx.get(f"{hub}/api/traces/{trace['trace_id']}").raise_for_status().json()
            if len(found["exemplars"]) >= EXEMPLARS and found["predictions"] and len(trace["services"]) > 1:
                return str(trace["trace_id"])
    except httpx.TransportError:
        return None
    return None


def _until(question: Callable[[], T | None], *, seconds: float, what: str) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.5)
    sys.exit(f"shots: waited {seconds:g} s for {what}")


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


if __name__ == "__main__":
    main()
