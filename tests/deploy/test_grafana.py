"""The provisioning of Grafana without a Grafana: dashboards, data sources and the links between them."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.source.render import FOLDER, render_all
from modeltrace.telemetry.metrics.instruments import EVALUATION_GAUGES

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
# Variables of Grafana, and those of a trace or span in the links of data sources.
BUILT_IN = {"__rate_interval", "__auto", "__from", "__to"}


def provisioned(kind: str) -> dict[str, Any]:
    """Read a provisioning file."""
    (path,) = (GRAFANA / "provisioning" / kind).iterdir()
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def sources() -> dict[str, dict[str, Any]]:
    """Return the data sources by UID."""
    return {source["uid"]: source for source in provisioned("datasources")["datasources"]}


def container() -> dict[str, Any]:
    """Return the Grafana service of docker-compose.yml."""
    service: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    return service


def variables(text: str) -> set[str]:
    """Return the names of the variables in a text."""
    return {braced or bare for braced, bare in re.findall(r"\$(?:\{([\w.]+)\}|([A-Za-z_]\w*))", text)}


def everywhere(inside: Any, name: str) -> list[Any]:
    """Return all values of a key, at any depth."""
    if isinstance(inside, dict):
        here = [value for key, value in inside.items() if key == name]
        return here + [match for value in inside.values() for match in everywhere(value, name)]
    if isinstance(inside, list):
        return [match for value in inside for match in everywhere(value, name)]
    return []


def test_committed_dashboards_equal_the_generated_ones() -> None:
    """The committed files are what `./dev dashboards` writes."""
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()} == render_all()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_matches_the_types_of_the_grafana_sdk(name: str) -> None:
    """Decoding and encoding with the types does not change it, so it has no unknown field."""
    register_default_plugins()
    dashboard = DASHBOARDS[name]

    assert json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder)) == dashboard


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap_and_fill_each_row(name: str) -> None:
    """Each panel has a unique ID, and each row has the full width."""
    panels = DASHBOARDS[name]["panels"]
    cells = [
        {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        for position in (panel["gridPos"] for panel in panels)
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert not any(first & second for first, second in combinations(cells, 2))
    covered = set().union(*cells)
    assert covered == {(x, y) for x in range(24) for y in range(max(y for _, y in covered) + 1)}


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_title_description_and_unit(panel: dict[str, Any]) -> None:
    """It has a title, a description in sentences, uniquely named queries, and a unit."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    names = [target["refId"] for target in panel["targets"]]
    assert names == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(names)])

    if panel["type"] in ("timeseries", "stat"):
        assert panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] == "table" and panel["datasource"]["type"] == "prometheus":
        units = {
            o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"] if o["properties"][0]["id"] == "unit"
        }
        renamed = panel["transformations"][1]["options"]["renameByName"]
        assert units == {heading for name, heading in renamed.items() if name.startswith("Value")}
    if len(names) > 1 and panel["type"] == "timeseries":
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_variables_are_defined(name: str) -> None:
    """Queries and links use only variables of the dashboard and of Grafana."""
    dashboard = DASHBOARDS[name]
    own = {variable["name"] for variable in dashboard["templating"]["list"]}
    texts = [text for key in ("expr", "service", "query", "url") for text in everywhere(dashboard, key)]

    used = set().union(*(variables(text) for text in texts))

    assert used - BUILT_IN <= own
    assert own <= used


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_data_source_exists(name: str) -> None:
    """Panels, queries and variables refer to provisioned data sources by UID and type."""
    known = {(source["type"], source["uid"]) for source in sources().values()}
    links = [json.loads(unquote(url.partition("panes=")[2])) for url in explore_links(DASHBOARDS[name])]

    used = everywhere(DASHBOARDS[name], "datasource") + everywhere(links, "datasource")

    uids = {source for source in used if isinstance(source, str)}
    pairs = {(source["type"], source["uid"]) for source in used if isinstance(source, dict)}
    assert pairs <= known
    assert uids <= set(sources())


