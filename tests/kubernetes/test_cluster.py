"""A real Kubernetes API server accepts the chart: validation, admission, upgrades, pod security, rights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.helpers.cluster import Cluster, running_cluster, write_kubeconfig
from tests.helpers.collector import BASE, OTEL, running_collector, running_sink
from tests.helpers.helm import CHART, EXAMPLES, NAMESPACE, Manifest, helm, render
from tests.helpers.processes import wait_until

pytestmark = [pytest.mark.many, pytest.mark.slow]

EXAMPLE = {path.stem: path for path in EXAMPLES}
OPERATORS = ("keda.sh/", "monitoring.coreos.com/")  # their definitions are not installed


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with the namespace of the examples."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.create_namespace(NAMESPACE)
        yield cluster


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_server_accepts_every_object(path: Path, cluster: Cluster) -> None:
    """Server-side dry run: unknown and duplicate fields, values, and rules between fields."""
    manifests = [m for m in render(path) if not m["apiVersion"].startswith(OPERATORS)]
    done = cluster.kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        f"--namespace={NAMESPACE}",
        "--filename=-",
        stdin=yaml.safe_dump_all(manifests),
    )

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(manifests)
    assert "Warning" not in done.stderr.replace("would violate PodSecurity", "")


def test_install_upgrade_rollback_uninstall(cluster: Cluster, tmp_path: Path) -> None:
    """A new version of the chart with other values replaces the old one, and back. The claim of the store stays."""
    cluster.create_namespace("life")
    package = helm("package", CHART, "--version=9.9.9", "--app-version=9.9.9", f"--destination={tmp_path}")
    assert package.returncode == 0, package.stderr
    where = ("--namespace=life", f"--values={EXAMPLE['minimal']}")
    changed = ("--set=gateway.replicas=5", "--set=gateway.configs={sampling.yaml}", "--set=agent.queue.items=5")

    def state() -> tuple[Any, ...]:
        gateway = cluster.get("statefulset", "modeltrace-gateway", "life")["spec"]
        service = cluster.get("deployment", "modeltrace", "life")["spec"]["template"]["spec"]["containers"][0]
        config = cluster.get("configmap", "modeltrace-gateway", "life")["data"]
        return gateway["replicas"], service["image"], "sampling.yaml" in config

    for arguments, expected in (
        (("install", "modeltrace", CHART, *where), (2, "modeltrace:0.1.0", False)),
        (("upgrade", "modeltrace", tmp_path / "modeltrace-9.9.9.tgz", *where, *changed), (5, "modeltrace:9.9.9", True)),
        (("rollback", "modeltrace", "1", "--namespace=life"), (2, "modeltrace:0.1.0", False)),
    ):
        done = cluster.helm(*arguments)
        assert done.returncode == 0, done.stderr
        assert state() == expected

    done = cluster.helm("uninstall", "modeltrace", "--namespace=life")
    assert done.returncode == 0, done.stderr
    left = cluster.kubectl(
        "get", "deployments,daemonsets,statefulsets,configmaps,pvc", "--namespace=life", "--output=name"
    )
    assert left.stdout.split() == ["persistentvolumeclaim/modeltrace"]


def pod_of(manifest: Manifest) -> Manifest:
    """Return the pod that a controller would create from a workload, with its claims as claims that exist."""
    workload = manifest["spec"]["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else manifest["spec"]
    template = workload["template"]
    spec = dict(template["spec"])
    claims = workload.get("volumeClaimTemplates", [])
    spec["volumes"] = [
        *spec.get("volumes", []),
        *({"name": c["metadata"]["name"], "persistentVolumeClaim": {"claimName": "claim"}} for c in claims),
    ]
    metadata = {**template.get("metadata", {}), "name": manifest["metadata"]["name"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def create(cluster: Cluster, manifest: Manifest, namespace: str) -> str:
    """Create an object in a dry run, and return the error, if there is one."""
    options = ("--dry-run=server", f"--namespace={namespace}", "--filename=-")
    done = cluster.kubectl("create", *options, stdin=yaml.safe_dump(manifest))
    return done.stderr if done.returncode else ""


@pytest.fixture(scope="module")
def restricted(cluster: Cluster) -> str:
    """A namespace that enforces the level `restricted`, with the service account of the agents."""
    cluster.create_namespace("restricted", level="restricted")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "modeltrace-agent"}}
    done = cluster.kubectl("create", "--namespace=restricted", "--filename=-", stdin=yaml.safe_dump(account))
    assert done.returncode == 0, done.stderr
    return "restricted"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_pods_conform_to_the_level_restricted(path: Path, cluster: Cluster, restricted: str) -> None:
    """Every pod but an agent with a folder of the node, which is refused for exactly this reason."""
    for manifest in render(path):
        if manifest["kind"] == "Pod":
            assert create(cluster, manifest, restricted) == ""
        elif manifest["kind"] in ("CronJob", "DaemonSet", "Deployment", "StatefulSet"):
            error = create(cluster, pod_of(manifest), restricted)
            if manifest["kind"] == "DaemonSet" and path.stem != "restricted":
                assert 'violates PodSecurity "restricted:latest"' in error
                assert "restricted volume types" in error
                assert "runAsUser=0" in error
                assert "capabilities" not in error
            else:
                assert error == ""


@pytest.fixture(scope="module")
def rights(cluster: Cluster) -> Iterator[Cluster]:
    """Two releases: one with the defaults, one with the k8s resolver and without a ClusterRole."""
    for namespace, example in (("defaults", "minimal"), ("resolver", "restricted")):
        cluster.create_namespace(namespace)
        where = (f"--namespace={namespace}", f"--values={EXAMPLE[example]}")
        done = cluster.helm("install", "modeltrace", CHART, *where)
        assert done.returncode == 0, done.stderr
    yield cluster
    for namespace in ("defaults", "resolver"):
        cluster.helm("uninstall", "modeltrace", f"--namespace={namespace}")


@pytest.mark.parametrize(
    ("account", "verb", "resource", "where", "expected"),
    [
        ("defaults:modeltrace-agent", "list", "pods", "--all-namespaces", True),
        ("defaults:modeltrace-agent", "watch", "pods", "--namespace=kube-system", True),
        ("defaults:modeltrace-agent", "list", "endpointslices.discovery.k8s.io", "--namespace=defaults", False),
        ("defaults:modeltrace-agent", "get", "secrets", "--namespace=defaults", False),
        ("defaults:modeltrace-agent", "list", "nodes", "--all-namespaces", False),
        ("defaults:modeltrace-agent", "delete", "pods", "--namespace=defaults", False),
        ("defaults:default", "list", "pods", "--namespace=defaults", False),
        ("resolver:modeltrace-agent", "watch", "endpointslices.discovery.k8s.io", "--namespace=resolver", True),
        ("resolver:modeltrace-agent", "list", "endpointslices.discovery.k8s.io", "--namespace=defaults", False),
        ("resolver:modeltrace-agent", "list", "pods", "--all-namespaces", False),
    ],
)
def test_accounts_have_only_the_rights_that_they_use(
    account: str, verb: str, resource: str, where: str, expected: bool, rights: Cluster
) -> None:
    """Agents read pods everywhere, or EndpointSlices of their namespace; nobody else has any right."""
    assert rights.can(account, verb, resource, where) is expected


@pytest.mark.stack
def test_an_agent_names_the_pods_of_its_node(rights: Cluster, tmp_path: Path) -> None:
    """With the token of its account, an agent adds pod, namespace and workload to a span of a pod on its node."""
    uids = {}
    for node in ("node-1", "node-2"):
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "modeltrace:0.1.0"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"on-{node}"}, "spec": spec}
        done = rights.kubectl("create", "--namespace=defaults", "--filename=-", stdin=yaml.safe_dump(pod))
        assert done.returncode == 0, done.stderr
        uids[node] = rights.get("pod", f"on-{node}", "defaults")["metadata"]["uid"]
    write_kubeconfig(tmp_path / "kubeconfig", rights.url, rights.token("modeltrace-agent", "defaults"))
    with running_sink(tmp_path / "gateway") as gateway:
        environment = {
            "OTELCOL_GATEWAY_RESOLVER": f"{{static: {{hostnames: ['{gateway.collector.grpc}']}}}}",
            "OTELCOL_GATEWAY": gateway.collector.grpc,
            "OTELCOL_KUBERNETES_AUTH": "kubeConfig",
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "KUBE_NODE_NAME": "node-1",
        }
        files = (BASE, OTEL / "tiers" / "agent.yaml", OTEL / "kubernetes.yaml")
        with running_collector(*files, data=tmp_path / "agent", **environment) as agent:

            def names() -> dict[str, str]:
                """Send a span of each pod, and return the names that the agent has added so far."""
                for node, uid in uids.items():
                    send_span(agent.http, {"service.name": node, "k8s.pod.uid": uid})
                spans = [span["resource"] for span in gateway.items("traces")]
                return {r["service.name"]: r.get("k8s.pod.name", "") for r in spans}

            named = wait_until(lambda: (n := names()).get("node-1") and n, description="the name of the pod")
            namespaces = {span["resource"].get("k8s.namespace.name") for span in gateway.items("traces")}
            denied = "forbidden" in agent.log

    assert named == {"node-1": "on-node-1", "node-2": ""}
    assert namespaces == {"defaults", None}
    assert not denied


def send_span(otlp: str, resource: dict[str, str]) -> None:
    """Send one span with these resource attributes."""
    tracers = TracerProvider(resource=Resource(resource))
    tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{otlp}/v1/traces")))
    tracers.get_tracer("pod").start_span("work").end()
    tracers.shutdown()


def test_the_hook_of_helm_test_is_a_pod(cluster: Cluster) -> None:
    """`helm test` would create this pod: the server accepts it, and Helm lists it as a hook of the release."""
    hooks = [m for m in render(EXAMPLE["service"]) if m["kind"] == "Pod"]
    cluster.create_namespace("hooks")
    done = cluster.helm("install", "modeltrace", CHART, "--namespace=hooks", f"--values={EXAMPLE['service']}")
    assert done.returncode == 0, done.stderr
    listed = cluster.helm("get", "hooks", "modeltrace", "--namespace=hooks")
    status = json.loads(cluster.helm("list", "--namespace=hooks", "--output=json").stdout)

    assert [m["metadata"]["name"] for m in yaml.safe_load_all(listed.stdout) if m] == ["modeltrace-doctor"]
    assert [create(cluster, hook, "hooks") for hook in hooks] == [""]
    assert status[0]["status"] == "deployed"
