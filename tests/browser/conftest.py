"""A browser of the system's, and a hub for it to look at. Without Chromium these tests are skipped."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.browser.telemetry import Sender
from tests.helpers.processes import free_port, running

NAMES = ("chromium", "chromium-browser", "google-chrome")

# The sandbox needs rights that root in a container has not; the rest keeps it from calling anyone.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """The path of the system's Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a browser, and skip it where there is none."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
            if chromium() is None:
                item.add_marker(
                    pytest.mark.skip(reason="the pages in a browser: no Chromium (Debian: apt install chromium)")
                )


@dataclass(frozen=True)
class Site:
    """A running hub: where its pages are, and a sender to it."""

    url: str
    sender: Sender


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a module: a longer one would leave its event loop running in later tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*ARGUMENTS])
        yield browser
        browser.close()


@contextmanager
def running_hub() -> Iterator[Site]:
    """Run a hub in memory."""
    port, http_port = free_port(), free_port()
    arguments = ["hub", "--memory", "--port", str(port), "--http-port", str(http_port), "--grpc-port", str(free_port())]
    with running(arguments) as process:
        process.wait_for(f"http://127.0.0.1:{port}/healthz")
        yield Site(f"http://127.0.0.1:{port}", Sender(f"http://127.0.0.1:{http_port}"))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A hub, one for the tests of a module."""
    with running_hub() as site:
        yield site


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A fresh tab whose addresses are the hub's. What the browser complains about fails the test."""
    context = browser.new_context(base_url=site.url, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # The browser notes every answer that is no success; tests look at what the page makes of it.
        if message.type in {"error", "warning"} and "responded with a status of 4" not in message.text:
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []
