"""Evaluate the rules periodically, and notify the receivers.

every `interval`: evaluate (thread) ─► states ─► file
                                         │
                      one task per receiver: due alerts ─► message ─► accepted? ─► states
                                         ▲                               │ no
                                         └── wait, doubling up to 5 min ◄┘
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import orjson

from modeltrace_hub.alerts import rules
from modeltrace_hub.alerts.config import AlertConfig, Receiver
from modeltrace_hub.alerts.delivery import send
from modeltrace_hub.alerts.rules import Condition
from modeltrace_hub.alerts.states import Alert, AlertStates, Interest
from modeltrace_hub.errors import HubError

logger = logging.getLogger(__name__)

STATE_FILE: Final = "alerts.json"
MIN_RETRY_SECONDS: Final = 5.0
MAX_RETRY_SECONDS: Final = 300.0

# Returns the conditions that are true at a time, in nanoseconds. It blocks.
Evaluate = Callable[[int], list[Condition]]


@dataclass(frozen=True, slots=True)
class ReceiverStatus:
    """The last delivery to a receiver."""

    name: str
    type: str
    delivered_ns: int | None = None  # the last message that it accepted
    error: str | None = None  # why it did not accept the last message; None if it did


@dataclass(frozen=True, slots=True)
class MonitorStatus:
    """What the page of alerts shows. A new object replaces it after each change."""

    evaluated_ns: int | None
    error: str | None  # why the last evaluation failed
    alerts: tuple[Alert, ...]
    receivers: tuple[ReceiverStatus, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)  # conditions above the limit, by rule


class AlertMonitor:
    """Evaluates the rules of a hub until `run` is cancelled."""

    def __init__(self, config: AlertConfig, evaluate: Evaluate, hub_url: str, state_path: Path | None) -> None:
        """Load the states of an earlier run, if there is a file.

        Args:
            config: the receivers and intervals.
            evaluate: evaluates all rules.
            hub_url: the address of the hub in messages.
            state_path: the file for the states; None: they are lost when the hub stops.
        """
        self._config = config
        self._evaluate = evaluate
        self._hub_url = config.hub_url.rstrip("/") if config.hub_url else hub_url
        self._state_path = state_path
        self._saved: bytes | None = None
        self._states = AlertStates(
            _ns(config.resolve_after),
            [
                Interest(
                    receiver.name,
                    receiver.rules,
                    receiver.send_resolved,
                    _ns(receiver.repeat_interval or config.repeat_interval),
                )
                for receiver in config.receivers
            ],
        )
        self._wake = {receiver.name: asyncio.Event() for receiver in config.receivers}
        self._load()
        receivers = tuple(ReceiverStatus(receiver.name, receiver.type) for receiver in config.receivers)
        self._status = MonitorStatus(None, None, tuple(self._states.snapshot()), receivers)

    @property
    def status(self) -> MonitorStatus:
        """The current status. Thread-safe, because it is an immutable object."""
        return self._status

    async def run(self) -> None:
        """Evaluate and notify."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._evaluate_periodically())
            for receiver in self._config.receivers:
                tasks.create_task(self._notify(receiver))

    async def _evaluate_periodically(self) -> None:
        while True:
            await self._evaluate_once()
            await asyncio.sleep(self._config.interval.total_seconds())

    async def _evaluate_once(self) -> None:
        now_ns = time.time_ns()
        evaluation = asyncio.get_running_loop().run_in_executor(None, self._evaluate, now_ns)
        try:
            conditions = await asyncio.shield(evaluation)
        except asyncio.CancelledError:
            await asyncio.wait([evaluation])  # the store is closed after this
            raise
        except Exception as error:  # noqa: BLE001  any error is logged, and the next evaluation tries again
            if self._status.error is None:
                logger.warning("The alert rules cannot be evaluated: %s", error)
            self._status = replace(self._status, error=str(error))
            return
        self._states.update(conditions, now_ns)
        left_out = self._states.left_out
        if new := sorted(left_out.keys() - self._status.left_out.keys()):
            logger.warning(
                "Conditions of the alert rules %s are left out, because each rule has at most %s.",
                ", ".join(f"{rule} ({left_out[rule]})" for rule in new),
                rules.MAX_CONDITIONS,
            )
        alerts = tuple(self._states.snapshot())
        self._status = replace(self._status, evaluated_ns=now_ns, error=None, alerts=alerts, left_out=left_out)
        self._save()
        for event in self._wake.values():
            event.set()

    async def _notify(self, receiver: Receiver) -> None:
        """Send messages to a receiver whenever alerts are due."""
        pause = MIN_RETRY_SECONDS
        while True:
            await self._wake[receiver.name].wait()
            self._wake[receiver.name].clear()
            while due := self._states.due(receiver.name, time.time_ns()):
                alerts = [replace(alert) for alert in due]
                try:
                    await send(receiver, alerts, self._hub_url)
                except Exception as error:  # noqa: BLE001  any error is logged, and the message is sent again
                    self._record_failure(receiver, error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, MAX_RETRY_SECONDS)
                    continue
                pause = MIN_RETRY_SECONDS
                now_ns = time.time_ns()
                self._states.mark_notified(receiver.name, alerts, now_ns)
                self._set_receiver(receiver.name, delivered_ns=now_ns, error=None)
                self._save()

    def _record_failure(self, receiver: Receiver, error: Exception) -> None:
        # The texts of other errors may contain secrets.
        text = str(error) if isinstance(error, HubError) else type(error).__name__
        current = next(item for item in self._status.receivers if item.name == receiver.name)
        if current.error is None:
            logger.warning("The alert receiver %s gets no messages, which are sent again: %s", receiver.name, text)
        self._set_receiver(receiver.name, delivered_ns=current.delivered_ns, error=text)

    def _set_receiver(self, name: str, *, delivered_ns: int | None, error: str | None) -> None:
        receivers = tuple(
            replace(item, delivered_ns=delivered_ns, error=error) if item.name == name else item
            for item in self._status.receivers
        )
        self._status = replace(self._status, receivers=receivers)

    def _load(self) -> None:
        if self._state_path is None:
            return
        try:
            self._states.load(orjson.loads(self._state_path.read_bytes()), time.time_ns())
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning(
                "The states of alerts in %s cannot be read (%s). Alerts that fire are sent again.",
                self._state_path,
                type(error).__name__,
            )

    def _save(self) -> None:
        """Write the states to the file if they have changed."""
        if self._state_path is None:
            return
        content = orjson.dumps(self._states.to_json())
        if content == self._saved:
            return
        temporary = self._state_path.with_suffix(".tmp")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, self._state_path)  # noqa: PTH105  a file is complete or not replaced
        except OSError as error:
            logger.warning("The states of alerts cannot be written to %s: %s", self._state_path, error.strerror)
            with suppress(OSError):
                temporary.unlink()
            return
        self._saved = content


def _ns(value: timedelta) -> int:
    return value // timedelta(microseconds=1) * 1000
