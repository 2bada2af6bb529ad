"""Messages about alerts: the file of receivers, the states of alerts, and deliveries, also to hostile receivers."""

import asyncio
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from modeltrace_hub.__main__ import cli
from modeltrace_hub.alerts import delivery, monitor, rules
from modeltrace_hub.alerts.config import read_alert_config
from modeltrace_hub.alerts.groups import group_alerts
from modeltrace_hub.alerts.messages import email_message, slack_body, webhook_body
from modeltrace_hub.alerts.monitor import AlertMonitor
from modeltrace_hub.alerts.rules import RULES, Condition, make_labels
from modeltrace_hub.alerts.states import MAX_MESSAGE_ALERTS, Alert, AlertStates, Interest
from modeltrace_hub.errors import SettingsError, StoreError
from tests.helpers.certificates import self_signed
from tests.helpers.in_process_hubs import in_process_hub
from tests.helpers.metric_points import SECOND, gauge
from tests.helpers.model_features import Feature
from tests.helpers.model_telemetry import ModelService
from tests.helpers.otlp_sender import Sender
from tests.helpers.processes import free_port, wait_until
from tests.helpers.receivers import PASSWORD, Response, notification_receivers, otlp_http

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


def email(**changes: object) -> str:
    """Return a receiver of e-mails."""
    values = {"name": "a", "type": "email", "host": "h", "sender": "a@b", "to": ["c@d"], **changes}
    return "\n".join(["[[receivers]]", *(f"{name} = {orjson.dumps(value).decode()}" for name, value in values.items())])


def slack(**more: object) -> str:
    """Return a receiver whose address is in a file."""
    lines = [f"{name} = {orjson.dumps(value).decode()}" for name, value in more.items()]
    return "\n".join(["[[receivers]]", 'name = "team"', 'type = "slack"', 'url_file = "slack_url"', *lines])


# --- The file ---


