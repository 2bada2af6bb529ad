"""`docker compose up` with a real engine and the docker-compose.yml of the repository."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
import yaml

from modeltrace.bundles.pack import pack
from modeltrace.inference.prediction_ids import PredictionIdSigner
from stack.components import read_components
from tests.helpers.backends import RealStack
from tests.helpers.engine import Engine, NoEngineError, running_engine
from tests.helpers.images import BASE, index_secrets, provide
from tests.helpers.log_stores import FileLogs, LokiLogs
from tests.helpers.processes import free_port, wait_until

ROOT = Path(__file__).parent.parent.parent
FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PARTS = read_components().components
# An image that the tests build has the version of the official one, but another digest.
IMAGES = {
    name: {"image": service["image"].partition("@")[0]}
    for name, service in FILE["services"].items()
    if "@" in service["image"]
}
PIN = {"baggage": "modeltrace.pin=1"}

pytestmark = [pytest.mark.stack, pytest.mark.docker]


@dataclass(frozen=True)
class Compose:
    """The project: its engine, its files and its ports."""

    engine: Engine
    files: tuple[Path, ...]
    ports: Mapping[str, int]
    project: str
    absent: frozenset[str]

    def __call__(self, *arguments: str, files: tuple[Path, ...] = ()) -> str:
        """Run `docker compose …` with these additional files and return its output."""
        named = [option for file in (*self.files, *files) for option in ("--file", str(file))]
        environment = {name: str(port) for name, port in self.ports.items()}
        environment |= {"OTEL_METRIC_EXPORT_INTERVAL": "1000", **self.collector_options()}
        command = [*self.engine.compose_command, "--project-name", self.project, *named, *arguments]
        return self.engine.run(command, environment=environment)

    def collector_options(self) -> dict[str, str]:
        """Return the variable with the options of the Collector without Loki."""
        return {"OTELCOL_ARGS": "--config=/etc/otelcol/log-file.yaml"} if "loki" in self.absent else {}

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return what the engine reports of each container, by service."""
        containers = self.engine.inspect(*self("ps", "--all", "--quiet").split())
        return {container["Config"]["Labels"]["com.docker.compose.service"]: container for container in containers}

    def url(self, port: str) -> str:
        """Return the URL of a published port."""
        return f"http://127.0.0.1:{self.ports[port]}"


def absent_services(engine: Engine) -> frozenset[str]:
    """Return the AGPL services whose image the engine does not have. The tests do not pull them."""
    return frozenset(name for name in ("grafana", "loki") if not engine.has(IMAGES[name]["image"]))


class Replaced(dict[str, Any]):
    """A mapping that replaces the one in docker-compose.yml instead of being merged with it."""


class Dumper(yaml.SafeDumper):
    """Writes the Compose tag of such a mapping."""


Dumper.add_representer(Replaced, lambda dumper, value: dumper.represent_mapping("!override", value))


def without(absent: frozenset[str]) -> dict[str, Any]:
    """Return the services of docker-compose.yml without absent ones and without dependencies on them."""
    waiting = {
        name: Replaced({k: v for k, v in service["depends_on"].items() if k not in absent})
        for name, service in FILE["services"].items()
        if name not in absent and absent & service.get("depends_on", {}).keys()
    }
    return {
        **{name: {"depends_on": depends_on} for name, depends_on in waiting.items()},
        **{name: {"profiles": ["absent"]} for name in absent},
    }


