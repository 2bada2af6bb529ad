"""A Kafka broker for a bench."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from bench.processes import POLL_INTERVAL, free_port
from stack.cache import Cache
from stack.components import HERE, read_components

START_TIMEOUT, STOP_TIMEOUT = 120, 30
PARTITIONS = 4
CLUSTER = "bW9kZWx0cmFjZS10ZXN0cw"  # 16 bytes in base64


def _folder() -> Path:
    return Cache(platformdirs.user_cache_path("modeltrace") / "stack").folder("kafka", read_components().many["kafka"])


def kafka_is_built() -> bool:
    """Return whether Kafka is in the cache and there is a Java to run it."""
    return _folder().exists() and shutil.which("java") is not None


@dataclass
class Broker:
    """A broker that can be killed and started again with the same data."""

    port: int
    properties: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        """Its address, ``HOST:PORT``."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it accepts connections.

        Raises:
            RuntimeError: it was not ready in time.
        """
        java = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", f"{_folder()}/*"]
        with (self.properties.parent / "log").open("ab") as log:
            self.process = subprocess.Popen([*java, "kafka.Kafka", str(self.properties)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(POLL_INTERVAL)
            else:
                return
        raise RuntimeError(f"Kafka did not start: {self.properties.parent / 'log'}")

    def interrupt(self, seconds: float) -> None:
        """Kill it, and start it again after some seconds."""
        self.stop(kill=True)
        time.sleep(seconds)
        self.start()

    def stop(self, *, kill: bool = False) -> None:
        """Stop or kill it."""
        if self.process is None:
            return
        self.process.kill() if kill else self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def run_kafka(folder: Path) -> Iterator[Broker]:
    """Run a broker with its data in `folder`."""
    folder.mkdir()
    broker = Broker(free_port(), folder / "server.properties")
    text = (HERE / "kafka.properties").read_text()
    fields = {"broker": broker.port, "controller": free_port(), "partitions": PARTITIONS, "data": folder / "data"}
    broker.properties.write_text(text.format(**fields))
    tool = ["java", "-cp", f"{_folder()}/*", "kafka.tools.StorageTool", "format"]
    subprocess.run(
        [*tool, "--config", str(broker.properties), "--cluster-id", CLUSTER], check=True, capture_output=True
    )
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