def test_a_file_is_read_with_the_files_that_it_names(tmp_path: Path) -> None:
    """Relative paths are relative to the folder of the file; alerts are selected by name, severity and team."""
    text = 'interval = "30s"\ndisabled = ["NoPredictions"]\n' + slack(
        alerts=["InputDrift", "ConceptDrift", "ServiceDown"], severities=["page"], teams=["ml"]
    )
    config = read_alert_config(write_config(tmp_path, text, slack_url=f"https://hooks.example.org/{SECRET}"))

    (receiver,) = config.receivers
    assert config.interval.total_seconds() == 30
    assert config.disabled == ["NoPredictions"]
    assert receiver.rules == {"ConceptDrift"}
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("receivers = 1", "receivers: Input should be a valid list"),
        ("[[receivers", "is not TOML"),
        ("colour = 'red'", "colour: Extra inputs are not permitted"),
        ("interval = '10 parsecs'", "interval: '10 parsecs' is not a duration"),
        ("interval = '1ms'", "interval: Input should be greater than or equal to 1 second"),
        ("disabled = ['Drift']", "the hub has no alert Drift; its alerts are InputDrift, "),
        (slack(alerts=["CollectorDown"]), "the hub has no alert CollectorDown"),
        (slack(url="https://hooks.example.org/x"), "write either url or url_file"),
        (slack(type_="x"), "type_: Extra inputs are not permitted"),
        (slack() + "\n" + slack(), "two receivers have the same name"),
        ("[[receivers]]\nname='a'\ntype='slack'\nurl='https://h/x'", "is a secret: write it to a file"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl='http://example.org/x'", "example.org would not be encrypted"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl='https://me:pass@h/'", "not a URL without user name"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl='ftp://h/'", "not a URL"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl='https://[::1/'", "not a URL"),
        ("[[receivers]]\nname='a'\ntype='pager'", "does not match any of the expected tags"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl_file='missing'", "missing, which should contain a secret"),
        (
            "[[receivers]]\nname='a'\ntype='webhook'\nurl='https://h/'\nca_file='missing'",
            "missing cannot be used: No such file",
        ),
        (
            "[[receivers]]\nname='a'\ntype='email'\nhost='mail.example.org'\nsender='a@b'\nto=['c@d']\ntls='none'",
            "mail.example.org would not be encrypted",
        ),
        ("[[receivers]]\nname='a'\ntype='email'\nhost='h'\nsender='a@b'\nto=['nobody']", "not an e-mail address"),
        (
            "[[receivers]]\nname='a'\ntype='email'\nhost='h'\nsender='a@b'\nto=['c@d']\nusername='u'",
            "username and password_file belong together",
        ),
        (slack(alerts=[]), "alerts: Value should have at least 1 item"),
        (slack(severities=[]), "severities: List should have at least 1 item"),
        (slack(teams=[]), "teams: List should have at least 1 item"),
        (slack(alerts=["InputDrift"], severities=["page"]), "the receiver 'team' gets no alert"),
        ("disabled = ['InputDrift']\n" + slack(alerts=["InputDrift"]), "the receiver 'team' gets no alert"),
        ("a = " + "[" * 5000 + "]" * 5000, "its values are nested too deeply"),
        (slack(ca_file="a\0b"), "ca_file: the path contains a NUL character"),
        (slack(authorization_file="a\0b"), "authorization_file: the path contains a NUL character"),
        (email(username="u", password_file="\0"), "password_file: the path contains a NUL character"),  # noqa: S106
        (email(host="smtps://h:25"), "'smtps://h:25' is not a host"),
        (email(host="h:25"), "'h:25' is not a host"),
        *(
            (email(to=[text]), f"{text!r} is not an e-mail address")
            for text in ("@", "a b@c", "c@d, e@f", "a@", "x <@>")
        ),
        (email(sender="@"), "'@' is not an e-mail address"),
        (email(name=" "), "name: ' ' is blank"),
        ('hub_url = "https://[bad"', "hub_url: the address is not a URL"),
        ('hub_url = "https://h:99999"', "hub_url: the address is not a URL"),
        ('hub_url = "h/x"', "hub_url: the address is not that of a hub"),
        ("[[receivers]]\nname='a'\ntype='webhook'\nurl=\"https://h/\\u0000\"", "a space or a control character"),
    ],
)
def test_an_invalid_file_is_an_error_that_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """The message names the place, and repeats no secret."""
    path = write_config(tmp_path, text, slack_url=f"https://hooks.example.org/{SECRET}")

    with pytest.raises(SettingsError) as raised:
        read_alert_config(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "pass@" not in str(raised.value)


def test_addresses_with_names_and_ip_addresses_of_hosts_are_valid(tmp_path: Path) -> None:
    """As mail servers have them."""
    for host in ("::1", "127.0.0.1", "mail.example.org"):
        text = email(host=host, sender="Hub <hub@example.org>", to=['"Team, ML" <ml@example.org>'])
        assert len(read_alert_config(write_config(tmp_path, text)).receivers) == 1


@pytest.mark.parametrize("content", [f"http://hooks.example.org/{SECRET}", f"{SECRET}\nmore", "", "x" * 5000])
def test_an_invalid_secret_is_not_repeated(tmp_path: Path, content: str) -> None:
    """An address that is not encrypted, several lines, an empty file, a large file."""
    with pytest.raises(SettingsError) as raised:
        read_alert_config(write_config(tmp_path, slack(), slack_url=content))
    assert "slack_url" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_the_hub_does_not_start_with_an_invalid_file(tmp_path: Path) -> None:
    """It says why before it opens its database."""
    with pytest.raises(SettingsError, match="cannot be read"), in_process_hub(alerts=tmp_path / "missing.toml"):
        pass


# --- States ---


def states(*names: str, resolved: bool = True) -> AlertStates:
    """Return states with one receiver."""
    return AlertStates(5 * MINUTE, [Interest("team", names or tuple(RULES), resolved, HOUR)])


def notify(alerts: AlertStates, now: int) -> list[tuple[str, str]]:
    """Return rule and state of the alerts of the next message, and accept it."""
    due = alerts.due("team", now)
    sent = [(alert.condition.rule, alert.state) for alert in due]
    alerts.mark_notified("team", due, now)
    return sent


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


DRIFT = [
    condition("InputDrift", value, ml_feature_name=feature, ml_drift_statistic=statistic, window=window)
    for feature, factor in (("age", 1), ("city", 2))
    for window in ("1h", "1d")
    for value, statistic in ((factor, "psi"), (4 * factor, "ks"))
]


def test_alerts_about_the_same_feature_are_grouped() -> None:
    """The worst statistic is shown; what fires comes before what is pending, and what has ended is apart."""
    items = [(item, "firing") for item in DRIFT] + [(condition(), "firing")]
    groups = group_alerts(items, lambda item: item)
    assert [(dict(group.worst[0].labels).get("ml_feature_name"), group.others) for group in groups] == [
        *(("age", 3), ("city", 3), (None, 0))
    ]
    assert {dict(group.worst[0].labels)["ml_drift_statistic"] for group in groups[:2]} == {"ks"}

    groups = group_alerts(zip(DRIFT[:3], ("firing", "pending", "ended"), strict=True), lambda item: item)
    assert [(group.worst[1], group.others) for group in groups] == [("firing", 1), ("ended", 0)]


def test_texts_have_one_entry_for_each_feature_and_webhooks_one_for_each_alert() -> None:
    """Slack and e-mails are read by people."""
    alerts = [Alert(item, 0, 0, 0) for item in DRIFT]

    text = orjson.loads(slack_body(alerts, "https://h"))["text"]
    assert text.count("And 3 more of its statistics and windows.") == text.count("\n") == 2
    assert text.startswith("*[2 firing, 0 resolved] InputDrift*")
    content = email_message("a@b", ["c@d"], alerts, "https://h").get_content()
    assert content.count("And 3 more of its statistics and windows.") == content.count("Firing: InputDrift") == 2
    assert len(orjson.loads(webhook_body("team", alerts, "https://h"))["alerts"]) == 8


def test_the_page_has_one_row_for_each_feature() -> None:
    """The API has all alerts."""
    with in_process_hub() as hub:
        service = ModelService(Sender(str(hub.client.base_url)), features=(Feature("age", shift=3.0),))
        service.start()
        service.predict(2000)
        service.export()
        alerts = httpx.get(f"{hub.page_url}/api/alerts").json()["alerts"]
        page = page_text(hub)

    number = sum(alert["alert"] == "InputDrift" for alert in alerts)
    assert number > 2
    assert page.count(">InputDrift</a>") == 1
    assert f"And {number - 1} more of its statistics and windows." in page


@pytest.mark.parametrize("monitored", [True, False])
def test_the_page_the_api_and_the_log_say_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, monitored: bool
) -> None:
    """With the number of conditions."""
    monkeypatch.setattr(rules, "MAX_CONDITIONS", 1)
    at = time.time_ns() - 10 * MINUTE
    with in_process_hub(alerts=write_config(tmp_path, 'interval = "1s"') if monitored else None) as hub:
        for service in ("a", "b", "c"):
            Sender(str(hub.client.base_url), service=service).metrics(
                gauge("http.server.active_requests", "1", [((), 0.0)], at)
            )
        wait_until(
            lambda: httpx.get(f"{hub.page_url}/api/alerts").json()["left_out"] == {"ServiceDown": 2},
            description="an evaluation",
        )
        assert "2 more conditions of ServiceDown are true and left out" in page_text(hub)
        text = CliRunner().invoke(cli, ["alerts", "--url", hub.page_url]).output
    assert "2 more conditions of ServiceDown are left out." in text
    assert ("are left out, because each rule has at most 1" in caplog.text) is monitored


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


