"""docker-compose.yml and Dockerfile say what they should; tests/deploy/test_compose_up.py runs them."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.components import read_components

ROOT = Path(__file__).parent.parent.parent
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PARTS = read_components().components
OURS = {"modeltrace", "traffic", "ready", "volumes"}
UNITS = {"g": 2**30, "m": 2**20, "MiB": 2**20}


def size(text: str) -> int:
    """Bytes of ``1g`` or ``819MiB``."""
    number, unit = re.fullmatch(r"(\d+)([a-zA-Z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def command(service: str) -> list[str]:
    """The arguments of a service, each once."""
    said = SERVICES[service]["command"]
    return shlex.split(said) if isinstance(said, str) else said


def test_images_are_the_versions_of_the_native_parts() -> None:
    """What `docker compose up` pulls is what `./dev stack up` builds; Grafana, which cannot be built, is pinned too."""
    images = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}

    assert {name: image for name, image in images.items() if name != "grafana"} == {
        name: part.image for name, part in PARTS.items()
    }
    assert re.fullmatch(r"grafana/grafana:\d+\.\d+\.\d+", images["grafana"])


def test_our_own_image_has_our_own_version() -> None:
    """Compose file and Dockerfile name the version of the package; uv's is the one that ./dev gets."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert {SERVICES[name]["image"] for name in OURS} == {f"modeltrace:{version}"}
    assert f"ARG VERSION={version}\n" in dockerfile
    assert set(re.findall(r"uv==[\d.]+", dockerfile)) == set(re.findall(r"uv==[\d.]+", (ROOT / "dev").read_text()))


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_little(name: str) -> None:
    """Read-only root, no capabilities, no new privileges, a user other than root, limited memory and logs."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert size(service["mem_limit"]) <= 2**30
    if name == "volumes":  # gives new volumes to their users, then ends
        assert (service["user"], service["cap_add"], service["network_mode"]) == ("0:0", ["CHOWN"], "none")
    else:
        assert int(service["user"].partition(":")[0]) > 0
        assert "cap_add" not in service


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - OURS))
def test_go_keeps_below_the_limit(name: str) -> None:
    """The collector of Go's memory works harder from 80 % of the limit on, before the kernel ends the process."""
    service = SERVICES[name]

    assert size(service["environment"]["GOMEMLIMIT"]) == pytest.approx(0.8 * size(service["mem_limit"]), rel=0.01)


def test_the_service_says_who_may_call_it() -> None:
    """In its container it listens on all addresses; no key is asked for unless there is one, and names are listed."""
    environment, traffic = (SERVICES[name]["environment"] for name in ("modeltrace", "traffic"))

    assert environment["MODELTRACE_API_KEY"] == traffic["MODELTRACE_API_KEY"] == "${MODELTRACE_API_KEY:-}"
    assert environment["MODELTRACE_INSECURE"] == "${MODELTRACE_INSECURE:-true}"
    assert environment["MODELTRACE_ALLOWED_HOSTS"] == "${MODELTRACE_ALLOWED_HOSTS:-localhost,modeltrace}"
    assert not re.search("(?m)^ENV.*(API_KEY|INSECURE)", (ROOT / "Dockerfile").read_text())


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    """Every published port names 127.0.0.1, and can be moved by a variable."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-\d+\}:\d+", port)


@pytest.mark.parametrize("name", SERVICES)
def test_configuration_is_mounted_read_only(name: str) -> None:
    """Whatever comes from the host cannot be written; what is written is in named volumes."""
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    for mount in SERVICES[name].get("volumes", []):
        source, _, mode = mount.split(":") if mount.count(":") == 2 else (*mount.split(":"), "rw")
        if mode != "ro":
            assert source in volumes
        elif source != "/":  # node_exporter looks at the host
            assert (ROOT / source).is_dir(), f"{source} is not there: Docker would make an empty folder of it"


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_the_native_part_has_the_same_flags(name: str) -> None:
    """A feature switched on in one of the two ways to start is on in the other, too."""
    placed = ("config.file", "storage.path", "storage.tsdb.path", "web.listen-address", "web.external-url")

    def flags(arguments: list[str]) -> set[str]:
        return {a for a in arguments if a.startswith("--") and not a.removeprefix("--").startswith(placed)}

    assert flags(command(name)) == flags(PARTS[name].command)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("otelcol", "otel"),
        ("jaeger", "deploy/jaeger"),
        ("loki", "deploy/loki"),
        ("prometheus", "deploy/prometheus"),
        ("grafana", "deploy/grafana/provisioning"),
    ],
)
def test_variables_are_those_that_the_configuration_reads(name: str, folder: str) -> None:
    """No variable of a part is one that its configuration does not ask for, and none without a default is missing."""
    files = [path for pattern in ("*.yaml", "*.yml") for path in (ROOT / folder).rglob(pattern)]
    asked = set(re.findall(r"(?<!\$)\$\{(?:env:)?([A-Z_]+)", "".join(path.read_text() for path in files)))
    given = {v for v in SERVICES[name]["environment"] if v != "GOMEMLIMIT" and not v.startswith("GF_")}

    assert given <= asked
    if name == "grafana":
        assert given == asked


def test_every_part_is_scraped_at_its_own_port() -> None:
    """Prometheus finds each part's own metrics under the part's name, and Alertmanager for the alerts."""
    folder = ROOT / "deploy" / "prometheus" / "targets"
    scraped = {
        group["labels"]["component"]: group["targets"]
        for group in yaml.safe_load((folder / "components.yml").read_text())
    }
    expected = {}
    for name, part in PARTS.items():
        port = re.fullmatch(r"\{host\}:\{(\w+)\.(\w+)\}", part.metrics)
        assert port is not None
        expected[name] = [f"{name}:{PARTS[port[1]].ports[port[2]]}"]

    assert scraped == expected
    assert yaml.safe_load((folder / "alertmanager.yml").read_text()) == [{"targets": ["alertmanager:9093"]}]


def test_the_documented_way_to_leave_loki_out_is_whole() -> None:
    """Every service that waits for Loki waits for all but Loki, and the Collector gets a file of its own folder."""

    class Loader(yaml.SafeLoader):
        """Reads Compose's tag as the mapping behind it."""

    Loader.add_constructor("!override", lambda loader, node: loader.construct_mapping(node, deep=True))
    text = (ROOT / "docs" / "compose.md").read_text()
    (documented,) = re.findall(r"```yaml\n(# without-loki\.yml\n.*?)```", text, re.DOTALL)
    services = yaml.load(documented, Loader)["services"]  # noqa: S506  a safe one
    waiting = {name: s["depends_on"] for name, s in SERVICES.items() if "loki" in s.get("depends_on", {})}

    assert services == {
        "loki": {"profiles": ["absent"]},
        **{n: {"depends_on": {k: v for k, v in of.items() if k != "loki"}} for n, of in waiting.items()},
    }
    (option,) = re.findall(r"OTELCOL_ARGS=--config=/etc/otelcol/(\S+)\n", text)
    assert (ROOT / "otel" / option).exists()


def test_only_what_the_image_is_built_from_is_sent_to_the_engine() -> None:
    """.dockerignore lets through what the Dockerfile copies, and nothing else."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text())
        for source in line.split()[:-1]
    }

    assert allowed == copied