def override(folder: Path, absent: frozenset[str]) -> Path:
    """Return the override file of the tests: removed services, and access of the build to the package index."""
    secrets = index_secrets(folder)
    file = folder / "test.yml"
    changes = without(absent)
    document = {
        "services": {
            "modeltrace": {"build": {"network": "host", "secrets": [*secrets], "args": {"PYTHON": BASE}}},
            **{name: IMAGES.get(name, {}) | changes.get(name, {}) for name in IMAGES.keys() | changes.keys()},
        },
        "secrets": {name: {"file": str(path)} for name, path in secrets.items()},
    }
    file.write_text(yaml.dump(document, Dumper=Dumper))
    return file


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Prepare an engine with all images except the AGPL ones. Remove what the tests create in a shared engine."""
    try:
        with running_engine() as engine:
            built = provide(engine)
            try:
                yield engine
            finally:
                if engine.own:
                    engine.docker("image", "prune", "--force")
                    engine.docker("builder", "prune", "--force", "--keep-storage", "4GB")
                elif built:
                    engine.docker("rmi", "--force", *built)
    except NoEngineError as error:
        pytest.skip(f"docker compose: {error}")


@pytest.fixture(scope="module")
def compose(engine: Engine) -> Iterator[Compose]:
    """Start all services on free ports and wait until they are healthy. Remove them with their volumes afterwards."""
    absent = absent_services(engine)
    names = re.findall(r"\$\{([A-Z_]+_PORT):-", (ROOT / "docker-compose.yml").read_text())
    with TemporaryDirectory() as folder:
        compose = Compose(
            engine,
            (ROOT / "docker-compose.yml", override(Path(folder), absent)),
            {name: free_port() for name in names},
            f"modeltrace-test-{os.getpid()}",
            absent,
        )
        try:
            compose("up", "--build", "--detach", "--wait", "--quiet-pull")
            yield compose
        except AssertionError:
            print(compose("ps", "--all"), compose("logs", "--tail", "20"))  # noqa: T201  shows why it did not start
            raise
        finally:
            compose("--profile", "*", "down", "--volumes", "--timeout", "10")


@pytest.fixture(scope="module")
def backend(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStack]:
    """Connect to the stores behind the published ports. Without Loki, read copies of the Collector's file."""
    copied = tmp_path_factory.mktemp("records")

    def fetch() -> None:
        with suppress(AssertionError):  # the folder exists after the first record
            compose("cp", "otelcol:/var/lib/otelcol/logs/.", str(copied))

    with httpx.Client(timeout=30) as client:
        loki = LokiLogs(compose.url("LOKI_PORT"), client)
        yield RealStack(
            otlp_url=compose.url("OTLP_HTTP_PORT"),
            grpc_url=compose.url("OTLP_GRPC_PORT"),
            jaeger=compose.url("JAEGER_PORT"),
            log_store=FileLogs(copied / "records.jsonl", fetch) if "loki" in compose.absent else loki,
            prometheus=compose.url("PROMETHEUS_PORT"),
            sampling="",
            client=client,
        )


@pytest.mark.parametrize("service", ["grafana", "loki"])
def test_an_agpl_image_runs_if_the_engine_has_it(compose: Compose, service: str) -> None:
    """The tests do not pull it; if the engine has it, its container is healthy."""
    if service in compose.absent:
        pytest.skip(f"{IMAGES[service]['image']} in docker compose: under the AGPL, the engine does not have it")

    assert compose.containers()[service]["State"]["Running"]


def predict(compose: Compose) -> dict[str, Any]:
    """Send the example row of the model's description."""
    url = compose.url("MODELTRACE_PORT")
    features = httpx.get(f"{url}/model").raise_for_status().json()["features"]
    row = {feature["name"]: feature["example"] for feature in features}
    answer = httpx.post(f"{url}/predict", json={"features": row}, headers=PIN)
    assert answer.status_code == 200, answer.text
    answered: dict[str, Any] = answer.json()
    return answered


