"""Makes the README's pictures in docs/images: a real service and hub, a prediction's page, and that of its model.

`./dev shots` runs it; it needs Chromium.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import httpx
from ephemeral_port_reserve import reserve
from playwright.sync_api import Browser, sync_playwright

T = TypeVar("T")

IMAGES: Final = Path(__file__).parent / "images"
WIDTH: Final = 1440
HEIGHTS: Final = {"trace": 1190, "models": 1250}

# Traces that are looked through for one with exemplars, and how many of those it should have.
LATEST: Final = 200
EXEMPLARS: Final = 3
# Predictions that a model's page should speak of.
PREDICTIONS: Final = 700


def main() -> None:
    """Start everything, take the pictures, stop everything."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("shots: needs Chromium (Debian: apt install chromium)")
    port, hub_port, grpc_port, http_port = (reserve() for _ in range(4))
    arguments = ["--port", port, "--hub-port", hub_port, "--grpc-port", grpc_port, "--http-port", http_port]
    with _running(["up", *(str(part) for part in arguments)]):
        hub = f"http://127.0.0.1:{hub_port}"
        trace_id = _until(lambda: _well_connected(hub), seconds=120, what="a trace with exemplars")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            _shoot(browser, f"{hub}/t/{trace_id}", "trace")
            _until(lambda: _evaluated(hub), seconds=180, what="figures of the model")
            _shoot(browser, f"{hub}/models?window=15m", "models")
            browser.close()


def _shoot(browser: Browser, url: str, name: str) -> None:
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHTS[name]}, device_scale_factor=1.5)
    page.goto(url, wait_until="networkidle")
    IMAGES.mkdir(exist_ok=True)
    page.screenshot(path=IMAGES / f"{name}.png")
    page.close()
    sys.stdout.write(f"{IMAGES / name}.png\n")


@contextmanager
def _running(arguments: list[str]) -> Iterator[None]:
    """Run `modeltrace …` with its data in a folder that is gone afterwards."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "MODELTRACE_", "XDG_"))}
    with TemporaryDirectory() as folder:
        popen = subprocess.Popen(
            [sys.executable, "-m", "modeltrace", *arguments],
            env=clean | {"HOME": folder, "OTEL_METRIC_EXPORT_INTERVAL": "2000", "MODELTRACE_EVALUATION_INTERVAL": "5"},
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


def _evaluated(hub: str) -> bool:
    """Whether the first model has answered a good deal, and its labels have been looked at."""
    (first, *_) = httpx.get(f"{hub}/api/models").raise_for_status().json()["models"]
    (version, *_) = httpx.get(f"{hub}/api/models/{first['name']}").raise_for_status().json()["versions"]
    return version["predictions"]["count"] >= PREDICTIONS and bool(version["evaluation"])


def _until(question: Callable[[], T | None], *, seconds: float, what: str) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.5)
    sys.exit(f"shots: waited {seconds:g} s for {what}")


if __name__ == "__main__":
    main()
