"""Run the programs of ./dev test --many on loopback: a Kafka broker, an OpenSearch node and an S3 server."""

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from stack.components import HERE, ManyProgram, read_components
from tests.helpers.processes import Process, free_port, wait_until
from tests.helpers.stack import binaries

# One compiler and one collector thread: these processes start faster, and share the machine with the tests.
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
START_SECONDS = 240.0


@dataclass
class Server:
    """A program that can be stopped, killed and started again with the same data and ports."""

    command: Sequence[str]
    folder: Path
    port: int
    ready: str = ""
    environment: Mapping[str, str] | None = None
    process: Process | None = None

    @property
    def address(self) -> str:
        """Its address, ``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://{self.address}"

    def start(self) -> None:
        """Start the program and wait until the path `ready` answers, or until its port is open if `ready` is empty."""
        output = self.folder / "log"
        with output.open("ab") as log:
            popen = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder, env=self.environment)
        process = self.process = Process(popen, output)
        if self.ready:
            process.wait_for(f"{self.url}{self.ready}", START_SECONDS)
            return

        def listens() -> bool:
            assert popen.poll() is None, f"exited with {popen.returncode}:\n{process.log[-3000:]}"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                return False
            return True

        wait_until(listens, seconds=START_SECONDS, description=f"port {self.port}")

    def ensure_started(self) -> None:
        """Start it, unless it runs."""
        if self.process is None or self.process.popen.poll() is not None:
            self.start()

    def stop(self) -> None:
        """Stop the program if it was started."""
        if self.process is not None:
            self.process.stop()

    def kill(self) -> None:
        """Kill it, as a crash would."""
        assert self.process is not None
        self.process.popen.kill()
        self.process.popen.wait()


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _program(name: str) -> tuple[ManyProgram, Path]:
    """Return a program and its folder in the cache."""
    program = read_components().many[name]
    return program, binaries().folder(name, program)


def _class_path(name: str) -> str:
    if shutil.which("java") is None:
        pytest.skip("Java: apt install default-jdk-headless")
    _, folder = _program(name)
    return f"{folder}:{folder}/*"


@contextmanager
def running_kafka(folder: Path, partitions: int = 4) -> Iterator[Server]:
    """Run a Kafka broker that is also its own controller. Topics are created when they are used.

    Args:
        folder: a folder for its files.
        partitions: number of partitions of a new topic.
    """
    port, controller = free_port(), free_port()
    properties = folder / "server.properties"
    text = (HERE / "kafka.properties").read_text()
    properties.write_text(text.format(broker=port, controller=controller, partitions=partitions, data=folder / "data"))
    java = [*JAVA, "-Xmx256m", "-cp", _class_path("kafka")]
    identity = "bW9kZWx0cmFjZS10ZXN0cw"  # 16 bytes in base64
    tool = [*java, "kafka.tools.StorageTool", "format", "--config", str(properties), "--cluster-id", identity]
    subprocess.run(tool, check=True, capture_output=True, cwd=folder)
    with _running(Server([*java, "kafka.Kafka", str(properties)], folder, port)) as server:
        yield server


@dataclass
class OpenSearch(Server):
    """An OpenSearch node."""

    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def search(self, index: str, query: Mapping[str, object]) -> list[dict[str, object]]:
        """Refresh an index or an alias, and return the documents that a query finds: up to 10,000, without order."""
        if self.client.post(f"{self.url}/{index}/_refresh").status_code == httpx.codes.NOT_FOUND:
            return []
        answer = self.client.post(f"{self.url}/{index}/_search", json={"query": query, "size": 10_000})
        return [hit["_source"] for hit in answer.raise_for_status().json()["hits"]["hits"]]

    def indices(self, pattern: str) -> dict[str, list[str]]:
        """Return the indices that match a pattern, with their aliases."""
        answer = self.client.get(f"{self.url}/{pattern}/_alias").raise_for_status().json()
        return {name: sorted(index["aliases"]) for name, index in sorted(answer.items())}


@contextmanager
def running_opensearch(folder: Path) -> Iterator[OpenSearch]:
    """Run an OpenSearch node."""
    port, transport = free_port(), free_port()
    command = [*JAVA, "-Xms256m", "-Xmx512m", "-cp", _class_path("opensearch"), "OpenSearchNode"]
    arguments = [str(folder / "home"), str(port), str(transport)]
    server = OpenSearch([*command, *arguments], folder, port, ready="/_cluster/health")
    with _running(server), server.client:
        yield server


@contextmanager
def running_s3(folder: Path) -> Iterator[Server]:
    """Run an S3 server without authentication."""
    _, programs = _program("seaweedfs")
    s3 = free_port()
    ports = {
        f"-{name}": free_port()
        for name in (
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        )
    }
    command = [
        str(programs / "weed"),
        "server",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.port.grpc={free_port()}",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-volume.max=4",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        *(f"{name}={port}" for name, port in ports.items()),
    ]
    server = Server(command, folder, s3, ready="/status")
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:  # a stop takes a minute
            server.kill()
