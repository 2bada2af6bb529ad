"""Every alert is complete, has a runbook, and is proven by Prometheus' own tool to fire and to stay quiet."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.promtool import PROMETHEUS, promtool

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks.md"
RUNBOOK_BASE = '{{ or $externalLabels.runbooks "docs/runbooks.md" }}'
JAEGER_BASE = '{{ or $externalLabels.jaeger "http://127.0.0.1:16686" }}/search?'


@dataclass(frozen=True)
class Case:
    """One question of a promtool test: the alerts of a name at a time, in the test named `test`."""

    test: str
    alert: str
    fires: bool


def alerting_rules() -> dict[str, dict[str, Any]]:
    """All alerts of all rule files, by name."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((PROMETHEUS / "rules").glob("*.yml"))]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"] if "alert" in rule]
    by_name = {rule["alert"]: rule for rule in rules}
    assert len(by_name) == len(rules), "two alerts have the same name"
    return by_name


def promtool_cases() -> list[Case]:
    """What the promtool tests ask of alerts."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((PROMETHEUS / "tests").glob("*.yml"))]
    return [
        Case(test["name"], question["alertname"], bool(question["exp_alerts"]))
        for file in files
        for test in file["tests"]
        for question in test.get("alert_rule_test", [])
    ]


def runbooks() -> dict[str, str]:
    """The sections of docs/runbooks.md, by heading."""
    _, *sections = re.split(r"(?m)^## ", RUNBOOKS.read_text())
    return {heading: text for heading, _, text in (section.partition("\n") for section in sections)}


def query(section: str) -> str | None:
    """The code block that a section begins with."""
    match = re.match(r"\s*```promql\n(.*?)```", section, re.DOTALL)
    return match[1] if match else None


ALERTS = alerting_rules()
CASES = promtool_cases()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_urgent_it_is_whose_and_what_to_do(name: str) -> None:
    """Severity and team are those that Alertmanager routes by; runbook and traces are links."""
    labels, annotations = ALERTS[name]["labels"], ALERTS[name]["annotations"]

    assert labels["severity"] in ("page", "ticket")
    assert labels["team"] in ("sre", "ml")
    assert annotations["summary"] != ""
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"] == f"{RUNBOOK_BASE}#{name.lower()}"
    assert annotations["traces"].startswith(JAEGER_BASE)


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_begins_with_the_query_to_run(name: str) -> None:
    """The section of an alert begins with a query in a code block and goes on with what to do."""
    section = runbooks()[name]

    assert query(section)
    assert len(section.partition("```\n")[2].strip()) > 100


def test_every_runbook_belongs_to_an_alert() -> None:
    """A section of docs/runbooks.md whose alert was renamed does not stay behind."""
    assert runbooks().keys() == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_proven_to_fire_and_to_stay_quiet(name: str) -> None:
    """There is a promtool test in which it fires, and another in which it never does."""
    fires = {case.test for case in CASES if case.alert == name and case.fires}
    quiet = {case.test for case in CASES if case.alert == name} - fires

    assert fires
    assert quiet


def test_promtool_tests_ask_for_alerts_that_exist() -> None:
    """No test stays green because its alert has another name by now."""
    assert {case.alert for case in CASES} <= ALERTS.keys()


@pytest.mark.stack
def test_prometheus_takes_its_configuration_and_rules() -> None:
    """`promtool check config` finds nothing wrong, rule files included."""
    said = promtool("check", "config", "deploy/prometheus/prometheus.yml")

    for path in (PROMETHEUS / "rules").glob("*.yml"):
        assert f"{path.name}\n  SUCCESS" in said


@pytest.mark.stack
@pytest.mark.parametrize("name", sorted(path.name for path in (PROMETHEUS / "tests").glob("*.yml")))
def test_alerts_fire_and_stay_quiet_as_their_tests_say(name: str) -> None:
    """`promtool test rules` agrees, from series that did not exist, down to the text of each notification."""
    promtool("test", "rules", f"deploy/prometheus/tests/{name}")


@pytest.mark.stack
@pytest.mark.parametrize("name", runbooks())
def test_the_query_of_a_runbook_is_one(name: str) -> None:
    """Prometheus can parse it."""
    promtool("--experimental", "promql", "format", query(runbooks()[name]) or "")
