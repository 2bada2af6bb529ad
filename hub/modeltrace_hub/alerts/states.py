"""The states of alerts: pending, firing, ended; and which receivers have been notified of what.

    condition is true ─► pending ──(duration of the rule)──► firing ──(no longer true for `resolve_after`)──► ended
                            │ no longer true
                            ▼
                         forgotten

Nothing is queued for a receiver: its next message is computed from the states. After an outage a receiver gets the
current states, not old messages. An alert that fired and ended during the outage is not reported.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from modeltrace_hub.alerts.rules import RULES, Condition, Rule, limit_conditions

# The maximum number of alerts in one message.
MAX_MESSAGE_ALERTS: Final = 50
# A receiver that cannot be reached for this time gets no message that an alert has ended.
_KEEP_ENDED_NS: Final = 24 * 3600 * 10**9

Nanoseconds = Annotated[int, Field(ge=0, lt=2**63)]
AlertKey = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class Alert:
    """A condition with its times, in nanoseconds."""

    condition: Condition
    since_ns: Nanoseconds  # when the condition became true
    last_true_ns: Nanoseconds
    fired_ns: Nanoseconds | None = None
    ended_ns: Nanoseconds | None = None
    notified_ns: dict[str, Nanoseconds] = field(default_factory=dict)  # the last message that it fires, by receiver

    @property
    def state(self) -> Literal["pending", "firing", "ended"]:
        """The state."""
        if self.ended_ns is not None:
            return "ended"
        return "pending" if self.fired_ns is None else "firing"

    @property
    def rule(self) -> Rule:
        """The rule."""
        return RULES[self.condition.rule]


_as_alert: Final = TypeAdapter(Alert)


@dataclass(frozen=True, slots=True)
class Interest:
    """Which alerts a receiver wants, and how often."""

    receiver: str
    rules: Collection[str]
    send_resolved: bool
    repeat_interval_ns: int


class AlertStates:
    """All alerts. Not thread-safe."""

    def __init__(self, resolve_after_ns: int, interests: Iterable[Interest]) -> None:
        self._resolve_after_ns = resolve_after_ns
        self._interests: Mapping[str, Interest] = {interest.receiver: interest for interest in interests}
        self._alerts: dict[AlertKey, Alert] = {}
        self.left_out: Mapping[str, int] = {}  # the number of conditions above the limit, by rule

    def update(self, conditions: Iterable[Condition], now_ns: int) -> None:
        """Record the conditions that are true now. New ones above the limit of their rule are left out."""
        self._limit_times(now_ns)
        true_now = {(condition.rule, condition.labels): condition for condition in conditions}
        for key, alert in list(self._alerts.items()):
            if key in true_now:
                continue
            if alert.state == "pending":
                del self._alerts[key]
            elif alert.state == "firing" and now_ns - alert.last_true_ns >= self._resolve_after_ns:
                alert.ended_ns = now_ns
        # Known alerts are never left out: they would be reported as ended although they are true.
        known = {key for key, alert in self._alerts.items() if alert.ended_ns is None}
        new = [condition for key, condition in true_now.items() if key not in known]
        new, self.left_out = limit_conditions(new, Counter(rule for rule, _ in known))
        for condition in new:
            self._alerts[condition.rule, condition.labels] = Alert(condition, now_ns, now_ns)
        for key, alert in self._alerts.items():
            if key not in true_now or alert.ended_ns is not None:
                continue
            alert.condition, alert.last_true_ns = true_now[key], now_ns
            if alert.fired_ns is None and now_ns - alert.since_ns >= alert.rule.duration_ns:
                alert.fired_ns = now_ns
        self._forget_ended(now_ns)

    def _limit_times(self, now_ns: int) -> None:
        """Replace times in the future, which a clock that ran ahead has left. Alerts would neither fire nor end."""
        for alert in self._alerts.values():
            alert.since_ns, alert.last_true_ns = min(alert.since_ns, now_ns), min(alert.last_true_ns, now_ns)
            alert.fired_ns = None if alert.fired_ns is None else min(alert.fired_ns, now_ns)
            alert.ended_ns = None if alert.ended_ns is None else min(alert.ended_ns, now_ns)
            alert.notified_ns = {receiver: min(time_ns, now_ns) for receiver, time_ns in alert.notified_ns.items()}

    def snapshot(self) -> list[Alert]:
        """Return copies of the firing alerts, followed by the pending ones; the newest of each are first."""
        alerts = [replace(alert) for alert in self._alerts.values() if alert.ended_ns is None]
        return sorted(alerts, key=lambda alert: (alert.state != "firing", -alert.since_ns, alert.condition.rule))

    def due(self, receiver: str, now_ns: int) -> list[Alert]:
        """Return the alerts that the next message to a receiver contains, at most `MAX_MESSAGE_ALERTS`."""
        interest = self._interests[receiver]
        return [alert for alert in self._alerts.values() if _is_due(alert, interest, now_ns)][:MAX_MESSAGE_ALERTS]

    def mark_notified(self, receiver: str, alerts: Iterable[Alert], now_ns: int) -> None:
        """Record that a receiver has accepted a message with these alerts, in the states that they had then."""
        for sent in alerts:
            alert = self._alerts.get((sent.condition.rule, sent.condition.labels))
            if alert is None or alert.since_ns != sent.since_ns:
                continue
            if sent.ended_ns is None:
                alert.notified_ns[receiver] = now_ns
            else:
                alert.notified_ns.pop(receiver, None)
        self._forget_ended(now_ns)

    def _forget_ended(self, now_ns: int) -> None:
        for key, alert in list(self._alerts.items()):
            if alert.ended_ns is None:
                continue
            waiting = any(_is_due(alert, interest, now_ns) for interest in self._interests.values())
            if not waiting or now_ns - alert.ended_ns > _KEEP_ENDED_NS:
                del self._alerts[key]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the alerts that have fired, for `load`."""
        return [asdict(alert) for alert in self._alerts.values() if alert.fired_ns is not None]

    def load(self, items: Iterable[Mapping[str, Any]], now_ns: int) -> None:
        """Continue with alerts of an earlier run. They end if their conditions are not true soon.

        Raises:
            ValueError: the items are not those of `to_json`; no alert is added.
        """
        alerts = [_as_alert.validate_python(item) for item in items]
        for alert in alerts:
            if alert.condition.rule in RULES:
                alert.last_true_ns = now_ns
                self._alerts[alert.condition.rule, alert.condition.labels] = alert
        self._limit_times(now_ns)


def _is_due(alert: Alert, interest: Interest, now_ns: int) -> bool:
    if alert.condition.rule not in interest.rules or alert.fired_ns is None:
        return False
    notified_ns = alert.notified_ns.get(interest.receiver)
    if alert.ended_ns is not None:
        return notified_ns is not None and interest.send_resolved
    return notified_ns is None or now_ns - notified_ns >= interest.repeat_interval_ns