# --- Deliveries ---


@contextmanager
def running_monitor(path: Path, conditions: list[Condition], state_path: Path | None = None) -> Iterator[AlertMonitor]:
    """Run a monitor in a thread; `conditions` may be changed."""
    loop = asyncio.new_event_loop()
    watched = AlertMonitor(read_alert_config(path), lambda _: list(conditions), "http://127.0.0.1:4319", state_path)
    task = loop.create_task(watched.run())

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watched
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry soon, and wait for a response for a short time only."""
    monkeypatch.setattr(monitor, "MIN_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "SEND_SECONDS", 0.5)


def webhook(url: str, **more: object) -> str:
    """Return a webhook."""
    lines = [f"{name} = {orjson.dumps(value).decode()}" for name, value in more.items()]
    head = ['interval = "1s"', 'resolve_after = "0s"', "[[receivers]]", 'name = "hook"', 'type = "webhook"']
    return "\n".join([*head, f'url = "{url}"', *lines])


def test_all_kinds_of_receivers_get_model_value_threshold_and_link(tmp_path: Path) -> None:
    """A webhook, Slack and an e-mail, when an alert fires and when it has ended."""
    with notification_receivers() as receivers:
        port = receivers.smtp.rpartition(":")[2]
        text = f"""
            interval = "1s"
            resolve_after = "0s"
            hub_url = "https://hub.example.org/base/"
            [[receivers]]
            name = "hook"
            type = "webhook"
            url = "{receivers.http}/webhook"
            authorization_file = "authorization"
            [[receivers]]
            name = "chat"
            type = "slack"
            url_file = "slack_url"
            [[receivers]]
            name = "mail"
            type = "email"
            host = "127.0.0.1"
            port = {port}
            tls = "none"
            sender = "hub@example.org"
            to = ["a@example.org", "b@example.org"]
            username = "hub"
            password_file = "password"
        """
        path = write_config(
            tmp_path, text, authorization="Bearer abc", slack_url=f"{receivers.http}/slack/x", password=PASSWORD
        )
        conditions = [condition("RequestFailures", 7.5, job="shop", ml_model_name="churn\nBcc: x@example.org")]
        with running_monitor(path, conditions):
            wait_until(
                lambda: len(receivers.posts) == 2 and len(receivers.emails) == 1, description="the first messages"
            )
            conditions.clear()
            wait_until(
                lambda: len(receivers.posts) == 4 and len(receivers.emails) == 2, description="the second messages"
            )

    hooks = [post for post in receivers.posts if post.path == "/webhook"]
    chats = [post for post in receivers.posts if post.path == "/slack/x"]
    assert [post.body["status"] for post in hooks] == ["firing", "resolved"]
    assert {post.authorization for post in hooks} == {"Bearer abc"}
    (alert,) = hooks[0].body["alerts"]
    assert alert["labels"]["alertname"] == "RequestFailures"
    assert alert["labels"]["severity"] == "page"
    assert alert["annotations"]["value"] == "7.5"
    assert alert["annotations"]["threshold"] == "0.5"
    assert alert["generatorURL"] == "https://hub.example.org/base/traces?a=b"
    assert hooks[1].body["alerts"][0]["fingerprint"] == alert["fingerprint"]
    assert hooks[1].body["alerts"][0]["endsAt"] > alert["startsAt"]
    assert "<https://hub.example.org/base/traces?a=b|Firing RequestFailures>" in chats[0].body["text"]
    assert "RequestFailures of &lt;shop&gt; &amp; co" in chats[0].body["text"]
    assert chats[1].body["text"].startswith("*[Resolved] RequestFailures churn Bcc: x@example.org shop*")
    first = receivers.emails[0]
    assert first["Subject"] == "[Firing] RequestFailures churn Bcc: x@example.org shop"
    assert first["To"] == "a@example.org, b@example.org"
    assert first["Bcc"] is None
    assert "value 7.5, threshold 0.5" in first.get_content()
    assert "https://hub.example.org/base/traces?a=b" in first.get_content()


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("status", [500, 429, 404])
def test_a_message_is_sent_again_until_it_is_accepted(tmp_path: Path, status: int) -> None:
    """The status of the receiver says why it was not accepted."""
    answers = iter([status, status])
    errors: list[str | None] = []
    with otlp_http() as endpoint:
        endpoint.respond = lambda _: Response(next(answers, 200))
        with running_monitor(write_config(tmp_path, webhook(f"{endpoint.url}/x")), [condition()]) as watched:

            def accepted() -> bool:
                (receiver,) = watched.status.receivers
                errors.append(receiver.error)
                return receiver.delivered_ns is not None

            wait_until(accepted, description="the message")
            assert watched.status.receivers[0].error is None
    assert len(endpoint.requests) == 3
    assert f"127.0.0.1 answered with status {status} (not accepted)." in errors


@pytest.mark.usefixtures("fast")
def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """It could lead to an address inside the network."""
    with otlp_http() as other, otlp_http() as endpoint:
        endpoint.respond = lambda _: Response(302, {"Location": f"{other.url}/elsewhere"})
        with running_monitor(write_config(tmp_path, webhook(f"{endpoint.url}/x")), [condition()]) as watched:
            wait_until(lambda: watched.status.receivers[0].error, description="an error")
            assert "302 (redirects are not followed)" in str(watched.status.receivers[0].error)
    assert endpoint.requests
    assert other.requests == []


@contextmanager
def slow_server(answer: bytes) -> Iterator[int]:
    """Run a server that sends one byte of an endless answer from time to time; yield its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(answer)
                while not stop.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                return

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        listener.close()


