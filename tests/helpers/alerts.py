"""Conditions, states and files of receivers for the tests of alerts of the hub."""

from pathlib import Path
from typing import Any

import httpx
import orjson

from modeltrace_hub.alerts.rules import RULES, Condition, make_labels
from modeltrace_hub.alerts.states import AlertStates, Interest
from tests.helpers.metric_points import SECOND

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
SECRET = "T0000/B0000/what-nobody-may-read"  # noqa: S105  made up


def condition(rule: str = "ServiceDown", value: float = 2.0, **labels: str) -> Condition:
    """Return a condition that is true."""
    return Condition(
        rule, make_labels(**(labels or {"job": "shop"})), value, 0.5, f"{rule} of <shop> & co", "traces?a=b"
    )


def write_config(folder: Path, text: str, **secrets: str) -> Path:
    """Write a file of alerts, and the files with secrets."""
    for name, secret in secrets.items():
        (folder / name).write_text(secret + "\n")
    path = folder / "alerts.toml"
    path.write_text(text)
    return path


def slack(**more: object) -> str:
    """Return a receiver whose address is in a file."""
    lines = [f"{name} = {orjson.dumps(value).decode()}" for name, value in more.items()]
    return "\n".join(["[[receivers]]", 'name = "team"', 'type = "slack"', 'url_file = "slack_url"', *lines])


def states(*names: str, resolved: bool = True) -> AlertStates:
    """Return states with one receiver."""
    return AlertStates(5 * MINUTE, [Interest("team", names or tuple(RULES), resolved, HOUR)])


def notify(alerts: AlertStates, now: int) -> list[tuple[str, str]]:
    """Return rule and state of the alerts of the next message, and accept it."""
    due = alerts.due("team", now)
    sent = [(alert.condition.rule, alert.state) for alert in due]
    alerts.mark_notified("team", due, now)
    return sent


def webhook(url: str, **more: object) -> str:
    """Return a webhook."""
    lines = [f"{name} = {orjson.dumps(value).decode()}" for name, value in more.items()]
    head = ['interval = "1s"', 'resolve_after = "0s"', "[[receivers]]", 'name = "hook"', 'type = "webhook"']
    return "\n".join([*head, f'url = "{url}"', *lines])


def page_text(hub: Any) -> str:
    """Return the page of alerts."""
    response = httpx.get(f"{hub.page_url}/alerts")
    assert response.status_code == 200
    return response.text
