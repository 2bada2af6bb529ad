"""The objects that the Helm chart renders for each values file of deploy/kubernetes/examples."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from modeltrace.settings import Settings
from tests.helpers.helm import (
    CHART,
    EXAMPLES,
    NAMESPACE,
    ROOT,
    VERSIONS,
    Manifest,
    environment,
    find,
    helm,
    pods,
    render,
    schema_errors,
    title,
)

pytestmark = pytest.mark.slow

EXAMPLE = {path.stem: path for path in EXAMPLES}
OPERATORS = ("keda.sh/", "monitoring.coreos.com/")  # their definitions are not part of Kubernetes
# Examples that need a newer Kubernetes than the chart, and the oldest version of the schemas that accepts them.
NEWER = {"bundle-image": "1.33.0"}

every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


@every_example
def test_helm_lint_accepts_it(path: Path) -> None:
    """The chart has no error and no warning with these values."""
    done = helm("lint", "--strict", CHART, f"--values={path}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout + done.stderr


@every_example
@pytest.mark.parametrize("version", VERSIONS)
def test_objects_have_the_fields_of_kubernetes(path: Path, version: str) -> None:
    """The strict schemas of the oldest and the newest Kubernetes know every field."""
    known = [m for m in render(path) if not m["apiVersion"].startswith(OPERATORS)]
    accepted = max(version, NEWER.get(path.stem, version))

    assert {title(m): errors for m in known if (errors := schema_errors(m, accepted))} == {}


@every_example
def test_objects_have_unique_names_and_the_labels_of_helm(path: Path) -> None:
    """No object replaces another one, and each is found by `app.kubernetes.io/instance`."""
    manifests = render(path)
    names = [(m["apiVersion"].partition("/")[0], title(m)) for m in manifests]

    assert len(set(names)) == len(names)
    for manifest in manifests:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "modeltrace", title(manifest)
        assert "namespace" not in manifest["metadata"], title(manifest)


@every_example
def test_containers_have_minimal_privileges(path: Path) -> None:
    """The fields of the pod security level `restricted`; only an agent with a folder of the node is root."""
    for name, pod in pods(render(path)).items():
        root = any("hostPath" in volume for volume in pod.get("volumes", []))
        assert root == (name == "DaemonSet/modeltrace-agent" and path.stem != "restricted")
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        if not root:
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert "runAsUser" not in pod["securityContext"]  # OpenShift assigns one
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"].keys() == {"memory"}


@every_example
def test_services_of_the_namespace_do_not_set_variables(path: Path) -> None:
    """A Service named modeltrace would set MODELTRACE_PORT=tcp://…, so no pod gets the variables of Services."""
    for name, pod in pods(render(path)).items():
        assert pod["enableServiceLinks"] is False, name


@every_example
def test_selectors_and_templates_do_not_contain_the_version(path: Path) -> None:
    """Selectors and claim templates cannot be updated, and a new label of the template would replace every pod."""
    for manifest in render(path):
        spec = manifest.get("spec", {})
        if "template" not in spec:
            continue
        labels = [spec["template"]["metadata"]["labels"], spec["selector"]["matchLabels"]]
        labels += [claim["metadata"]["labels"] for claim in spec.get("volumeClaimTemplates", [])]
        for mapping in labels:
            assert not mapping.keys() & {"helm.sh/chart", "app.kubernetes.io/version"}, title(manifest)


@every_example
def test_network_policies_and_services_select_existing_pods(path: Path) -> None:
    """Each selector of the chart matches the labels of a workload, and each named port exists there."""
    manifests = render(path)
    labels = {
        title(m): m["spec"]["template"]["metadata"]["labels"] for m in manifests if "template" in m.get("spec", {})
    }
    ports = {
        name: {p["name"] for c in pod["containers"] for p in c.get("ports", [])}
        for name, pod in pods(manifests).items()
    }

    def selected(selector: Manifest) -> str:
        (name,) = [name for name, own in labels.items() if selector.items() <= own.items()]
        return name

    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            assert {port["targetPort"] for port in spec["ports"]} <= ports[selected(spec["selector"])]
        elif manifest["kind"] == "NetworkPolicy":
            used = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
            assert used <= ports[selected(spec["podSelector"]["matchLabels"])]
        elif manifest["kind"] == "PodDisruptionBudget":
            assert selected(spec["selector"]["matchLabels"])


