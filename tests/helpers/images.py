"""Build images with the official names for an engine without access to a registry.

The images of components contain the binaries that are built here. The Python base image is made of Debian packages.
Layout, user and volumes are those of the official Dockerfiles. If an official image has a shell, the built image has
busybox instead. docs/compose.md lists what these images cannot prove.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from stack.components import read_components
from tests.helpers.engine import Engine, NoEngineError, cache_folder
from tests.helpers.stack import binary, components

BASE = "python:3.11-slim-bookworm"
PACKAGES = ("python3", "python3-pip", "python3-venv", "ca-certificates", "busybox-static")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
BASE_DIGEST = hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:16]
LABEL = "modeltrace.stand-in"

BUSYBOX_APPLETS = ("sh", "wget")
USERS = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
GROUPS = "root:x:0:\nnobody:x:65534:\n"


@dataclass(frozen=True)
class Official:
    """The layout of the official image of a component."""

    component: str
    files: dict[str, str]  # path in the image: binary of the component
    entrypoint: str
    user: str
    owned: Sequence[str] = ()  # folders that belong to the user
    uid: int = 65534
    volumes: Sequence[str] = ()
    shell: bool = True
    environment: Sequence[str] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """The name of the image, with its version."""
        return read_components().components[self.component].image

    @property
    def changes(self) -> list[str]:
        """The configuration of the image, as arguments of `docker import`."""
        lines = [f'ENTRYPOINT ["{self.entrypoint}"]', f"USER {self.user}", f"LABEL {LABEL}={self.digest}"]
        lines += [f"VOLUME {volume}" for volume in self.volumes] + [f"ENV {line}" for line in self.environment]
        return [argument for line in lines for argument in ("--change", line)]

    @property
    def digest(self) -> str:
        """A hash of the content: it differs if any part of the image differs."""
        built = [
            f"{path}: {binary(self.component, name)} {binary(self.component, name).stat()}"
            for path, name in self.files.items()
        ]
        return hashlib.sha256(repr((self.files, self.entrypoint, self.user, self.owned, built)).encode()).hexdigest()[
            :16
        ]


OFFICIAL = (
    Official("otelcol", {"otelcol-contrib": "otelcol"}, "/otelcol-contrib", "10001:10001", shell=False),
    Official(
        "jaeger",
        {"cmd/jaeger/jaeger-linux": "jaeger"},
        "/cmd/jaeger/jaeger-linux",
        "10001",
        volumes=["/tmp"],  # noqa: S108  the volume of the official image
        environment=["JAEGER_LISTEN_HOST=0.0.0.0"],
    ),
    Official(
        "loki", {"usr/bin/loki": "loki"}, "/usr/bin/loki", "10001", owned=["loki", "etc/loki"], uid=10001, shell=False
    ),
    Official(
        "prometheus",
        {"bin/prometheus": "prometheus", "bin/promtool": "promtool"},
        "/bin/prometheus",
        "nobody",
        owned=["prometheus", "etc/prometheus"],
        volumes=["/prometheus"],
    ),
    Official(
        "alertmanager",
        {"bin/alertmanager": "alertmanager", "bin/amtool": "amtool"},
        "/bin/alertmanager",
        "nobody",
        owned=["alertmanager", "etc/alertmanager"],
        volumes=["/alertmanager"],
    ),
    Official("node_exporter", {"bin/node_exporter": "node_exporter"}, "/bin/node_exporter", "nobody"),
)


def provide(engine: Engine) -> list[str]:
    """Add the missing images of components to the engine under their official names; return the names of the built.

    An engine that the tests have not started may reach a registry, so it first tries to pull the official images. Loki
    and Grafana have the AGPL license and are never pulled: the tests use them if the engine has them, and build the
    image of Loki if its binary is in the cache.
    """
    buildable = [official for official in OFFICIAL if official.component in components().components]
    if not engine.own:
        _pull(
            engine,
            [official.name for official in buildable if official.component not in read_components().optional_names()],
        )
    built = provide_base(engine)
    for official in buildable:
        if _lacks(engine, official.name, official.digest):
            with TemporaryDirectory() as folder:
                archive = Path(folder, "image.tar")
                _pack(official, archive)
                engine.docker("import", *official.changes, "-", official.name, stdin=archive)
            built.append(official.name)
    return built


def provide_base(engine: Engine) -> list[str]:
    """Add the Python base image to the engine if it is missing; return the names of the images that were built."""
    if not engine.own:
        _pull(engine, [BASE])
    if not _lacks(engine, BASE, BASE_DIGEST):
        return []
    changes = (f"LABEL {LABEL}={BASE_DIGEST}", 'CMD ["python3"]')
    engine.docker("import", *(a for line in changes for a in ("--change", line)), "-", BASE, stdin=_base())
    return [BASE]


def index_secrets(folder: Path) -> dict[str, Path]:
    """Write the files with which a build reaches the package index of this machine; return the paths by secret."""
    options = [f"index-url = {os.environ['PIP_INDEX_URL']}"] if "PIP_INDEX_URL" in os.environ else []
    index = [f'[[index]]\nurl = "{os.environ["PIP_INDEX_URL"]}"\ndefault = true'] if options else []
    certificates = "cert = /etc/ssl/certs/ca-certificates.crt"
    (folder / "pip.conf").write_text("\n".join(["[global]", certificates, *options, ""]))
    (folder / "uv.toml").write_text("\n".join(["native-tls = true", *index, ""]))
    return {name: folder / name for name in ("pip.conf", "uv.toml")}


def _pull(engine: Engine, images: Sequence[str]) -> None:
    """Pull the missing images. Stop at the first that cannot be pulled."""
    for image in images:
        if not engine.has(image):
            try:
                engine.docker("pull", "--quiet", image)
            except AssertionError:
                return


def _lacks(engine: Engine, image: str, digest: str) -> bool:
    """Return whether an image is missing, or was built here from other content. Accept any official image."""
    if not engine.has(image):
        return True
    built_from = (engine.inspect(image)[0]["Config"].get("Labels") or {}).get(LABEL)
    return built_from is not None and built_from != digest


def _pack(official: Official, archive: Path) -> None:
    """Write the root file system of an image."""
    with tarfile.open(archive, "w") as tar:
        for folder in official.owned:
            info = tarfile.TarInfo(folder)
            info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, 0o775, official.uid, official.uid
            tar.addfile(info)
        for path, name in official.files.items():
            tar.add(binary(official.component, name), path, filter=_of_root)
        if official.shell:
            busybox = _busybox(archive.parent)
            tar.add(busybox, "bin/busybox", filter=_of_root)
            for applet in BUSYBOX_APPLETS:
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
            for path, text in (("etc/passwd", USERS), ("etc/group", GROUPS)):
                file = busybox.with_name(Path(path).name)
                file.write_text(text)
                tar.add(file, path, filter=_of_root)


def _of_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    return info


def _busybox(folder: Path) -> Path:
    """Extract the static busybox from the base image and return its path."""
    with tarfile.open(_base()) as tar:
        member = next(m for m in tar if m.name.removeprefix("./") in ("bin/busybox", "usr/bin/busybox"))
        source = tar.extractfile(member)
        assert source is not None
        out = folder / "busybox"
        out.write_bytes(source.read())
    out.chmod(0o755)
    return out


def _base() -> Path:
    """Return the archive of a small Debian with Python and the CA certificates of this machine. It is built once.

    Raises:
        NoEngineError: debootstrap is missing, fails, or cannot run as root.
    """
    archive = cache_folder() / f"base-{BASE_DIGEST}.tar"
    if archive.exists():
        return archive
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise NoEngineError(f"the engine has no {BASE}, and there is no debootstrap here that could be run as root")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=archive.parent) as folder:
        root = Path(folder, "root")
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(root)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NoEngineError(f"debootstrap cannot make {BASE}: {done.stdout.strip()[-300:]}")
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        shutil.copy(f"/{CERTIFICATES}", root / CERTIFICATES)
        for temporary in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / temporary)
        complete = Path(folder, "base.tar")
        with tarfile.open(complete, "w") as tar:
            tar.add(root, ".")
        complete.rename(archive)
    return archive