EMAIL = """interval = "1s"
[[receivers]]
name = "mail"
type = "email"
host = "127.0.0.1"
port = {port}
tls = "none"
sender = "hub@example.org"
to = ["a@example.org"]
"""


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("answer", "text", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", webhook("http://127.0.0.1:{port}/x"), "127.0.0.1 did not answer within 0.5 s."),
        (b"220 ", EMAIL, "127.0.0.1 did not accept the e-mail (SMTPServerDisconnected)."),
        (b"", EMAIL, "127.0.0.1 did not accept the e-mail (SMTPServerDisconnected)."),
    ],
)
def test_a_receiver_that_answers_slowly_is_given_up(tmp_path: Path, answer: bytes, text: str, message: str) -> None:
    """Although each single read succeeds; another receiver gets its messages meanwhile, and the monitor can end."""
    with slow_server(answer) as port, otlp_http() as endpoint:
        content = text.replace("{port}", str(port))
        content += f'\n[[receivers]]\nname = "other"\ntype = "webhook"\nurl = "{endpoint.url}/x"\n'
        with running_monitor(write_config(tmp_path, content), [condition()]) as watched:
            wait_until(lambda: watched.status.receivers[0].error, description="an error")
            assert watched.status.receivers[0].error == message
            wait_until(lambda: endpoint.accepted, description="the other message")


