"""The content of docker-compose.yml and Dockerfile. tests/deploy/test_compose_up.py runs them."""

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
    """Return the bytes of ``1g`` or ``819MiB``."""
    number, unit = re.fullmatch(r"(\d+)([a-zA-Z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def command(service: str) -> list[str]:
    """Return the arguments of a service as a list."""
    arguments = SERVICES[service]["command"]
    return shlex.split(arguments) if isinstance(arguments, str) else arguments


def test_images_have_the_versions_of_the_native_components() -> None:
    """`docker compose up` and `./dev stack up` use the same versions; Grafana, which is not built, is pinned."""
    images = {name: service["image"].partition("@")[0] for name, service in SERVICES.items() if name not in OURS}

    assert {name: image for name, image in images.items() if name != "grafana"} == {
        name: component.image for name, component in PARTS.items()
    }
    assert re.fullmatch(r"grafana/grafana:\d+\.\d+\.\d+", images["grafana"])


def test_images_are_pinned_by_digest() -> None:
    """A digest always names the same image; docs/compose.md lists the images without one."""
    images = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}
    (base,) = re.findall(r"^ARG PYTHON=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    unpinned = {image for image in [*images.values(), base] if not re.search(r"@sha256:[0-9a-f]{64}$", image)}
    page = (ROOT / "docs" / "compose.md").read_text()

    assert unpinned == {images["jaeger"], images["prometheus"]}
    assert all(f"`{image}`" in page for image in unpinned)


def test_the_project_image_has_the_package_version() -> None:
    """Compose file and Dockerfile use the version of the package and the version of uv in ./dev."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert {SERVICES[name]["image"] for name in OURS} == {f"modeltrace:{version}"}
    assert f"ARG VERSION={version}\n" in dockerfile
    assert set(re.findall(r"uv==[\d.]+", dockerfile)) == set(re.findall(r"uv==[\d.]+", (ROOT / "dev").read_text()))


@pytest.mark.parametrize("name", SERVICES)
def test_containers_have_minimal_privileges(name: str) -> None:
    """Read-only root, no capabilities, no new privileges, a non-root user, limited memory and logs."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert size(service["mem_limit"]) <= 2**30
    if name == "volumes":  # sets the owners of new volumes, then exits
        assert (service["user"], service["cap_add"], service["network_mode"]) == ("0:0", ["CHOWN"], "none")
    else:
        assert int(service["user"].partition(":")[0]) > 0
        assert "cap_add" not in service


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - OURS))
def test_gomemlimit_is_80_percent_of_the_memory_limit(name: str) -> None:
    """The garbage collector of Go works harder near the limit, before the kernel kills the process."""
    service = SERVICES[name]

    assert size(service["environment"]["GOMEMLIMIT"]) == pytest.approx(0.8 * size(service["mem_limit"]), rel=0.01)


def test_the_service_restricts_its_callers() -> None:
    """It listens on all addresses of its container, requires a key if one is set, and lists its host names."""
    environment, traffic = (SERVICES[name]["environment"] for name in ("modeltrace", "traffic"))

    assert environment["MODELTRACE_API_KEY"] == traffic["MODELTRACE_API_KEY"] == "${MODELTRACE_API_KEY:-}"
    assert environment["MODELTRACE_INSECURE"] == "${MODELTRACE_INSECURE:-true}"
    assert environment["MODELTRACE_ALLOWED_HOSTS"] == "${MODELTRACE_ALLOWED_HOSTS:-localhost,modeltrace}"
    assert not re.search("(?m)^ENV.*(API_KEY|INSECURE)", (ROOT / "Dockerfile").read_text())


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    """Every published port is on 127.0.0.1, and a variable can change it."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-\d+\}:\d+", port)


@pytest.mark.parametrize("name", SERVICES)
def test_configuration_is_mounted_read_only(name: str) -> None:
    """Mounts of the host are read-only; data is written to named volumes."""
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    for mount in SERVICES[name].get("volumes", []):
        source, _, mode = mount.split(":") if mount.count(":") == 2 else (*mount.split(":"), "rw")
        if mode != "ro":
            assert source in volumes
        elif source != "/":  # node_exporter reads the host
            assert (ROOT / source).is_dir(), f"{source} is not there: Docker would make an empty folder of it"


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_the_native_component_has_the_same_flags(name: str) -> None:
    """A feature flag of one way to start is also set in the other."""
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
    """Each variable of a component is read by its configuration, and each one without a default is set."""
    files = [path for pattern in ("*.yaml", "*.yml") for path in (ROOT / folder).rglob(pattern)]
    read = set(re.findall(r"(?<!\$)\$\{(?:env:)?([A-Z_]+)", "".join(path.read_text() for path in files)))
    of_program = re.compile(r"GOMEMLIMIT|OTEL_TRACES_SAMPLER|GF_.*")  # read by the program itself
    variables = {variable for variable in SERVICES[name]["environment"] if not of_program.fullmatch(variable)}

    assert variables <= read
    if name == "grafana":
        assert variables == read


def test_every_component_is_scraped_at_its_port() -> None:
    """Prometheus scrapes each component under its name, and knows the Alertmanager."""
    folder = ROOT / "deploy" / "prometheus" / "targets"
    scraped = {
        group["labels"]["component"]: group["targets"]
        for group in yaml.safe_load((folder / "components.yml").read_text())
    }
    expected = {}
    for name, component in PARTS.items():
        port = re.fullmatch(r"\{host\}:\{(\w+)\.(\w+)\}", component.metrics)
        assert port is not None
        expected[name] = [f"{name}:{PARTS[port[1]].ports[port[2]]}"]

    assert scraped == expected
    assert yaml.safe_load((folder / "alertmanager.yml").read_text()) == [{"targets": ["alertmanager:9093"]}]


def test_the_documented_override_without_loki_is_complete() -> None:
    """It removes Loki from every `depends_on`, and gives the Collector a file in its own folder."""

    class Loader(yaml.SafeLoader):
        """Reads the Compose tag as the mapping that it marks."""

    Loader.add_constructor("!override", lambda loader, node: loader.construct_mapping(node, deep=True))
    text = (ROOT / "docs" / "compose.md").read_text()
    (documented,) = re.findall(r"```yaml\n(# without-loki\.yml\n.*?)```", text, re.DOTALL)
    services = yaml.load(documented, Loader)["services"]  # noqa: S506  a subclass of SafeLoader
    waiting = {name: s["depends_on"] for name, s in SERVICES.items() if "loki" in s.get("depends_on", {})}

    assert services == {
        "loki": {"profiles": ["absent"]},
        **{n: {"depends_on": {k: v for k, v in of.items() if k != "loki"}} for n, of in waiting.items()},
    }
    (option,) = re.findall(r"OTELCOL_ARGS=--config=/etc/otelcol/(\S+)\n", text)
    assert (ROOT / "otel" / option).exists()


def test_the_build_context_contains_only_copied_files() -> None:
    """.dockerignore admits exactly the files that the Dockerfile copies."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text())
        for source in line.split()[:-1]
    }

    assert allowed == copied
