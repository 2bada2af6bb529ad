"""Metrics of the NVIDIA GPUs of the host, which NVML (the NVIDIA Management Library) measures.

Names, units and attributes are those of the semantic conventions for GPU metrics
(https://opentelemetry.io/docs/specs/semconv/hardware/gpu/). NVML is called on the threads that collect metrics, so
predictions never wait for it. What cannot be measured is left out, and the log says so once.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.semconv._incubating.attributes.hw_attributes import (
    HW_GPU_TASK,
    HW_ID,
    HW_NAME,
    HW_TYPE,
    HW_VENDOR,
    HwGpuTaskValues,
    HwTypeValues,
)
from opentelemetry.semconv._incubating.metrics.hw_metrics import (
    HW_GPU_MEMORY_LIMIT,
    HW_GPU_MEMORY_USAGE,
    HW_GPU_MEMORY_UTILIZATION,
    HW_GPU_UTILIZATION,
)

from modeltrace.file_lock import FileLock
from modeltrace.settings import Settings

logger = logging.getLogger("modeltrace.gpus")

LOCK_FILE: Final = "gpus.lock"


class GPUReading(NamedTuple):
    """What was measured of one GPU; `None` if NVML cannot measure it.

    Attributes:
        attributes: identify the GPU.
        utilization: the share of the last sample period (of up to a second) in which the GPU computed, 0 to 1.
        memory_usage: bytes that are allocated by any process, or reserved by the driver.
        memory_limit: bytes of memory.
    """

    attributes: Mapping[str, str]
    utilization: float | None
    memory_usage: int | None
    memory_limit: int | None


class GPUReader:
    """Reads the GPUs of the host. If processes share the lock, one of them reads, until it ends."""

    def __init__(self, lock: FileLock | None = None) -> None:
        self._lock = lock
        self._nvml: Any = None  # the module `pynvml`
        self._failed = False
        self._logged: set[tuple[int | None, str]] = set()

    def read(self) -> Sequence[GPUReading]:
        """Measure all GPUs. Empty if there are none, if another process reads them, or if NVML cannot be used."""
        if self._failed or not (self._nvml or self._start()):
            return ()
        number = self._call(None, "nvmlDeviceGetCount") or 0
        return [reading for gpu in range(number) if (reading := self._read_gpu(gpu))]

    def _start(self) -> bool:
        """Initialize NVML if this process holds the lock. After a failure there is no other try."""
        try:
            if self._lock and not self._lock.try_acquire():
                return False
            import pynvml  # noqa: PLC0415  an extra, which only this needs
        except ImportError:
            return self._fail("nvidia-ml-py is not installed: pip install 'modeltrace[gpu]'")
        except OSError as error:
            return self._fail(f"the file of the lock cannot be opened: {error}")
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return self._fail(f"NVML, a part of the NVIDIA driver, cannot be used: {error}")
        self._nvml = pynvml
        return True

    def _fail(self, reason: str) -> bool:
        self._failed = True
        logger.warning("GPUs are not reported until the next start: %s", reason)
        return False

    def _read_gpu(self, gpu: int) -> GPUReading | None:
        handle = self._call(gpu, "nvmlDeviceGetHandleByIndex", gpu)
        identifier = handle and self._call(gpu, "nvmlDeviceGetUUID", handle)
        if not identifier:
            return None
        attributes = {HW_ID: identifier, HW_TYPE: HwTypeValues.GPU.value, HW_VENDOR: "NVIDIA"}
        if name := self._call(gpu, "nvmlDeviceGetName", handle):
            attributes[HW_NAME] = name
        rates = self._call(gpu, "nvmlDeviceGetUtilizationRates", handle)
        memory = self._call(gpu, "nvmlDeviceGetMemoryInfo", handle)
        return GPUReading(
            attributes,
            rates.gpu / 100 if rates else None,
            memory.used if memory else None,
            memory.total if memory else None,
        )

    def _call(self, gpu: int | None, function: str, *arguments: Any) -> Any:  # noqa: ANN401  what the function returns
        """Call a function of NVML; `None` if it fails. Log the first failure of each function and GPU."""
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError as error:
            if (gpu, function) not in self._logged:
                self._logged.add((gpu, function))
                device = "all GPUs" if gpu is None else f"GPU {gpu}"
                logger.warning("metrics of %s are incomplete: %s: %s", device, function, error)
            return None


class GPUMetrics:
    """The instruments. The four values of a GPU at one collection come from the same reading."""

    def __init__(self, meter: Meter, read: Callable[[], Sequence[GPUReading]]) -> None:
        """`read` measures all GPUs."""
        self._read = read
        self._readings: Sequence[GPUReading] = ()
        # A meter provider collects one reader at a time, and calls the instruments in the order of their creation.
        meter.create_observable_gauge(
            HW_GPU_UTILIZATION, [self._observe_utilization], "1", "Fraction of time in which the GPU computed."
        )
        meter.create_observable_up_down_counter(HW_GPU_MEMORY_USAGE, [self._observe_usage], "By", "GPU memory used.")
        meter.create_observable_up_down_counter(
            HW_GPU_MEMORY_LIMIT, [self._observe_limit], "By", "Size of the GPU memory."
        )
        meter.create_observable_gauge(
            HW_GPU_MEMORY_UTILIZATION, [self._observe_memory_utilization], "1", "Fraction of GPU memory used."
        )

    def _observe_utilization(self, _: CallbackOptions) -> Iterable[Observation]:
        self._readings = self._read()
        return [
            Observation(gpu.utilization, {**gpu.attributes, HW_GPU_TASK: HwGpuTaskValues.GENERAL.value})
            for gpu in self._readings
            if gpu.utilization is not None
        ]

    def _observe_usage(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(gpu.memory_usage, gpu.attributes) for gpu in self._readings if gpu.memory_usage is not None]

    def _observe_limit(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(gpu.memory_limit, gpu.attributes) for gpu in self._readings if gpu.memory_limit is not None]

    def _observe_memory_utilization(self, _: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(gpu.memory_usage / gpu.memory_limit, gpu.attributes)
            for gpu in self._readings
            if gpu.memory_usage is not None and gpu.memory_limit
        ]


def observe_gpus(settings: Settings, meter: Meter, shared_folder: Path | None) -> None:
    """Report the GPUs of the host if the settings ask for it.

    Args:
        settings: the service's settings.
        meter: creates the instruments.
        shared_folder: the folder that several workers share, one of which reports; `None`: there is one worker.
    """
    if settings.reports_gpus():
        GPUMetrics(meter, GPUReader(FileLock(shared_folder / LOCK_FILE) if shared_folder else None).read)
