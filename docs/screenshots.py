"""Take the screenshots of the README in docs/images: the pages of a trace and of its model in a real hub.

`./dev screenshots` runs this script. It needs Chromium.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import httpx
from ephemeral_port_reserve import reserve
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

T = TypeVar("T")

IMAGES: Final = Path(__file__).parent / "images"
WIDTH: Final = 1440
HEIGHTS: Final = {"trace": 1190, "models": 1250}

# Number of traces to search for one with exemplars, and the minimum number of its exemplars.
MAX_TRACES: Final = 200
MIN_EXEMPLARS: Final = 3
# Minimum number of predictions on the page of the model.
MIN_PREDICTIONS: Final = 700


def main() -> None:
    """Start service and hub, take the screenshots, and stop both."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("screenshots: needs Chromium (Debian: apt install chromium)")
    port, hub_port, grpc_port, http_port = (reserve() for _ in range(4))
    options = ["--port", port, "--hub-port", hub_port, "--grpc-port", grpc_port, "--http-port", http_port]
    with _run_modeltrace(["up", *map(str, options)]):
        hub = f"http://127.0.0.1:{hub_port}"
        trace_id = _wait_for(lambda: _find_trace(hub), seconds=120, description="trace with exemplars")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            _take_screenshot(browser, f"{hub}/t/{trace_id}", "trace")
            _wait_for(lambda: _is_evaluated(hub), seconds=180, description="metrics of the model")
            _take_screenshot(browser, f"{hub}/models?since=15m", "models")
            browser.close()


def _take_screenshot(browser: Browser, url: str, name: str) -> None:
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHTS[name]}, device_scale_factor=1.5)
    page.goto(url, wait_until="networkidle")
    IMAGES.mkdir(exist_ok=True)
    image = Image.open(BytesIO(page.screenshot())).convert("RGB")
    page.close()
    # The pages have few colours: a palette makes the file a third as large.
    palette = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette.save(IMAGES / f"{name}.png", optimize=True)
    sys.stdout.write(f"{IMAGES / name}.png\n")


@contextmanager
def _run_modeltrace(arguments: list[str]) -> Iterator[None]:
    """Run `modeltrace …` with its data in a temporary folder."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "MODELTRACE_", "XDG_"))
    }
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "modeltrace", *arguments],
            env=inherited
            | {"HOME": folder, "OTEL_METRIC_EXPORT_INTERVAL": "2000", "MODELTRACE_EVALUATION_INTERVAL": "5"},
            stdout=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _find_trace(hub: str) -> str | None:
    """Return the ID of a trace of several services that has stored predictions and exemplars."""
    try:
        page = httpx.get(f"{hub}/api/traces", params={"limit": MAX_TRACES, "error": "false"}).raise_for_status().json()
        for trace in page["traces"]:
            details: dict[str, Any] = httpx.get(f"{hub}/api/traces/{trace['trace_id']}").raise_for_status().json()
            if len(details["exemplars"]) >= MIN_EXEMPLARS and details["predictions"] and len(trace["services"]) > 1:
                return str(trace["trace_id"])
    except httpx.TransportError:
        return None
    return None


def _is_evaluated(hub: str) -> bool:
    """Return whether the first model has enough predictions and an evaluation of its labels."""
    (first, *_) = httpx.get(f"{hub}/api/models").raise_for_status().json()["models"]
    (version, *_) = httpx.get(f"{hub}/api/models/{first['name']}").raise_for_status().json()["versions"]
    return version["predictions"]["count"] >= MIN_PREDICTIONS and bool(version["evaluation"])


def _wait_for(condition: Callable[[], T | None], *, seconds: float, description: str) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.5)
    sys.exit(f"screenshots: no {description} after {seconds:g} s")


if __name__ == "__main__":
    main()
