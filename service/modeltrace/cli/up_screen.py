"""What `modeltrace up` prints: fixed lines, then a line about traffic."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from modeltrace.client.service import ServedModel
from modeltrace.local.plan import HUB_KEY, UpConfig
from modeltrace.local.supervisor import Screen
from modeltrace.terminal import command
from modeltrace.traffic.progress import Snapshot

# Seconds between two lines of traffic if stdout is not a terminal.
PLAIN_INTERVAL = 10.0

HINT_LINE = f"Ctrl-C stops everything. Serve your own model: {command('pack --help')}"

SYNTHETIC_LINE = (
    "  synthetic  drift and metrics leave generated requests out; commands include them with --include-synthetic"
)


@contextmanager
def open_screen(console: Console) -> Iterator[Screen]:
    """Yield the screen for a terminal, or for a file or pipe."""
    if not console.is_terminal:
        yield PlainScreen(console)
        return
    with closing(TerminalScreen(console)) as screen:
        yield screen


def header_lines(config: UpConfig, model: ServedModel) -> list[Text]:
    """Return the lines that do not change: the model, and the URLs of the service and the telemetry."""
    if config.stack is not None:
        telemetry = Text("  ").join(_link(url) for url in config.stack.page_urls)
        if config.stack.note:
            telemetry.append(f"  ({config.stack.note})")
    else:
        telemetry = Text(config.external_telemetry) if config.external_telemetry else _link(config.hub_url)
    if config.hub_has_key and config.starts_hub:
        telemetry.append(f"  (append ?key= and the value of {HUB_KEY} the first time)")
    synthetic = [Text(SYNTHETIC_LINE)] if config.rate is not None and not config.is_example else []
    return [
        Text(f"Modeltrace · {model.name} {model.version} · {len(model.features)} features", style="bold"),
        Text("  predict    ").append(_link(f"{config.service_url}/docs")),
        Text("  telemetry  ").append(telemetry),
        *synthetic,
    ]


def _link(url: str) -> Text:
    return Text(url, style=f"link {url}")


def traffic_line(snapshot: Snapshot | None, config: UpConfig, *, full_trace_id: bool) -> Text:
    """Return the line about traffic; without a snapshot, traffic is starting or off."""
    line = Text("  traffic    ")
    if config.rate is None:
        return line.append(f"none; start it with: {command(config.traffic_command)}")
    if snapshot is None:
        return line.append("starting")
    if config.stack is None:
        hub_url = config.hub_url if config.starts_hub else None
        return line.append(snapshot.to_text(latency=False, full_trace_id=full_trace_id, hub_url=hub_url))
    line.append(replace(snapshot, last_trace_id=None).to_text(latency=False))
    if trace_id := snapshot.last_trace_id:
        url = f"{config.stack.trace_url_prefix}{trace_id}"
        line.append(" · last trace ").append(url if full_trace_id else f"{trace_id[:8]}…", style=f"link {url}")
    return line


class TerminalScreen:
    """Fixed lines, and a line about traffic that is rewritten in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._config: UpConfig | None = None
        self._status = console.status("")

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._status.stop()
        self._live.stop()

    def show_waiting(self, target: str) -> None:
        """Show a spinner."""
        self._live.stop()
        self._status.update(Text(f"waiting for {target}"))
        self._status.start()

    def show_started(self, config: UpConfig, model: ServedModel) -> None:
        """Print the fixed lines."""
        self._status.stop()
        self._config = config
        for line in header_lines(config, model):
            self._console.print(line, soft_wrap=True)
        self._live.start()
        self.show_traffic(None)

    def show_traffic(self, snapshot: Snapshot | None) -> None:
        """Rewrite the line about traffic."""
        if self._config is not None:
            line = traffic_line(snapshot, self._config, full_trace_id=False)
            self._live.update(Group(line, Text(HINT_LINE, style="dim")), refresh=True)


class PlainScreen:
    """The same lines for a file or a pipe, with a line about traffic at intervals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._config: UpConfig | None = None
        self._next_line_at = 0.0

    def show_waiting(self, target: str) -> None:
        """Print a line."""
        self._print(Text(f"waiting for {target}"))

    def show_started(self, config: UpConfig, model: ServedModel) -> None:
        """Print the fixed lines."""
        self._config = config
        for line in header_lines(config, model):
            self._print(line)
        if config.rate is None:
            self._print(traffic_line(None, config, full_trace_id=True))
        self._print(Text(HINT_LINE))

    def show_traffic(self, snapshot: Snapshot) -> None:
        """Print the line about traffic if the interval has passed."""
        if self._config is not None and time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + PLAIN_INTERVAL
            self._print(traffic_line(snapshot, self._config, full_trace_id=True))

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)
