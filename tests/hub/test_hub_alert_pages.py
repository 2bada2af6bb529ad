"""Alerts on the page, in the API and in the command, and the messages of a hub."""

import re
import time
from pathlib import Path

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from modeltrace_hub.__main__ import cli
from modeltrace_hub.alerts import rules
from modeltrace_hub.alerts.groups import group_alerts
from modeltrace_hub.alerts.messages import email_message, slack_body, webhook_body
from modeltrace_hub.alerts.states import Alert
from tests.helpers.alerts import MINUTE, condition, page_text, webhook, write_config
from tests.helpers.in_process_hubs import in_process_hub
from tests.helpers.metric_points import gauge
from tests.helpers.model_features import Feature
from tests.helpers.model_telemetry import ModelService
from tests.helpers.otlp_sender import Sender
from tests.helpers.processes import wait_until
from tests.helpers.receivers import otlp_http

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
    """The command, too; the API has all alerts."""
    with in_process_hub() as hub:
        service = ModelService(Sender(str(hub.client.base_url)), features=(Feature("age", shift=3.0),))
        service.start()
        service.predict(2000)
        service.export()
        alerts = httpx.get(f"{hub.page_url}/api/alerts").json()["alerts"]
        page = page_text(hub)
        text = CliRunner().invoke(cli, ["alerts", "--url", hub.page_url]).output

    number = sum(alert["alert"] == "InputDrift" for alert in alerts)
    assert number > 2
    assert page.count(">InputDrift</a>") == 1
    assert f"And {number - 1} more of its statistics and windows." in page
    assert text.count(" InputDrift ") == 1
    assert f"And {number - 1} more of its statistics and windows." in text


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
