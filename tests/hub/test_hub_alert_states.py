"""The states of alerts: when they fire, are sent again and end, also after a restart."""

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from modeltrace_hub.alerts import rules
from modeltrace_hub.alerts.states import MAX_MESSAGE_ALERTS
from tests.helpers.alerts import HOUR, MINUTE, condition, notify, states


def test_an_alert_fires_when_its_condition_has_been_true_for_the_duration() -> None:
    """A gap starts the duration again, as in Prometheus."""
    alerts = states()
    drift = condition("InputDrift")
    for minute in (0, 4):
        alerts.update([drift], minute * MINUTE)
        assert [alert.state for alert in alerts.snapshot()] == ["pending"]
    alerts.update([], 5 * MINUTE)
    assert alerts.snapshot() == []
    for minute, state in ((6, "pending"), (10, "pending"), (11, "firing")):
        alerts.update([drift], minute * MINUTE)
        assert [alert.state for alert in alerts.snapshot()] == [state]
    assert notify(alerts, 11 * MINUTE) == [("InputDrift", "firing")]


def test_an_alert_that_flaps_is_sent_once() -> None:
    """It ends only after its condition has been false for `resolve_after`."""
    alerts = states()
    for minute in range(20):
        alerts.update([condition()] if minute % 4 == 0 else [], minute * MINUTE)
        assert notify(alerts, minute * MINUTE) == ([("ServiceDown", "firing")] if minute == 0 else [])
    alerts.update([], 21 * MINUTE)
    assert notify(alerts, 21 * MINUTE) == [("ServiceDown", "ended")]
    assert notify(alerts, 22 * MINUTE) == []
    assert alerts.to_json() == []


def test_an_alert_is_sent_again_after_the_repeat_interval() -> None:
    """With its value of then."""
    alerts = states()
    sent = []
    for minute in range(0, 150, 10):
        alerts.update([condition(value=float(minute))], minute * MINUTE)
        due = alerts.due("team", minute * MINUTE)
        sent += [(minute, alert.condition.value) for alert in due]
        alerts.mark_notified("team", due, minute * MINUTE)
    assert sent == [(0, 0.0), (60, 60.0), (120, 120.0)]


def test_a_receiver_gets_its_alerts_only() -> None:
    """And no messages about the end of alerts if it does not want them."""
    alerts = states("ServiceDown", resolved=False)
    alerts.update([condition(), condition("RequestFailures")], 0)
    assert notify(alerts, 0) == [("ServiceDown", "firing")]
    alerts.update([], 10 * MINUTE)
    assert notify(alerts, 10 * MINUTE) == []
    assert alerts.to_json() == []


def test_an_alert_that_ended_before_a_receiver_could_be_reached_is_not_sent() -> None:
    """Messages are about current states."""
    alerts = states()
    alerts.update([condition()], 0)
    alerts.update([], 10 * MINUTE)
    assert notify(alerts, 10 * MINUTE) == []


def test_a_message_has_a_limited_number_of_alerts() -> None:
    """The others are in the next one."""
    alerts = states()
    alerts.update([condition(job=f"service-{number}") for number in range(MAX_MESSAGE_ALERTS + 7)], 0)
    assert [len(notify(alerts, 0)) for _ in range(3)] == [MAX_MESSAGE_ALERTS, 7, 0]


def test_states_survive_a_restart() -> None:
    """An alert that was sent is not sent again, and its end is sent. What is pending starts again."""
    before = states()
    before.update([condition(), condition("InputDrift")], HOUR)
    assert notify(before, HOUR) == [("ServiceDown", "firing")]

    after = states()
    after.load(orjson.loads(orjson.dumps(before.to_json())), HOUR + MINUTE)
    after.update([condition()], HOUR + MINUTE)
    assert notify(after, HOUR + MINUTE) == []
    assert [alert.since_ns for alert in after.snapshot()] == [HOUR]
    after.update([], HOUR + 10 * MINUTE)
    assert notify(after, HOUR + 10 * MINUTE) == [("ServiceDown", "ended")]


def test_conditions_above_the_limit_of_a_rule_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other rules are not affected, and an alert that fires does not end when others push its condition back."""
    monkeypatch.setattr(rules, "MAX_CONDITIONS", 3)
    alerts = states()
    alerts.update([condition(job="first")], 0)
    assert alerts.left_out == {}
    many = [condition(job=f"service-{number}") for number in range(10)]
    for minute in (1, 10):
        alerts.update([*many, condition(job="first"), condition("RequestFailures")], minute * MINUTE)
        firing = [(alert.condition.rule, dict(alert.condition.labels)["job"]) for alert in alerts.snapshot()]
        assert sorted(firing) == [
            ("RequestFailures", "shop"),
            ("ServiceDown", "first"),
            ("ServiceDown", "service-0"),
            ("ServiceDown", "service-1"),
        ]
        assert alerts.left_out == {"ServiceDown": 8}
    alerts.update(many[:3], 20 * MINUTE)
    assert alerts.left_out == {}


def test_a_clock_that_ran_ahead_does_not_stop_alerts() -> None:
    """After it is set right, alerts fire, are sent again and end as if they had begun then; also after a restart."""
    before = states()
    before.update([condition()], 10 * HOUR)
    assert notify(before, 10 * HOUR) == [("ServiceDown", "firing")]
    after = states()
    after.load(orjson.loads(orjson.dumps(before.to_json())), HOUR)
    before.update([condition(), condition("InputDrift")], 10 * HOUR)

    for alerts in (before, after):
        true = [condition(), condition("InputDrift")]
        alerts.update(true, HOUR)
        assert notify(alerts, HOUR) == []
        alerts.update(true, 2 * HOUR)
        assert notify(alerts, 2 * HOUR) == [("ServiceDown", "firing"), ("InputDrift", "firing")]
        alerts.update([], 2 * HOUR + 6 * MINUTE)
        assert notify(alerts, 3 * HOUR) == [("ServiceDown", "ended"), ("InputDrift", "ended")]


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"since_ns": "now"},
            {"since_ns": -1},
            {"since_ns": None},
            {"fired_ns": [1]},
            {"fired_ns": 10**30},
            {"notified_ns": {"team": "x"}},
        ),
        *(
            {"value": "much"},
            {"threshold": {}},
            {"summary": 5},
            {"path": None},
            {"labels": [["job", 1]]},
            {"labels": 3},
        ),
    ],
)
def test_stored_states_with_wrong_types_are_refused(change: dict[str, Any]) -> None:
    """As a whole: the pages of alerts could not show them."""
    before = states()
    before.update([condition(), condition("RequestFailures")], HOUR)
    items = orjson.loads(orjson.dumps(before.to_json()))
    for name, value in change.items():
        (items[1] if name in items[1] else items[1]["condition"])[name] = value

    after = states()
    with pytest.raises(ValidationError):
        after.load(items, HOUR)
    assert after.snapshot() == []