def test_one_trace_id_is_found_everywhere(compose: Compose, backend: RealStack) -> None:
    """The trace ID of a prediction is found in Jaeger, in its log records and in an exemplar of Prometheus."""
    trace_id = predict(compose)["trace_id"]

    spans = wait_until(lambda: s if len(s := backend.spans(trace_id)) >= 4 else None, description="spans in Jaeger")
    logs = wait_until(lambda: s if len(s := backend.logs(trace_id)) >= 2 else None, description="log records")
    exemplars = wait_until(lambda: backend.exemplars(trace_id), description="an exemplar in Prometheus")

    assert {span["name"] for span in spans} == {"POST /predict", "validate", "features", "inference"}
    assert {log["scope_name"] for log in logs} == {"uvicorn.access", "modeltrace.prediction"}
    assert "ml.inference.duration" in {exemplar["metric_name"] for exemplar in exemplars}


def test_prometheus_scrapes_every_component_and_knows_alertmanager(compose: Compose, backend: RealStack) -> None:
    """Metrics of each component arrive under its name, and alerts are sent to Alertmanager."""

    def scraped() -> set[str]:
        return {series["metric"]["job"] for series in backend.query("up == 1")}

    wait_until(lambda: scraped() >= PARTS.keys() - compose.absent, description="the scrape of every component")
    answer = httpx.get(f"{compose.url('PROMETHEUS_PORT')}/api/v1/alertmanagers").json()
    assert [manager["url"] for manager in answer["data"]["activeAlertmanagers"]] == [
        "http://alertmanager:9093/api/v2/alerts"
    ]


def test_node_exporter_measures_the_host(compose: Compose, backend: RealStack) -> None:
    """The size of `/` and the host name are those of the machine, not of the container."""
    query = 'node_filesystem_size_bytes{mountpoint="/"}'
    (series,) = wait_until(lambda: backend.query(query), description=query)
    (uname,) = wait_until(lambda: backend.query("node_uname_info"), description="node_uname_info")

    if compose.engine.own:  # the engine runs on this machine
        assert int(series["value"][1]) == shutil.disk_usage("/").total
        assert uname["metric"]["nodename"] == os.uname().nodename
    assert uname["metric"]["nodename"] != compose.containers()["node_exporter"]["Id"][:12]


