"""Metrics of GPUs: nvidia-ml-py calls a library with the C functions of NVML."""

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader, Metric, NumberDataPoint, Sum

from modeltrace.file_lock import FileLock
from modeltrace.settings import read_settings
from modeltrace.telemetry.metrics.gpus import GPUMetrics, GPUReader, observe_gpus
from tests.helpers.fake_nvml import IDS, NAMES, TOTAL, USED, UTILIZATION, build_fake_nvml, load_fake_nvml
from tests.helpers.processes import wait_until
from tests.helpers.services import running_service

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/dashboards/service-health.json"
Points = dict[tuple[str, str], float]


class Service:
    """The instruments with a reader of their own."""

    def __init__(self, reader: GPUReader | None = None) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        GPUMetrics(self.meters.get_meter("tests"), (reader or GPUReader()).read)

    def metrics(self) -> dict[str, Metric]:
        """Collect the metrics, by name."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self) -> Points:
        """Collect the value of each metric, by its name and the ID of the GPU."""
        return {
            (name, str((point.attributes or {})["hw.id"])): point.value
            for name, metric in self.metrics().items()
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        }


def expected(*gpus: int, without: tuple[str, ...] = ()) -> Points:
    """Return the values of GPUs, without some metrics of the second one."""
    values = {
        "hw.gpu.utilization": UTILIZATION,
        "hw.gpu.memory.usage": USED,
        "hw.gpu.memory.limit": TOTAL,
        "hw.gpu.memory.utilization": tuple(used / total for used, total in zip(USED, TOTAL, strict=True)),
    }
    return {(name, IDS[gpu]): of[gpu] for name, of in values.items() for gpu in gpus if not (gpu and name in without)}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the library, which this process has loaded."""
    folder = tmp_path_factory.mktemp("nvml")
    load_fake_nvml(folder)
    return folder


@pytest.fixture
def service(library: Path) -> Iterator[Service]:
    """The instruments of a service on a host with two GPUs."""
    assert library
    service = Service()
    yield service
    service.meters.shutdown()


def test_metrics_follow_the_semantic_conventions(service: Service) -> None:
    """Kinds, units and attributes are those of the conventions."""
    metrics = service.metrics()
    kinds = {name: (metric.unit, type(metric.data)) for name, metric in metrics.items()}
    attributes = {"hw.id": IDS[0], "hw.name": NAMES[0], "hw.type": "gpu", "hw.vendor": "NVIDIA"}

    assert kinds == {
        "hw.gpu.utilization": ("1", Gauge),
        "hw.gpu.memory.usage": ("By", Sum),
        "hw.gpu.memory.limit": ("By", Sum),
        "hw.gpu.memory.utilization": ("1", Gauge),
    }
    assert not any(metric.data.is_monotonic for metric in metrics.values() if isinstance(metric.data, Sum))
    assert {name: metric.data.data_points[0].attributes for name, metric in metrics.items()} == {
        name: attributes | ({"hw.gpu.task": "general"} if name == "hw.gpu.utilization" else {}) for name in kinds
    }


def test_panels_show_metrics_that_exist(service: Service) -> None:
    """Names in the dashboard are those that Prometheus makes of the names and units."""
    units = {"1": "_ratio", "By": "_bytes"}
    names = {name.replace(".", "_") + units[metric.unit or ""] for name, metric in service.metrics().items()}
    in_panels = set(re.findall(r"hw_gpu_\w+", DASHBOARD.read_text()))

    assert in_panels
    assert in_panels <= names


def test_each_gpu_has_its_values(service: Service) -> None:
    """Utilization and memory are those that NVML returns, also at the next collection."""
    assert service.points() == expected(0, 1)
    assert service.points() == expected(0, 1)