# ── Point by point ──


def test_versions_are_those_of_the_project() -> None:
    """The chart's application is the package; the Collector is the image of docker-compose.yml."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    image = yaml.safe_load((CHART / "values.yaml").read_text())["collector"]["image"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["otelcol"]

    assert chart["version"] == chart["appVersion"] == package["version"]
    assert f"{image['repository'].removeprefix('docker.io/')}:{image['tag']}" == compose["image"]


def test_the_service_is_probed_and_stopped_in_time() -> None:
    """Startup and readiness use /readyz, liveness /healthz; the grace period is longer than all time-outs together."""
    deployment = find(render(EXAMPLE["replicas"]), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = environment(container)

    assert (
        container["startupProbe"]["httpGet"]
        == container["readinessProbe"]["httpGet"]
        == {"path": "/readyz", "port": "http", "scheme": "HTTP"}
    )
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http", "scheme": "HTTP"}
    steps = [float(variables[f"MODELTRACE_{name}_TIMEOUT"]) for name in ("DRAIN", "FLUSH")]
    assert pod["terminationGracePeriodSeconds"] > sum(steps) + container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def mounted_files(pod: Manifest, secrets: dict[str, list[str]]) -> dict[str, str]:
    """Return the path of each file that a pod gets from a Secret, and the Secret's name and key."""
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    files = {}
    for volume in pod["volumes"]:
        if secret := volume.get("secret"):
            items = secret.get("items") or [{"key": key, "path": key} for key in secrets[secret["secretName"]]]
            files |= {f"{mounts[volume['name']]}/{i['path']}": f"{secret['secretName']}/{i['key']}" for i in items}
    return files


def test_tls_of_the_service_and_to_the_receiver() -> None:
    """The service, its probes and clients use TLS, with files of the Secrets; `helm test` does not get the key."""
    manifests = render(EXAMPLE["tls"])
    secrets = {"modeltrace-tls": ["tls.crt", "tls.key", "ca.crt"], "hub-ca": ["ca.crt"]}
    pod = pods(manifests)["Deployment/modeltrace"]
    (container,) = pod["containers"]
    variables, files = environment(container), mounted_files(pod, secrets)

    assert files[variables["MODELTRACE_TLS_CERTIFICATE"]] == "modeltrace-tls/tls.crt"
    assert files[variables["MODELTRACE_TLS_KEY"]] == "modeltrace-tls/tls.key"
    assert files[variables["OTEL_EXPORTER_OTLP_CERTIFICATE"]] == "hub-ca/ca.crt"
    assert {container[f"{name}Probe"]["httpGet"]["scheme"] for name in ("startup", "readiness", "liveness")} == {
        "HTTPS"
    }
    ports = find(manifests, "Service", "modeltrace")["spec"]["ports"]
    assert {port["name"]: port["appProtocol"] for port in ports} == {"http": "https", "grpc": "https"}

    doctor = pods(manifests)["Pod/modeltrace-doctor"]
    (container,) = doctor["containers"]
    files = mounted_files(doctor, secrets)
    assert "https://modeltrace.ml.svc:8000" in container["args"]
    (ca,) = [argument.partition("=")[2] for argument in container["args"] if argument.startswith("--ca=")]
    assert (files[ca], files[environment(container)["SSL_CERT_FILE"]]) == ("modeltrace-tls/ca.crt", "hub-ca/ca.crt")
    assert "modeltrace-tls/tls.key" not in files.values()


