"""Alertmanager routes each alert to its team over every configured channel, with its links."""

import html
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml

from tests.helpers.processes import Process, free_port, wait_until
from tests.helpers.receivers import NotificationReceivers, Post, notification_receivers
from tests.helpers.stack import binary

ROOT = Path(__file__).parents[2]
ALERTMANAGER = ROOT / "deploy" / "alertmanager"
CHANNELS = "slack,teams,email,pagerduty,opsgenie,webhook"
ANNOTATIONS = {
    "summary": "10% of POST /predict took longer than 300 ms",
    "description": "More than 5 % of the requests took longer than 300 ms.",
    "runbook_url": "https://docs.example.org/runbooks#highlatency",
    "traces": "http://jaeger.example.org/search?service=modeltrace&operation=POST+%2Fpredict&minDuration=300ms",
}

pytestmark = pytest.mark.stack


@dataclass(frozen=True)
class Running:
    """A running Alertmanager and the folder of its configuration."""

    process: Process
    url: str
    folder: Path

    def alert(self, name: str, **labels: str) -> None:
        """Send a firing alert, as Prometheus does."""
        alert = {
            "labels": {"alertname": name, "job": "modeltrace", **labels},
            "annotations": ANNOTATIONS,
            "startsAt": datetime.now(UTC).isoformat(),
        }
        httpx.post(f"{self.url}/api/v2/alerts", json=[alert]).raise_for_status()

    def state(self, name: str) -> str:
        """Return the state of an alert: `active` or `suppressed`."""
        alerts = httpx.get(f"{self.url}/api/v2/alerts").raise_for_status().json()
        matching = [alert for alert in alerts if alert["labels"]["alertname"] == name]
        return str(matching[0]["status"]["state"]) if matching else ""

    def notifications(self, metric: str) -> float:
        """Return the number of sent or failed notifications over all channels."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"alertmanager_{metric}{{"))


@contextmanager
def alertmanager(folder: Path) -> Iterator[Running]:
    """Run Alertmanager like the stack, in the folder of its configuration."""
    port = free_port()
    output = folder.parent / "alertmanager.log"
    arguments = ["--config.file=alertmanager.yml", f"--storage.path={folder.parent}", "--cluster.listen-address="]
    with output.open("wb") as sink:
        popen = subprocess.Popen(
            [binary("alertmanager", "alertmanager"), *arguments, f"--web.listen-address=127.0.0.1:{port}"],
            cwd=folder,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    process = Process(popen, output)
    try:
        process.wait_for(f"http://127.0.0.1:{port}/-/ready")
        yield Running(process, f"http://127.0.0.1:{port}", folder)
    finally:
        process.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy deploy/alertmanager without secrets."""
    copy = tmp_path / "alertmanager"
    shutil.copytree(ALERTMANAGER, copy, ignore=shutil.ignore_patterns("secrets"))
    (copy / "secrets").mkdir()
    return copy


@pytest.fixture
def inboxes() -> Iterator[NotificationReceivers]:
    """Run an HTTP and an SMTP receiver."""
    with notification_receivers() as receivers:
        yield receivers


def receivers_of(**labels: str) -> set[str]:
    """Return the receivers of an alert with these labels, according to amtool."""
    command = [binary("alertmanager", "amtool"), "config", "routes", "test"]
    done = subprocess.run(
        [*command, "--config.file=alertmanager.yml", *(f'{name}="{value}"' for name, value in labels.items())],
        cwd=ALERTMANAGER,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.strip().split(","))


def test_amtool_accepts_the_configuration() -> None:
    """`amtool check-config` reports no error in configuration and templates."""
    done = subprocess.run(
        [binary("alertmanager", "amtool"), "check-config", "alertmanager.yml"],
        cwd=ALERTMANAGER,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 templates\n  SUCCESS" in done.stdout


@pytest.mark.parametrize("team", ["sre", "ml"])
@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_severity_and_team_select_the_receivers(severity: str, team: str) -> None:
    """A page goes to the on-call rotation and the other channels of the team, a ticket to the other channels only."""
    expected = {f"slack-{team}", f"teams-{team}", "email", "webhook"}
    paged = {f"pagerduty-{team}", "opsgenie"} if severity == "page" else set()

    assert receivers_of(severity=severity, team=team, channels=CHANNELS) == expected | paged


@pytest.mark.parametrize("channel", CHANNELS.split(","))
def test_only_channels_in_the_label_are_used(channel: str) -> None:
    """A channel that the label `channels` does not name gets no notification."""
    assert {name.split("-")[0] for name in receivers_of(severity="page", team="sre", channels=channel)} == {channel}


def test_without_channels_no_notification_is_sent() -> None:
    """A stack without configured channels sends nothing."""
    assert receivers_of(severity="page", team="sre") == {"nobody"}


def test_every_secret_is_read_from_a_documented_file() -> None:
    """The configuration reads all secrets from files, and secrets/README.md describes the content of each."""
    settings = dict(leaves(yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())))
    files = {value for path, value in settings.items() if path.endswith("_file")}
    inline = ("api_url", "api_key", "routing_key", "service_key", "webhook_url", "auth_password", "/url")
    documented = re.findall(r"`(\w+)`", (ALERTMANAGER / "secrets" / "README.md").read_text())

    assert len(files) == 9
    assert files <= {f"secrets/{name}" for name in documented}
    assert not [path for path in settings if path.endswith(inline)]