def test_the_values_of_a_collection_agree(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of used memory is that of the used bytes, even if the memory changes meanwhile."""
    monkeypatch.setenv("FAKE_NVML_GROWS", "1")
    first, second = service.points(), service.points()

    for points in (first, second):
        for gpu in IDS:
            usage, limit = points["hw.gpu.memory.usage", gpu], points["hw.gpu.memory.limit", gpu]
            assert points["hw.gpu.memory.utilization", gpu] == usage / limit
    assert second["hw.gpu.memory.usage", IDS[0]] > first["hw.gpu.memory.usage", IDS[0]] > USED[0]


MEMORY = ("hw.gpu.memory.usage", "hw.gpu.memory.limit", "hw.gpu.memory.utilization")
EVERYTHING = ("hw.gpu.utilization", *MEMORY)


@pytest.mark.parametrize(
    ("failure", "left_out", "reason"),
    [
        ("nvmlDeviceGetUtilizationRates/1=3", ("hw.gpu.utilization",), "GPU 1.*UtilizationRates: Not Supported"),
        ("nvmlDeviceGetMemoryInfo/1=4", MEMORY, "GPU 1.*MemoryInfo: Insufficient Permissions"),
        ("nvmlDeviceGetHandleByIndex/1=15", EVERYTHING, "GPU 1.*HandleByIndex: GPU is lost"),
        ("nvmlDeviceGetUUID/1=999", EVERYTHING, "GPU 1.*UUID: Unknown Error"),
    ],
)
def test_what_a_gpu_cannot_measure_is_left_out(
    failure: str,
    left_out: tuple[str, ...],
    reason: str,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says so once; other values and the other GPU are reported, and the value returns when NVML has it."""
    monkeypatch.setenv("FAKE_NVML_FAILURES", failure)
    with caplog.at_level(logging.WARNING):
        assert service.points() == expected(0, 1, without=left_out)
        assert service.points() == expected(0, 1, without=left_out)
        monkeypatch.delenv("FAKE_NVML_FAILURES")
        assert service.points() == expected(0, 1)

    (record,) = caplog.records
    assert re.search(reason, record.getMessage())


def test_a_gpu_without_a_name_is_reported(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `hw.name` is absent."""
    monkeypatch.setenv("FAKE_NVML_FAILURES", "nvmlDeviceGetName/1=3")
    points = service.metrics()["hw.gpu.memory.limit"].data.data_points

    assert [set(point.attributes or {}) for point in points] == [
        {"hw.id", "hw.type", "hw.vendor", "hw.name"},
        {"hw.id", "hw.type", "hw.vendor"},
    ]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("nvmlInitWithFlags=9", "NVML, a part of the NVIDIA driver, cannot be used: Driver Not Loaded"),
        ("nvmlInitWithFlags=4", "cannot be used: Insufficient Permissions"),
        ("nvmlInitWithFlags=18", "cannot be used: RM has detected an NVML/RM version mismatch"),
        ("nvmlDeviceGetCount=1", "all GPUs are incomplete: nvmlDeviceGetCount: Uninitialized"),
    ],
)
def test_a_driver_that_fails_is_logged_once(
    failure: str,
    reason: str,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No metric is reported, and no callback raises."""
    monkeypatch.setenv("FAKE_NVML_FAILURES", failure)
    with caplog.at_level(logging.WARNING):
        assert service.points() == service.points() == {}

    (record,) = caplog.records
    assert reason in record.getMessage()


def test_an_absent_package_is_logged_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The message says how to install it."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with caplog.at_level(logging.WARNING):
        assert service.points() == service.points() == {}

    (record,) = caplog.records
    assert "nvidia-ml-py is not installed: pip install 'modeltrace[gpu]'" in record.getMessage()


@pytest.mark.slow
def test_an_absent_driver_is_logged_once() -> None:
    """Without the library of the driver, nothing is reported. A new process has not loaded the library of the tests."""
    if find_library("nvidia-ml"):
        pytest.skip("this machine has an NVIDIA driver")
    program = (
        "import logging; logging.basicConfig()\n"
        "from modeltrace.telemetry.metrics.gpus import GPUReader\n"
        "reader = GPUReader(); print(len(reader.read()), len(reader.read()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)

    assert done.stdout == "0 0\n"
    assert done.stderr.count("NVML Shared Library Not Found") == len(done.stderr.splitlines()) == 1


def test_one_process_at_a_time_reads(library: Path, tmp_path: Path) -> None:
    """Another one takes over when the lock is released."""
    assert library
    locks = FileLock(tmp_path / "gpus.lock"), FileLock(tmp_path / "gpus.lock")
    first, second = (GPUReader(lock) for lock in locks)

    assert (len(first.read()), len(second.read()), len(first.read())) == (2, 0, 2)
    locks[0].release()
    assert len(second.read()) == 2


def test_a_lock_that_cannot_be_opened_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The callbacks do not raise."""
    service = Service(GPUReader(FileLock(tmp_path / "absent" / "gpus.lock")))
    with caplog.at_level(logging.WARNING):
        assert service.points() == service.points() == {}

    (record,) = caplog.records
    assert "No such file or directory" in record.getMessage()


@pytest.mark.parametrize(
    ("environment", "reports"),
    [
        ({}, False),
        ({"ENGINE": "onnx"}, False),
        ({"ENGINE": "onnx", "ONNX_PROVIDERS": "CUDAExecutionProvider,CPUExecutionProvider"}, True),
        ({"ENGINE": "onnx", "ONNX_PROVIDERS": "TensorrtExecutionProvider"}, True),
        ({"ENGINE": "onnx", "ONNX_PROVIDERS": "CUDAExecutionProvider", "GPU_METRICS": "false"}, False),
        ({"ENGINE": "sklearn", "ONNX_PROVIDERS": "CUDAExecutionProvider"}, False),
        ({"GPU_METRICS": "true"}, True),
    ],
)
def test_gpus_are_reported_if_they_are_used(
    environment: dict[str, str], reports: bool, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, they are if ONNX Runtime computes with them."""
    assert library
    for name, value in environment.items():
        monkeypatch.setenv(f"MODELTRACE_{name}", value)
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    observe_gpus(read_settings(), meters.get_meter("tests"), None)

    assert (reader.get_metrics_data() is not None) == reports


def scrape(url: str) -> dict[str, dict[str, float]]:
    """Return the metrics of GPUs by name and ID of the GPU, as Prometheus reads them."""
    samples: dict[str, dict[str, float]] = {}
    text = httpx.get(f"{url}/metrics", timeout=60).raise_for_status().text
    for name, gpu, value in re.findall(r'^(hw_\w+){.*hw_id="([^"]+)".*} (\S+)$', text, re.MULTILINE):
        samples.setdefault(name, {})[gpu] = float(value)
    return samples


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("instrumentation", ["sidecar", "sdk"])
def test_several_workers_report_each_gpu_once(instrumentation: str, example: Path, tmp_path: Path) -> None:
    """The values are not multiplied by the workers, and another worker takes over if the one that reports is killed."""
    processes = tmp_path / "processes"
    environment = {
        "LD_LIBRARY_PATH": str(build_fake_nvml(tmp_path)),
        "FAKE_NVML_PROCESSES": str(processes),
        "MODELTRACE_GPU_METRICS": "true",
        "MODELTRACE_INSTRUMENTATION": instrumentation,
        "MODELTRACE_STORE": "none",
        "OTEL_METRICS_EXPORTER": "prometheus",
    }

    def readers() -> list[int]:
        return [int(line) for line in processes.read_text().split()] if processes.exists() else []

    def is_reported() -> bool:
        return scrape(url).get("hw_gpu_memory_usage_bytes") == dict(zip(IDS, USED, strict=True))

    with running_service(example, None, "--workers", "2", **environment) as (_, url):
        wait_until(is_reported, description="metrics of GPUs")
        samples = scrape(url)
        (reader,) = readers()
        os.kill(reader, signal.SIGKILL)
        wait_until(lambda: len(readers()) == 2 and is_reported(), description="metrics of another worker")

    assert samples["hw_gpu_memory_limit_bytes"] == dict(zip(IDS, TOTAL, strict=True))
    assert samples["hw_gpu_utilization"] == dict(zip(IDS, UTILIZATION, strict=True))