def test_containers_run_without_privileges(compose: Compose) -> None:
    """No process is root or has a capability, root file systems are read-only, and memory is limited."""
    for name, container in compose.containers().items():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"] is True, name
        assert host["Memory"] > 0, name
        assert host["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        if container["State"]["Running"]:
            users = compose.engine.docker("top", container["Id"], "-eo", "pid,uid").split("\n")[1:]
            assert all(line.split()[1] != "0" for line in users if line), name

    inside = compose("exec", "--no-TTY", "modeltrace", "cat", "/proc/self/status")
    assert re.search(r"CapEff:\s+0{16}\n", inside)
    assert re.search(r"CapBnd:\s+0{16}\n", inside)
    assert re.search(r"NoNewPrivs:\s+1\n", inside)
    with pytest.raises(AssertionError, match="Read-only file system"):
        compose("exec", "--no-TTY", "modeltrace", "touch", "/opt/modeltrace/x")


def test_configuration_is_read_only(compose: Compose) -> None:
    """Every mount of a host folder is read-only."""
    mounts = [mount for container in compose.containers().values() for mount in container["Mounts"]]

    bound = [mount for mount in mounts if mount["Type"] == "bind"]
    services = [service for name, service in FILE["services"].items() if name not in compose.absent]
    assert len(bound) == sum(mount.endswith(":ro") for service in services for mount in service.get("volumes", []))
    assert [mount["Source"] for mount in bound if mount["RW"]] == []
    # An unnamed volume would be created by an image and never removed.
    assert [m["Name"] for m in mounts if m["Type"] == "volume" and re.fullmatch("[0-9a-f]{64}", m["Name"])] == []


def test_ports_are_on_loopback(compose: Compose) -> None:
    """All ports are published on 127.0.0.1."""
    published = [
        (name, binding["HostIp"], binding["HostPort"])
        for name, container in compose.containers().items()
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]

    assert {host for _, host, _ in published} == {"127.0.0.1"}
    assert {int(port) for _, _, port in published} >= {
        port for name, port in compose.ports.items() if name.removesuffix("_PORT").lower() not in compose.absent
    }


def test_the_image_contains_exactly_the_locked_packages(compose: Compose) -> None:
    """Every package has the version in requirements.lock, and there is no package of the tests."""
    script = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    packages = json.loads(compose("exec", "--no-TTY", "modeltrace", "/opt/modeltrace/bin/python", "-Ic", script))
    inside = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in packages.items()}
    locked = re.findall(r"(?m)^([a-z0-9._-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text())

    del inside["modeltrace"]
    assert len(inside) > 50
    assert [item for item in inside.items() if item not in locked] == []
    assert not inside.keys() & {"pytest", "mypy", "ruff", "playwright", "hatchling", "pip"}


def test_stored_data_survives_new_containers(compose: Compose, backend: RealStack) -> None:
    """New containers on the old volumes return the old traces and records, and sign with the old key."""
    answer = predict(compose)
    trace_id, key = answer["trace_id"], ("exec", "--no-TTY", "modeltrace", "cat", "/var/lib/modeltrace/id.key")
    wait_until(lambda: backend.spans(trace_id) and len(backend.logs(trace_id)) >= 2, description="the prediction")
    before = compose(*key)

    stores = "otelcol" if "loki" in compose.absent else "loki"
    compose("up", "--detach", "--wait", "--force-recreate", "jaeger", stores, "prometheus", "modeltrace")

    assert backend.spans(trace_id)
    assert backend.logs(trace_id)
    assert compose(*key) == before


def test_traffic_is_a_profile(compose: Compose) -> None:
    """`--profile traffic` sends predictions; without it there are none."""
    assert "traffic" not in compose.containers()

    compose("--profile", "traffic", "up", "--detach", "--wait", "traffic")

    line = wait_until(lambda: re.search(r"\d+ sent.*", compose("logs", "traffic")), description="a line about traffic")
    assert " 0 failed" in line[0]
    compose("--profile", "traffic", "rm", "--stop", "--force", "traffic")


def test_a_custom_model_is_served(compose: Compose, tmp_path: Path) -> None:
    """A second file with a bundle and a key as a secret is sufficient, as docs/compose.md shows."""
    text = (ROOT / "docs" / "compose.md").read_text()
    (documented,) = re.findall(r"```yaml\n(# mine\.yml\n.*?)```", text, re.DOTALL)
    (tmp_path / "churn").symlink_to(small_bundle(tmp_path / "bundle"))
    (tmp_path / "id.key").write_text(key := "a key that only the tests use")
    mine = tmp_path / "mine.yml"
    mine.write_text(documented.replace("./", f"{tmp_path}/"))

    compose("up", "--detach", "--wait", "modeltrace", files=(mine,))

    assert httpx.get(f"{compose.url('MODELTRACE_PORT')}/model").json()["name"] == "churn"
    answer = predict(compose)
    assert f"{PredictionIdSigner(key.encode()).verify(answer['prediction_id']).trace_id:032x}" == answer["trace_id"]


def small_bundle(out: Path) -> Path:
    """Build the bundle of a small model named churn."""
    import pandas as pd  # noqa: PLC0415  slow import that other tests do not need
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    data = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "calls": [1.0, 5.0, 2.0, 8.0]})
    labels = pd.Series(["stays", "leaves", "stays", "leaves"], name="churned")
    return pack(LogisticRegression().fit(data.to_numpy(), labels), data, labels, name="churn", version="1", out=out)


def test_containers_stop_without_sigkill(compose: Compose) -> None:
    """SIGKILL would lose queued items. Only `ready`, which has no data, is killed."""
    compose("stop")

    ended = {name: container["State"]["ExitCode"] for name, container in compose.containers().items()}
    assert [name for name, code in ended.items() if code == 137] == ["ready"]