def test_without_a_ca_the_check_trusts_the_certificate() -> None:
    """`helm test` verifies a self-signed certificate with the certificate itself."""
    doctor = pods(render(EXAMPLE["tls"], options=("--set=service.tls.caKey=",)))["Pod/modeltrace-doctor"]

    assert mounted_files(doctor, {})["/etc/modeltrace/service-ca/ca.pem"] == "modeltrace-tls/tls.crt"


@pytest.mark.parametrize(("name", "kind"), [("replicas", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")])
def test_an_autoscaled_deployment_has_no_replicas(name: str, kind: str) -> None:
    """A number of replicas would be restored by each upgrade, so there is none. A budget limits evictions."""
    manifests = render(EXAMPLE[name])
    deployment, scaler = find(manifests, "Deployment"), find(manifests, kind)

    assert "replicas" not in deployment["spec"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert find(manifests, "PodDisruptionBudget", "modeltrace")["spec"]["maxUnavailable"] == 1


def test_one_pod_with_sqlite_is_replaced_before_the_next_starts() -> None:
    """Two pods never write to one SQLite file. The claim outlives the release; no budget blocks a drain."""
    manifests = render(EXAMPLE["minimal"])
    deployment = find(manifests, "Deployment")

    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 1
    assert find(manifests, "PersistentVolumeClaim")["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert [m for m in manifests if title(m) == "PodDisruptionBudget/modeltrace"] == []


def test_every_variable_of_the_service_is_a_setting() -> None:
    """No values file sets a MODELTRACE_ variable that the service does not read."""
    known = {f"MODELTRACE_{name}".upper() for name in Settings.model_fields}
    for path in EXAMPLES:
        for pod in pods(render(path)).values():
            for container in pod["containers"]:
                used = {name for name in environment(container) if name.startswith("MODELTRACE_")}
                assert used <= known, path.name


def test_the_evaluation_is_a_job_of_its_own() -> None:
    """It reads the store of the service, logs to MLflow, and is off by default."""
    manifests = render(EXAMPLE["evaluation"])
    job = find(manifests, "CronJob")
    (container,) = pods(manifests)["CronJob/modeltrace-evaluation"]["containers"]
    variables = {entry["name"]: entry for entry in container["env"]}

    assert (job["spec"]["schedule"], job["spec"]["concurrencyPolicy"]) == ("10 3 * * *", "Forbid")
    assert container["args"] == ["evaluate", "--since=7d", "--mlflow=churn", "--json"]
    assert container["image"] == "registry.example.com/modeltrace-mlflow:0.1.0"
    assert variables["MLFLOW_TRACKING_URI"]["value"] == "https://mlflow.example.com"
    assert variables["MODELTRACE_STORE"]["valueFrom"]["secretKeyRef"] == {"name": "modeltrace", "key": "store-url"}
    assert not [m for m in render(EXAMPLE["service"]) if m["kind"] == "CronJob"]


def test_secrets_come_from_existing_secrets() -> None:
    """The chart creates no Secret, and keys and URLs of databases are references."""
    manifests = render(EXAMPLE["replicas"])
    (container,) = pods(manifests)["Deployment/modeltrace"]["containers"]
    references = {
        v["name"]: v["valueFrom"]["secretKeyRef"] for v in container["env"] if "secretKeyRef" in v.get("valueFrom", {})
    }

    assert not [m for m in manifests if m["kind"] == "Secret"]
    assert references == {
        "MODELTRACE_API_KEY": {"name": "modeltrace", "key": "api-key"},
        "MODELTRACE_ID_KEY": {"name": "modeltrace", "key": "id-key"},
        "MODELTRACE_STORE": {"name": "modeltrace", "key": "store-url"},
    }


def test_resource_attributes_are_encoded() -> None:
    """A comma in a value does not start another attribute; the node is the host."""
    (container,) = pods(render(EXAMPLE["replicas"]))["Deployment/modeltrace"]["containers"]
    attributes = environment(container)["OTEL_RESOURCE_ATTRIBUTES"].split(",")

    assert "service.namespace=risk%2C credit" in attributes
    assert "host.name=$(NODE_NAME)" in attributes


def test_large_numbers_have_no_exponent(tmp_path: Path) -> None:
    """YAML numbers reach the containers as they are written."""
    values = tmp_path / "values.yaml"
    numbers = {"MODELTRACE_MAX_BODY_BYTES": 33554432, "MODELTRACE_INLINE_THRESHOLD": 0.5, "MODELTRACE_BATCHING": True}
    values.write_text(yaml.safe_dump({"service": {"env": numbers}}))
    (container,) = pods(render(EXAMPLE["minimal"], values))["Deployment/modeltrace"]["containers"]

    assert {name: environment(container)[name] for name in numbers} == {
        "MODELTRACE_MAX_BODY_BYTES": "33554432",
        "MODELTRACE_INLINE_THRESHOLD": "0.5",
        "MODELTRACE_BATCHING": "true",
    }


def test_pods_send_to_the_agent_of_their_node() -> None:
    """The agents' Service keeps traffic on the node, and the service sends to it."""
    manifests = render(EXAMPLE["minimal"])
    (container,) = pods(manifests)["Deployment/modeltrace"]["containers"]

    assert find(manifests, "Service", "modeltrace-agent")["spec"]["internalTrafficPolicy"] == "Local"
    assert environment(container)["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://modeltrace-agent.{NAMESPACE}.svc:4318"


def test_gateways_keep_their_queues_when_they_are_scaled() -> None:
    """Claims are retained, pods start together, and a headless Service has the addresses for load balancing."""
    manifests = render(EXAMPLE["minimal"])
    spec = find(manifests, "StatefulSet")["spec"]
    headless = find(manifests, "Service", spec["serviceName"])
    (agent,) = pods(manifests)["DaemonSet/modeltrace-agent"]["containers"]

    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["podManagementPolicy"] == "Parallel"
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["metadata"]["name"] in environment(agent)["OTELCOL_GATEWAY_RESOLVER"]
    assert not [m for m in manifests if m["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]


def test_elastic_gateways_have_no_queue_to_leave_behind() -> None:
    """Only with Kafka the number of gateways changes by itself, and then no gateway has a claim."""
    manifests = render(EXAMPLE["kafka-elastic"])
    spec = find(manifests, "StatefulSet")["spec"]
    triggers = find(manifests, "ScaledObject")["spec"]["triggers"]

    assert not spec.keys() & {"replicas", "volumeClaimTemplates"}
    assert [(t["metadata"]["consumerGroup"], t["metadata"]["topic"]) for t in triggers] == [
        ("modeltrace-logs", "traces-eu_logs"),
        ("modeltrace-metrics", "traces-eu_metrics"),
        ("modeltrace-traces", "traces-eu_spans"),
    ]


def test_triggers_read_the_topics_and_groups_of_the_collector() -> None:
    """The scaler measures the lag of exactly the groups and topics in otel/tiers/gateway-kafka.yaml."""
    (container,) = pods(render(EXAMPLE["kafka-elastic"]))["StatefulSet/modeltrace-gateway"]["containers"]
    text = (ROOT / "otel" / "tiers" / "gateway-kafka.yaml").read_text()
    for name, value in environment(container).items():
        text = re.sub(rf"\$\{{env:{name}(:-[^}}]*)?\}}", lambda _, value=value: value, text)
    receivers = yaml.safe_load(text)["receivers"].items()
    expected = {(r["group_id"], r[name.removeprefix("kafka/")]["topics"][0]) for name, r in receivers}
    triggers = find(render(EXAMPLE["kafka-elastic"]), "ScaledObject")["spec"]["triggers"]

    assert {(t["metadata"]["consumerGroup"], t["metadata"]["topic"]) for t in triggers} == expected


@pytest.mark.parametrize("option", ["--api-versions=security.openshift.io/v1", "--set=fsGroup=null"])
def test_openshift_assigns_the_group(option: str) -> None:
    """A fixed group would be refused there."""
    for pod in pods(render(EXAMPLE["minimal"], options=(option,))).values():
        assert "fsGroup" not in pod["securityContext"]


def test_a_changed_configuration_replaces_the_pods_and_a_new_version_does_not(tmp_path: Path) -> None:
    """The checksum covers the Collector's configuration, not the labels of its ConfigMap."""

    def checksums(*values: Path, chart: Path = CHART) -> list[str]:
        done = helm("template", "modeltrace", chart, *(f"--values={path}" for path in values))
        assert done.returncode == 0, done.stderr
        return re.findall(r"checksum/config: (\w+)", done.stdout)

    changed = tmp_path / "values.yaml"
    changed.write_text("gateway: {extraConfig: {processors: {}}}\n")
    package = helm("package", CHART, "--version=9.9.9", f"--destination={tmp_path}")
    assert package.returncode == 0, package.stderr
    before = checksums(EXAMPLE["minimal"])

    assert checksums(EXAMPLE["minimal"], chart=tmp_path / "modeltrace-9.9.9.tgz") == before
    (same, other) = checksums(EXAMPLE["minimal"], changed)
    assert same == before[0]
    assert other != before[1]


def test_the_package_contains_the_files_of_the_other_sizes(tmp_path: Path) -> None:
    """The packaged chart, which has no links, renders the same objects; Helm stores it in a Secret of at most 1 MiB."""
    done = helm("package", CHART, f"--destination={tmp_path}")
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    rendered = helm("template", "modeltrace", package, f"--namespace={NAMESPACE}", f"--values={EXAMPLE['monitoring']}")

    assert list(filter(None, yaml.safe_load_all(rendered.stdout))) == render(EXAMPLE["monitoring"])
    assert package.stat().st_size < 500_000  # Helm encodes it in base64 twice


def test_collectors_get_the_files_unchanged() -> None:
    """Every file of a ConfigMap is the file below otel/, byte for byte, and each is mounted and merged in its order."""
    for path in EXAMPLES:
        manifests = render(path)
        for name, pod in pods(manifests).items():
            for volume in pod.get("volumes", []):
                if "items" not in volume.get("configMap", {}):
                    continue
                data = find(manifests, "ConfigMap", volume["configMap"]["name"])["data"]
                items = {item["path"]: item["key"] for item in volume["configMap"]["items"]}
                (container,) = pod["containers"]
                assert [f"--config=/etc/otelcol/{path}" for path in items] == container["args"], name
                assert set(items.values()) == data.keys()
                for file, key in items.items():
                    if file != "extra.yaml":
                        assert data[key] == (ROOT / "otel" / file).read_text(), file


def test_jaeger_gets_the_files_unchanged() -> None:
    """Collector and query service share one ConfigMap, and each merges the file that is its own with the storage."""
    manifests = render(EXAMPLE["opensearch"])
    folder = ROOT / "deploy" / "jaeger"
    files = [*(folder / "opensearch").iterdir(), folder / "sampling.json"]

    assert find(manifests, "ConfigMap", "modeltrace-jaeger")["data"] == {path.name: path.read_text() for path in files}
    for part in ("collector", "query"):
        (container,) = pods(manifests)[f"Deployment/modeltrace-jaeger-{part}"]["containers"]
        assert container["args"] == [f"--config=/etc/jaeger/{name}.yaml" for name in ("storage", part)]


def test_the_version_of_jaeger_is_that_of_compose() -> None:
    """Its programs for indices have the same version, because they create the templates of its indices."""
    jaeger = yaml.safe_load((CHART / "values.yaml").read_text())["jaeger"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["jaeger"]["image"]
    images = (jaeger["image"], jaeger["indices"]["rolloverImage"], jaeger["indices"]["cleanerImage"])

    assert {image["tag"] for image in images} == {compose.partition(":")[2]}


def test_gateways_send_to_the_jaeger_of_the_release_and_to_opensearch() -> None:
    """The address of a port that the collectors' pods have, and the credentials from the Secret."""
    manifests = render(EXAMPLE["opensearch"])
    (container,) = pods(manifests)["StatefulSet/modeltrace-gateway"]["containers"]
    variables = environment(container)
    service = find(manifests, "Service", "modeltrace-jaeger-collector")["spec"]

    assert variables["JAEGER_OTLP_ENDPOINT"] == f"dns:///modeltrace-jaeger-collector.{NAMESPACE}.svc:4317"
    assert service["clusterIP"] == "None"  # so a client connects to the port of the pod
    (jaeger,) = pods(manifests)["Deployment/modeltrace-jaeger-collector"]["containers"]
    assert {"name": "otlp-grpc", "containerPort": 4317} in jaeger["ports"]
    assert environment(jaeger)["JAEGER_OTLP_PORT"] == "4317"
    assert variables["OPENSEARCH_ENDPOINT"] == "https://opensearch.search.svc:9200"
    assert variables["OPENSEARCH_USERNAME"] == variables["OPENSEARCH_PASSWORD"] == "from"


def test_indices_are_rolled_over_and_deleted() -> None:
    """The arguments of the programs, with the age at which Jaeger stops to search."""
    manifests = render(EXAMPLE["opensearch"], options=("--set=jaeger.openSearch.indexPrefix=eu,jaeger.indices.days=3",))
    found = pods(manifests)
    rollover, cleaner = (found[f"CronJob/modeltrace-jaeger-{name}"] for name in ("rollover", "cleaner"))
    (jaeger,) = found["Deployment/modeltrace-jaeger-query"]["containers"]
    url = "https://opensearch.search.svc:9200"

    assert [c["args"] for c in rollover["initContainers"] + rollover["containers"]] == [
        ["rollover", '--conditions={"max_age":"1d","max_size":"50gb"}', "--index-prefix=eu", url],
        ["lookback", "--unit=days", "--unit-count=3", "--index-prefix=eu", url],
    ]
    assert [c["args"] for c in cleaner["containers"]] == [["--rollover", "--index-prefix=eu", "3", url]]
    assert environment(jaeger)["OPENSEARCH_MAX_AGE"] == "72h"
    assert environment(jaeger)["OPENSEARCH_INDEX_PREFIX"] == "eu"
    for part in ("collector", "query"):
        (init,) = found[f"Deployment/modeltrace-jaeger-{part}"]["initContainers"]
        assert init["args"] == ["init", "--shards=3", "--replicas=1", "--index-prefix=eu", url]


def test_rules_dashboards_and_data_sources_are_those_of_compose() -> None:
    """Their content is that of the files below deploy/."""
    manifests = render(EXAMPLE["monitoring"])
    rules = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "PrometheusRule"}
    maps = {k: v for m in manifests if m["kind"] == "ConfigMap" for k, v in m["data"].items()}

    assert rules == {
        f"modeltrace-{path.stem}": yaml.safe_load(path.read_text())
        for path in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml")
        if path.stem not in ("stack", "host")
    }
    for path in (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"):
        assert maps[path.name] == path.read_text()
    sources = ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "datasources.yaml"
    assert maps["datasources.yaml"] == sources.read_text()


def test_scrapes_have_the_job_name_of_the_rules() -> None:
    """Rules select the Collector by job="otelcol", as deploy/prometheus/prometheus.yml names it."""
    for monitor in [m for m in render(EXAMPLE["monitoring"]) if m["kind"] == "ServiceMonitor"]:
        (endpoint,) = monitor["spec"]["endpoints"]
        assert {"targetLabel": "job", "replacement": "otelcol"} in endpoint["relabelings"]
        assert endpoint["metricRelabelings"][0]["action"] == "drop"
