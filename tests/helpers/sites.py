"""A hub for a browser, and a sender to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.helpers.hubs import running_hub
from tests.helpers.otlp_sender import Sender


@dataclass(frozen=True)
class Site:
    """A running hub: the URL of its pages, and a sender to it."""

    url: str
    sender: Sender


@contextmanager
def running_site() -> Iterator[Site]:
    """Run a hub in memory."""
    with running_hub() as hub:
        yield Site(hub.page_url, Sender(hub.otlp_url))
