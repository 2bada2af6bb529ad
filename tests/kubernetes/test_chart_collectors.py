"""The real Collector validates the configuration that the Helm chart gives to agents and gateways."""

import re
from pathlib import Path

import pytest
import yaml

from tests.helpers.collector import validate
from tests.helpers.helm import CHART, EXAMPLES, Manifest, environment, find, pods, render

pytestmark = [pytest.mark.stack, pytest.mark.slow]

# Variables of the Secrets in the examples.
SECRETS = {"vendor": {"HONEYCOMB_API_KEY": "key"}}
# Variables from fields of the pod.
FIELDS = {"POD_NAME": "modeltrace-gateway-0", "KUBE_NODE_NAME": "node-1"}
WITH_COLLECTORS = [path for path in EXAMPLES if "agent: {enabled: false}" not in path.read_text()]


def write_configuration(manifests: list[Manifest], pod: Manifest, folder: Path) -> list[Path]:
    """Write the files of a pod's ConfigMap to their paths, and return those that its arguments name, in their order."""
    (volume,) = [volume for volume in pod["volumes"] if "configMap" in volume]
    data = find(manifests, "ConfigMap", volume["configMap"]["name"])["data"]
    for item in volume["configMap"]["items"]:
        path = folder / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data[item["key"]])
    return [folder / argument.removeprefix("--config=/etc/otelcol/") for argument in pod["containers"][0]["args"]]


def expanded(pod: Manifest) -> dict[str, str]:
    """Return the variables of a pod as Kubernetes sets them: fields have invented values, `$(NAME)` is replaced."""
    variables = environment(pod["containers"][0]) | FIELDS
    return {k: re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], v) for k, v in variables.items()}


@pytest.mark.parametrize("path", WITH_COLLECTORS, ids=lambda path: path.stem)
def test_the_collector_accepts_its_configuration(path: Path, tmp_path: Path) -> None:
    """Each agent and gateway, with the files, their order and the variables of its pod."""
    manifests = render(path)
    collectors = {name: pod for name, pod in pods(manifests).items() if name.startswith(("DaemonSet", "StatefulSet"))}
    assert len(collectors) == 2
    for name, pod in collectors.items():
        files = write_configuration(manifests, pod, tmp_path / name)
        result = validate(*files, environment=expanded(pod) | SECRETS.get(path.stem, {}))

        if any(file.name == "opensearch.yaml" for file in files):  # only the official image has its exporter
            assert result.stderr.count("unknown type") == 1
            assert 'unknown type: "opensearch"' in result.stderr
        else:
            assert result.returncode == 0, f"{name}: {result.stderr}"


def test_an_error_in_the_last_file_is_found(tmp_path: Path) -> None:
    """`extraConfig` is validated, too: it is merged last."""
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"gateway": {"extraConfig": {"exporters": {"debug": {"verbose": True}}}}}))
    manifests = render(CHART / "examples" / "minimal.yaml", values)
    pod = pods(manifests)["StatefulSet/modeltrace-gateway"]
    result = validate(*write_configuration(manifests, pod, tmp_path), environment=expanded(pod))

    assert result.returncode == 1
    assert "verbose" in result.stderr