def test_a_fresh_stack_without_secrets_is_quiet(folder: Path) -> None:
    """It starts, stores and shows alerts, sends no notification, and no notification fails."""
    with alertmanager(folder) as running:
        running.alert("HighLatency", severity="page", team="sre")
        wait_until(lambda: running.state("HighLatency") == "active", description="the alert")

        assert running.notifications("notifications_failed_total") == 0
        assert running.notifications("notifications_total") == 0
        assert "level=ERROR" not in running.process.log


def test_a_channel_without_its_secret_is_counted_as_failed(folder: Path, inboxes: NotificationReceivers) -> None:
    """Alertmanager counts the failed notifications, which the alert NotificationsFailing uses."""
    inboxes.connect(folder)
    (folder / "secrets" / "slack_sre_url").unlink()
    with alertmanager(folder) as running:
        running.alert("HighLatency", severity="page", team="sre", channels="slack")
        wait_until(lambda: running.notifications("notifications_failed_total"), description="a failed notification")

        assert "secrets/slack_sre_url" in running.process.log


def test_every_channel_contains_summary_runbook_and_traces(folder: Path, inboxes: NotificationReceivers) -> None:
    """Slack, Teams, PagerDuty, Opsgenie, mail and webhook contain summary, description, runbook and traces."""
    inboxes.connect(folder)
    with alertmanager(folder) as running:
        running.alert("HighLatency", severity="page", team="sre", channels=CHANNELS)
        wait_until(lambda: len(inboxes.posts) >= 5 and inboxes.emails, description="six notifications")
        posts = {post.path: post for post in inboxes.posts}
        mail = inboxes.emails[0]

        assert posts.keys() == {"/slack/sre", "/teams/sre", "/pagerduty", "/opsgenie/v2/alerts", "/webhook"}
        for post in posts.values():
            assert all(text in texts(post) for text in ANNOTATIONS.values()), post
        assert running.notifications("notifications_failed_total") == 0

    body, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert body is not None
    assert page is not None
    assert all(text in body.get_content() for text in ANNOTATIONS.values())
    assert f'href="{ANNOTATIONS["traces"]}"' in html.unescape(page.get_content())
    assert mail["Subject"] == "[PAGE] HighLatency · modeltrace"
    assert mail["To"] == "sre@example.org"


def test_a_page_has_the_key_and_links_of_its_channel(folder: Path, inboxes: NotificationReceivers) -> None:
    """PagerDuty gets the key of the team and both links; Opsgenie the key, the team and its highest priority."""
    inboxes.connect(folder)
    with alertmanager(folder) as running:
        running.alert("NoPredictions", severity="page", team="ml", channels="pagerduty,opsgenie")
        wait_until(lambda: len(inboxes.posts) >= 2, description="two notifications")
    posts = {post.path: post for post in inboxes.posts}
    page, opsgenie = posts["/pagerduty"].body, posts["/opsgenie/v2/alerts"]

    assert page["routing_key"] == "key of ml"
    assert page["payload"]["severity"] == "critical"
    assert [link["href"] for link in page["links"]] == [ANNOTATIONS["traces"], ANNOTATIONS["runbook_url"]]
    assert opsgenie.authorization == "GenieKey key of opsgenie"
    assert opsgenie.body["responders"] == [{"name": "ml", "type": "team"}]
    assert opsgenie.body["priority"] == "P1"


def test_a_page_suppresses_only_the_tickets_of_its_service(folder: Path, inboxes: NotificationReceivers) -> None:
    """Tickets of a service with a page are suppressed; those of another service are sent."""
    inboxes.connect(folder)
    with alertmanager(folder) as running:
        running.alert("RequestFailures", severity="page", team="sre", channels="webhook")
        running.alert("NoPredictions", severity="ticket", team="ml", channels="webhook")
        running.alert("MetricOverflow", severity="ticket", team="ml", channels="webhook", job="another")
        wait_until(lambda: running.state("NoPredictions") == "suppressed", description="the ticket to be suppressed")
        wait_until(lambda: len(inboxes.posts) >= 2, description="two notifications")

        assert running.state("MetricOverflow") == "active"
    assert {post.body["groupLabels"]["alertname"] for post in inboxes.posts} == {"RequestFailures", "MetricOverflow"}


def test_no_service_down_alert_while_the_collector_is_down(folder: Path, inboxes: NotificationReceivers) -> None:
    """Missing telemetry of services does not mean that they are down while the Collector is down."""
    inboxes.connect(folder)
    with alertmanager(folder) as running:
        running.alert("CollectorDown", severity="page", team="sre", job="otelcol", channels="webhook")
        running.alert("ServiceDown", severity="page", team="sre", channels="webhook")

        wait_until(lambda: running.state("ServiceDown") == "suppressed", description="the page to be suppressed")


def test_routes_match_the_channel_of_their_receiver() -> None:
    """A route matches the alerts that name the channel of its receiver."""
    config = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())
    routes = [route for branch in config["route"]["routes"] for route in branch["routes"]]

    assert len(routes) == 15
    for route in routes:
        channel = route["receiver"].split("-")[0]
        assert f'channels=~".*{channel}.*"' in route["matchers"]


def texts(post: Post) -> str:
    """Return all texts in a body, one per line."""
    return "\n".join(value for _, value in leaves(post.body))


def leaves(node: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in a JSON or YAML document, with its keys."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, f"{path}/{index}")