@pytest.mark.usefixtures("fast")
def test_certificates_are_checked(tmp_path: Path) -> None:
    """A certificate of an unknown authority is refused, and one of `ca_file` is accepted."""
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with otlp_http(tls=context) as endpoint:
        with running_monitor(write_config(tmp_path, webhook(f"{endpoint.url}/x")), [condition()]) as watched:
            wait_until(lambda: watched.status.receivers[0].error, description="an error")
            assert watched.status.receivers[0].error == "127.0.0.1 could not be reached (ConnectError)."
        path = write_config(tmp_path, webhook(f"{endpoint.url}/x", ca_file=str(certificate)))
        with running_monitor(path, [condition()]):
            wait_until(lambda: endpoint.accepted, description="the message")


@pytest.mark.usefixtures("fast")
def test_secrets_are_neither_logged_nor_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also if the receiver cannot be reached, and at the level INFO of the hub."""
    caplog.set_level(logging.INFO, logger="modeltrace_hub")
    url = f"http://127.0.0.1:{free_port()}/{SECRET}"
    with running_monitor(write_config(tmp_path, slack(), slack_url=url), [condition()]) as watched:
        wait_until(lambda: watched.status.receivers[0].error, description="an error")
        shown = repr(watched.status)
    assert "gets no messages" in caplog.text
    assert SECRET not in caplog.text + shown


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("content", [None, b"{", b"[1]", b'[{"condition": {}}]', b'{"a": 1}', b"\xff"])
def test_a_file_of_states_that_cannot_be_read_is_replaced(tmp_path: Path, content: bytes | None) -> None:
    """Its alerts are sent again."""
    state_path = tmp_path / "alerts.json"
    if content is not None:
        state_path.write_bytes(content)
    with otlp_http() as endpoint:
        path = write_config(tmp_path, webhook(f"{endpoint.url}/x"))
        for _ in range(2):
            with running_monitor(path, [condition()], state_path) as watched:
                wait_until(lambda watched=watched: watched.status.evaluated_ns, description="an evaluation")
                wait_until(lambda: endpoint.accepted, description="the message")
                wait_until(lambda: b'"hook"' in state_path.read_bytes(), description="the file")
        assert len(endpoint.accepted) == 1


def test_a_failed_evaluation_changes_no_state(tmp_path: Path) -> None:
    """The next one tries again."""
    failures = iter([None, StoreError("The database has failed."), None])

    def evaluate(_now: int) -> list[Condition]:
        if failure := next(failures):
            raise failure
        return [condition()]

    async def run() -> list[tuple[str | None, list[str]]]:
        watched = AlertMonitor(read_alert_config(write_config(tmp_path, "")), evaluate, "http://h", None)
        seen = []
        for _ in range(3):
            await watched._evaluate_once()
            seen.append((watched.status.error, [alert.state for alert in watched.status.alerts]))
        return seen

    assert asyncio.run(run()) == [
        (None, ["firing"]),
        ("The database has failed.", ["firing"]),
        (None, ["firing"]),
    ]


# --- The hub ---


def test_the_hub_evaluates_notifies_and_shows(tmp_path: Path) -> None:
    """A service that sends no metrics any more: message, page, API and command."""
    with otlp_http() as endpoint:
        path = write_config(tmp_path, webhook(f"{endpoint.url}/x"))
        with in_process_hub(alerts=path) as hub:
            url = str(hub.client.base_url)
            wait_until(lambda: "No rule was true" in page_text(hub), description="an evaluation")
            at = time.time_ns() - 10 * MINUTE
            Sender(url, service="<shop>").metrics(gauge("http.server.active_requests", "1", [((), 0.0)], at))
            wait_until(lambda: endpoint.accepted, description="the message")
            answer = httpx.get(f"{hub.page_url}/api/alerts").json()
            page = page_text(hub)
            text = CliRunner().invoke(cli, ["alerts", "--url", hub.page_url, "--check", str(path)]).output

    message = orjson.loads(endpoint.accepted[0])
    assert message["alerts"][0]["labels"]["job"] == "<shop>"
    assert message["externalURL"] == hub.page_url
    assert answer["monitored"] is True
    (alert,) = answer["alerts"]
    assert {name: alert[name] for name in ("alert", "state", "value")} == {
        "alert": "ServiceDown",
        "state": "firing",
        "value": 1,
    }
    assert alert["since_ns"] <= time.time_ns()
    assert [receiver["name"] for receiver in answer["receivers"]] == ["hook"]
    assert "&lt;shop&gt; sends no telemetry any more" in page
    assert ">firing<" in page
    assert "firing" in text
    assert "hook" in text


def test_the_example_of_the_documentation_sends_a_message(tmp_path: Path) -> None:
    """With the file and the metric of docs/alerts.md; `--check` says that it sends nothing."""
    text = (Path(__file__).parents[2] / "docs/alerts.md").read_text()
    config, metric = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)[0] for kind in ("toml", "json"))
    with otlp_http() as endpoint:
        path = write_config(tmp_path, config.replace("http://127.0.0.1:9000/", f"{endpoint.url}/"))
        with in_process_hub(alerts=path) as hub:
            checked = CliRunner().invoke(cli, ["alerts", "--url", hub.page_url, "--check", str(path)]).output
            httpx.post(
                f"{hub.client.base_url}/v1/metrics",
                content=metric.replace("NOW", str(time.time_ns())),
                headers={"Content-Type": "application/json"},
            ).raise_for_status()
            wait_until(lambda: endpoint.accepted, description="the message")

    (alert,) = orjson.loads(endpoint.accepted[0])["alerts"]
    assert (alert["labels"]["alertname"], alert["labels"]["job"]) == ("SidecarRestarting", "test")
    assert "Nothing was sent" in checked


def page_text(hub: Any) -> str:
    """Return the page of alerts."""
    response = httpx.get(f"{hub.page_url}/alerts")
    assert response.status_code == 200
    return response.text


def test_without_a_file_the_rules_are_evaluated_when_the_page_is_opened() -> None:
    """It says that no messages are sent."""
    with in_process_hub() as hub:
        url = str(hub.client.base_url)
        at = time.time_ns() - 10 * MINUTE
        Sender(url, service="shop").metrics(gauge("http.server.active_requests", "1", [((), 0.0)], at))
        answer = httpx.get(f"{hub.page_url}/api/alerts").json()
        page = page_text(hub)

    assert (answer["monitored"], [alert["state"] for alert in answer["alerts"]]) == (False, ["true"])
    assert "it sends no messages" in page
    assert "shop sends no telemetry any more" in page
