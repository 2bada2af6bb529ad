"""Write the messages about alerts: JSON as Alertmanager sends it, text for Slack, and e-mails."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, Final

import orjson

from modeltrace_hub.alerts.groups import AlertGroup, group_alerts, more_text
from modeltrace_hub.alerts.rules import format_value
from modeltrace_hub.alerts.states import Alert

# The format of the JSON: that of Alertmanager's webhook.
_WEBHOOK_VERSION: Final = "4"
_NO_TIME: Final = "0001-01-01T00:00:00Z"
_MAX_SUBJECT: Final = 200
_RUNBOOKS: Final = "docs/runbooks.md"


def webhook_body(receiver: str, alerts: Sequence[Alert], hub_url: str) -> bytes:
    """Return the body for a webhook. `annotations` of an alert has its value and threshold."""
    items = [_webhook_alert(alert, hub_url) for alert in alerts]
    labels = _common([item["labels"] for item in items])
    content = {
        "version": _WEBHOOK_VERSION,
        "groupKey": f"modeltrace-hub/{receiver}",
        "truncatedAlerts": 0,
        "status": _status(alerts),
        "receiver": receiver,
        "groupLabels": {},
        "commonLabels": labels,
        "commonAnnotations": _common([item["annotations"] for item in items]),
        "externalURL": hub_url,
        "alerts": items,
    }
    return orjson.dumps(content)


def slack_body(alerts: Sequence[Alert], hub_url: str) -> bytes:
    """Return the body for a Slack webhook. Texts of telemetry are escaped: they contain no links or mentions."""
    groups = _group(alerts)
    lines = [f"*{_slack_text(title([group.worst for group in groups]))}*"]
    for group in groups:
        alert = group.worst
        link = _slack_text(f"{hub_url}/{alert.condition.path}").replace("|", "%7C")
        name = _slack_text(f"{_word(alert)} {alert.rule.name}")
        summary = _slack_text(alert.condition.summary + more_text(group))
        lines.append(f"• <{link}|{name}> ({alert.rule.severity}): {summary}")
    return orjson.dumps({"text": "\n".join(lines), "unfurl_links": False, "unfurl_media": False})


def email_message(sender: str, to: Sequence[str], alerts: Sequence[Alert], hub_url: str) -> EmailMessage:
    """Return an e-mail of plain text."""
    groups = _group(alerts)
    message = EmailMessage()
    message["Subject"] = _one_line(title([group.worst for group in groups]))[:_MAX_SUBJECT]
    message["From"], message["To"] = sender, ", ".join(to)
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain="modeltrace-hub.invalid")
    # Programs that answer e-mails automatically do not answer this one (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    parts = [_email_part(group, hub_url) for group in groups]
    message.set_content("\n\n".join([*parts, f"All alerts: {hub_url}/alerts"]) + "\n")
    return message


def title(alerts: Sequence[Alert]) -> str:
    """Return the title of a message: what the alert is about, or the number of alerts with their names."""
    if len(alerts) == 1:
        (alert,) = alerts
        return f"[{_word(alert)}] {alert.rule.name} {_subject(alert)}".rstrip()
    firing = sum(alert.ended_ns is None for alert in alerts)
    names = ", ".join(dict.fromkeys(alert.rule.name for alert in alerts))
    return f"[{firing} firing, {len(alerts) - firing} resolved] {names}"


def _subject(alert: Alert) -> str:
    labels = dict(alert.condition.labels)
    names = ("ml_model_name", "ml_model_version", "ml_feature_name", "job")
    return " ".join(labels[name] for name in names if name in labels)


def _webhook_alert(alert: Alert, hub_url: str) -> dict[str, Any]:
    condition, rule = alert.condition, alert.rule
    labels = {**dict(condition.labels), "alertname": rule.name, "severity": rule.severity, "team": rule.team}
    link = f"{hub_url}/{condition.path}"
    annotations = {
        "summary": condition.summary,
        "value": repr(condition.value),
        "runbook_url": f"{_RUNBOOKS}#{rule.name.lower()}",
        "hub": link,
    }
    if condition.threshold is not None:
        annotations["threshold"] = repr(condition.threshold)
    return {
        "status": "firing" if alert.ended_ns is None else "resolved",
        "labels": labels,
        "annotations": annotations,
        "startsAt": _rfc3339(alert.since_ns),
        "endsAt": _NO_TIME if alert.ended_ns is None else _rfc3339(alert.ended_ns),
        "generatorURL": link,
        "fingerprint": hashlib.sha256(orjson.dumps(labels, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16],
    }


def _group(alerts: Sequence[Alert]) -> list[AlertGroup[Alert]]:
    return group_alerts(alerts, lambda alert: (alert.condition, alert.state))


def _email_part(group: AlertGroup[Alert], hub_url: str) -> str:
    alert = group.worst
    condition = alert.condition
    labels = ", ".join(f"{name}={_one_line(value)}" for name, value in condition.labels)
    lines = [
        f"{_word(alert)}: {alert.rule.name} ({alert.rule.severity}, team {alert.rule.team})",
        f"  {_one_line(condition.summary + more_text(group))}",
        f"  value {format_value(condition.value, 6)}"
        + ("" if condition.threshold is None else f", threshold {format_value(condition.threshold, 6)}"),
        f"  since {_rfc3339(alert.since_ns)}"
        + ("" if alert.ended_ns is None else f", until {_rfc3339(alert.ended_ns)}"),
        f"  {labels}",
        f"  {hub_url}/{condition.path}",
        f"  what to do: {_RUNBOOKS}#{alert.rule.name.lower()}",
    ]
    return "\n".join(lines)


def _word(alert: Alert) -> str:
    return "Firing" if alert.ended_ns is None else "Resolved"


def _status(alerts: Sequence[Alert]) -> str:
    return "firing" if any(alert.ended_ns is None for alert in alerts) else "resolved"


def _common(items: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = items
    return {name: value for name, value in first.items() if all(item.get(name) == value for item in others)}


def _rfc3339(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**9, UTC).isoformat().replace("+00:00", "Z")


def _slack_text(text: str) -> str:
    return _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