def explore_links(dashboard: dict[str, Any]) -> list[str]:
    """Return the URLs of a dashboard that lead to Explore."""
    return [url for url in everywhere(dashboard, "url") if url.startswith("/explore")]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_link_to_each_other(name: str) -> None:
    """Links keep time range and service, and lead to existing dashboards."""
    links = [link for link in DASHBOARDS[name]["links"] if link["url"].startswith("/d/")]

    others = {dashboard["uid"] for other, dashboard in DASHBOARDS.items() if other != name}
    assert {link["url"].removeprefix("/d/") for link in links} == others
    assert all(link["keepTime"] and link["includeVars"] for link in links)


def test_data_sources_link_to_each_other() -> None:
    """Exemplar to trace, record to trace, trace to records, trace to metrics."""
    known = sources()
    (exemplar,) = known["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    (record,) = known["loki"]["jsonData"]["derivedFields"]
    of_trace = known["jaeger"]["jsonData"]

    assert exemplar == {"name": "trace_id", "datasourceUid": "jaeger", "urlDisplayLabel": "Trace"}
    assert (record["datasourceUid"], record["matcherType"]) == ("jaeger", "label")
    assert of_trace["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert of_trace["tracesToMetrics"]["datasourceUid"] == "prometheus"
    assert known["prometheus"]["jsonData"]["alertmanagerUid"] in known


@pytest.mark.parametrize(
    ("label", "matches"), [("trace_id", True), ("parent_trace_id", False), ("trace_id_of_feedback", False)]
)
def test_the_derived_field_matches_only_the_trace_id(label: str, *, matches: bool) -> None:
    """Grafana searches the expression anywhere in the name of a label."""
    (field,) = sources()["loki"]["jsonData"]["derivedFields"]

    assert bool(re.search(interpolated(field["matcherRegex"], {}), label)) is matches


def interpolated(text: str, environment: dict[str, str]) -> str:
    """Return a value as Grafana reads it: $$ is a dollar, a variable is its value, and there are no defaults."""
    return "$".join(
        re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: environment[match[1] or match[2]], part)
        for part in text.split("$$")
    )


def test_addresses_come_from_the_environment() -> None:
    """Grafana has no defaults, so docker-compose.yml sets each variable to the component of that name and its port."""
    environment = {
        name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(value)) for name, value in container()["environment"].items()
    }

    addresses = {uid: interpolated(source["url"], environment) for uid, source in sources().items()}

    assert addresses == {
        "prometheus": "http://prometheus:9090",
        "loki": "http://loki:3100",
        "jaeger": "http://jaeger:16686",
        "alertmanager": "http://alertmanager:9093",
    }


def test_no_other_variable_is_replaced() -> None:
    """Variables for the browser are written with $$, so Grafana does not replace them while reading."""
    for source in sources().values():
        for text in [*everywhere(source["jsonData"], "query"), *everywhere(source["jsonData"], "url")]:
            assert variables(interpolated(text, {})) <= {"__value.raw", "__trace.traceId", "__span.name", "__tags"}


def test_provisioned_folders_are_mounted() -> None:
    """docker-compose.yml mounts the folders in the provisioning files."""
    mounts = dict(volume.split(":")[:2] for volume in container()["volumes"])
    (provider,) = provisioned("dashboards")["providers"]

    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert not provider["allowUiUpdates"]


def test_metrics_of_evaluations_exist() -> None:
    """Each `ml_evaluation_*` in a panel or rule is a gauge of the service, or a series that a rule records."""
    texts = [json.dumps(dashboard) for dashboard in DASHBOARDS.values()]
    rules = "\n".join(path.read_text() for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml")))
    units = {"1": "_ratio", "s": "_seconds"}
    gauges = {gauge.name.replace(".", "_") + units.get(gauge.unit, "") for gauge in EVALUATION_GAUGES}
    recorded = set(re.findall(r"record: (job_model:ml_evaluation_[\w:]+)", rules))
    # The names of attributes.
    attributes = {"ml_evaluation_label", "ml_evaluation_average"}

    for text in (*texts, rules):
        assert set(re.findall(r"(?<![\w:])ml_evaluation_\w+", text)) <= gauges | attributes
        assert set(re.findall(r"job_model:ml_evaluation_[\w:]+", text)) <= recorded
