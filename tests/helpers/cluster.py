"""Run a Kubernetes API server with etcd on loopback. It validates, admits and stores objects, but runs no pods."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from stack.components import read_components
from tests.helpers.helm import tools
from tests.helpers.processes import Process, free_port, wait_until
from tests.helpers.stack import binaries

Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Cluster:
    """An API server. `kubeconfig` has the rights of an administrator."""

    url: str
    kubeconfig: Path

    def helm(self, *arguments: str | Path) -> Completed:
        """Run helm, and return its result."""
        return self._run("helm", *arguments)

    def kubectl(self, *arguments: str | Path, stdin: str = "") -> Completed:
        """Run kubectl, and return its result."""
        return self._run("kubectl", *arguments, stdin=stdin)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """Return an object."""
        done = self.kubectl("get", kind, name, f"--namespace={namespace}", "--output=json")
        assert done.returncode == 0, done.stderr
        manifest: dict[str, Any] = json.loads(done.stdout)
        return manifest

    def can(self, account: str, verb: str, resource: str, *options: str) -> bool:
        """Return whether a service account, ``NAMESPACE:NAME``, may do something."""
        user = f"--as=system:serviceaccount:{account}"
        return self.kubectl("auth", "can-i", verb, resource, user, *options).stdout.strip() == "yes"

    def create_namespace(self, name: str, *, level: str = "privileged") -> None:
        """Create a namespace that enforces a pod security level, with the account that a controller would create."""
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": level}},
        }
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
        done = self.kubectl("create", "--filename=-", stdin=yaml.safe_dump_all([namespace, account]))
        assert done.returncode == 0, done.stderr

    def token(self, account: str, namespace: str) -> str:
        """Return a token of a service account."""
        done = self.kubectl("create", "token", account, f"--namespace={namespace}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _run(self, program: str, *arguments: str | Path, stdin: str = "") -> Completed:
        with TemporaryDirectory() as home:
            return subprocess.run(
                [str(tools() / program), *map(str, arguments)],
                env={"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(self.kubeconfig)},
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )


def write_kubeconfig(path: Path, url: str, token: str) -> None:
    """Write a configuration of kubectl for a token. The server's certificate is not verified: it is on loopback."""
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
    )


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Run etcd and a Kubernetes API server, and stop them at the end."""
    if shutil.which("etcd") is None:
        pytest.skip("etcd: apt install etcd-server")
    etcd, peer, port = (free_port() for _ in range(3))
    url, token = f"https://127.0.0.1:{port}", secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    key = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    program = read_components().many["kube-apiserver"]
    server = binaries().program("kube-apiserver", program, "kube-apiserver")
    commands = {
        "etcd": [
            "etcd",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            str(server),
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
        ],
    }
    with ExitStack() as stack:
        processes = {}
        for name, command in commands.items():
            output = folder / f"{name}.log"
            with output.open("wb") as log:
                processes[name] = Process(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder), output)
            stack.callback(processes[name].stop)
        cluster = Cluster(url, folder / "kubeconfig")
        write_kubeconfig(cluster.kubeconfig, url, token)

        def ready() -> bool:
            for name, process in processes.items():
                assert process.popen.poll() is None, f"{name} exited: {process.log[-3000:]}"
            return cluster.kubectl("get", "--raw=/readyz").stdout == "ok"

        wait_until(ready, description="the API server")
        yield cluster
