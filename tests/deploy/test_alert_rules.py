"""Every alert is complete, has a runbook, and has promtool tests in which it fires and does not fire."""

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
    """One check of a promtool test: the alerts of a name at a time, in the test named `test`."""

    test: str
    alert: str
    fires: bool


def alerting_rules() -> dict[str, dict[str, Any]]:
    """Return the alerts of all rule files, by name."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((PROMETHEUS / "rules").glob("*.yml"))]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"] if "alert" in rule]
    by_name = {rule["alert"]: rule for rule in rules}
    assert len(by_name) == len(rules), "two alerts have the same name"
    return by_name


def promtool_cases() -> list[Case]:
    """Return the alert checks of the promtool tests."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((PROMETHEUS / "tests").glob("*.yml"))]
    return [
        Case(test["name"], question["alertname"], bool(question["exp_alerts"]))
        for file in files
        for test in file["tests"]
        for question in test.get("alert_rule_test", [])
    ]


def runbooks() -> dict[str, str]:
    """Return the sections of docs/runbooks.md, by heading."""
    _, *sections = re.split(r"(?m)^## ", RUNBOOKS.read_text())
    return {heading: text for heading, _, text in (section.partition("\n") for section in sections)}


def query(section: str) -> str | None:
    """Return the code block at the beginning of a section."""
    match = re.match(r"\s*```promql\n(.*?)```", section, re.DOTALL)
    return match[1] if match else None


ALERTS = alerting_rules()
CASES = promtool_cases()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_severity_team_runbook_and_traces(name: str) -> None:
    """Alertmanager knows severity and team; runbook and traces are links."""
    labels, annotations = ALERTS[name]["labels"], ALERTS[name]["annotations"]

    assert labels["severity"] in ("page", "ticket")
    assert labels["team"] in ("sre", "ml")
    assert annotations["summary"] != ""
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"] == f"{RUNBOOK_BASE}#{name.lower()}"
    assert annotations["traces"].startswith(JAEGER_BASE)


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_begins_with_the_query_to_run(name: str) -> None:
    """The section of an alert begins with a query in a code block, followed by instructions."""
    section = runbooks()[name]

    assert query(section)
    assert len(section.partition("```\n")[2].strip()) > 100


def test_every_runbook_belongs_to_an_alert() -> None:
    """docs/runbooks.md has no section for an alert that was renamed or removed."""
    assert runbooks().keys() == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_firing_and_a_quiet_promtool_test(name: str) -> None:
    """It fires in one promtool test and never fires in another."""
    fires = {case.test for case in CASES if case.alert == name and case.fires}
    quiet = {case.test for case in CASES if case.alert == name} - fires

    assert fires
    assert quiet


def test_promtool_tests_check_alerts_that_exist() -> None:
    """A test of a renamed alert would pass without testing anything."""
    assert {case.alert for case in CASES} <= ALERTS.keys()


@pytest.mark.stack
def test_promtool_accepts_configuration_and_rules() -> None:
    """`promtool check config` reports no error in the configuration and the rule files."""
    output = promtool("check", "config", "deploy/prometheus/prometheus.yml")

    for path in (PROMETHEUS / "rules").glob("*.yml"):
        assert f"{path.name}\n  SUCCESS" in output


@pytest.mark.stack
@pytest.mark.parametrize("name", sorted(path.name for path in (PROMETHEUS / "tests").glob("*.yml")))
def test_promtool_tests_of_the_alerts_pass(name: str) -> None:
    """`promtool test rules` passes, including new series and the text of each notification."""
    promtool("test", "rules", f"deploy/prometheus/tests/{name}")


@pytest.mark.stack
@pytest.mark.parametrize("name", runbooks())
def test_the_query_of_a_runbook_is_valid(name: str) -> None:
    """Prometheus can parse it."""
    promtool("--experimental", "promql", "format", query(runbooks()[name]) or "")
