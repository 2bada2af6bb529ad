"""A library with the C functions of NVML that the service calls, for machines without a GPU.

`nvidia-ml-py` loads it as it loads the library of the driver. It has two GPUs, and reads environment variables at each
call:

- `FAKE_NVML_FAILURES`: functions that fail, with the code of the error: `nvmlInitWithFlags=9`, or for one GPU
  `nvmlDeviceGetUtilizationRates/1=3`. Several are separated by spaces.
- `FAKE_NVML_GROWS`: if it is set, each call finds 1 MiB more of used memory.
- `FAKE_NVML_PROCESSES`: a file; each initialization appends the ID of its process.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

MIB: Final = 2**20
NAMES: Final = ("NVIDIA A100-SXM4-40GB", "NVIDIA T4")
IDS: Final = ("GPU-00000000-0000-0000-0000-000000000000", "GPU-11111111-1111-1111-1111-111111111111")
UTILIZATION: Final = (0.37, 1.0)
USED: Final = (10_000 * MIB, 3 * MIB)
TOTAL: Final = (40_960 * MIB, 15_360 * MIB)

_SOURCE: Final = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct device { unsigned index, gpu; unsigned long long used, total; const char *uuid, *name; };
struct memory { unsigned long long total, free, used; };
struct utilization { unsigned gpu, memory; };

#define MIB (1ULL << 20)
static struct device devices[2] = {
    {0, 37, 10000 * MIB, 40960 * MIB, "GPU-00000000-0000-0000-0000-000000000000", "NVIDIA A100-SXM4-40GB"},
    {1, 100, 3 * MIB, 15360 * MIB, "GPU-11111111-1111-1111-1111-111111111111", "NVIDIA T4"},
};
static unsigned long long grown;

/* The code after "KEY=" in FAKE_NVML_FAILURES; 0: the call succeeds. */
static int code(const char *key) {
    const char *failures = getenv("FAKE_NVML_FAILURES"), *found = failures ? strstr(failures, key) : NULL;
    return found ? atoi(found + strlen(key)) : 0;
}

static int of_device(const char *function, unsigned index) {
    char key[100];
    snprintf(key, sizeof key, "%s/%u=", function, index);
    return code(key);
}

int nvmlInitWithFlags(unsigned flags) {
    const char *path = getenv("FAKE_NVML_PROCESSES");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "%d\n", (int)getpid()); fclose(file); }
    (void)flags;
    return code("nvmlInitWithFlags=");
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 2;
    return code("nvmlDeviceGetCount=");
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **device) {
    if (index > 1) return 2;
    *device = &devices[index];
    return of_device("nvmlDeviceGetHandleByIndex", index);
}

int nvmlDeviceGetUUID(struct device *device, char *text, unsigned length) {
    snprintf(text, length, "%s", device->uuid);
    return of_device("nvmlDeviceGetUUID", device->index);
}

int nvmlDeviceGetName(struct device *device, char *text, unsigned length) {
    snprintf(text, length, "%s", device->name);
    return of_device("nvmlDeviceGetName", device->index);
}

int nvmlDeviceGetUtilizationRates(struct device *device, struct utilization *rates) {
    rates->gpu = device->gpu;
    rates->memory = 1;
    return of_device("nvmlDeviceGetUtilizationRates", device->index);
}

int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *memory) {
    grown = getenv("FAKE_NVML_GROWS") ? grown + MIB : 0;
    memory->total = device->total;
    memory->used = device->used + grown;
    memory->free = memory->total - memory->used;
    return of_device("nvmlDeviceGetMemoryInfo", device->index);
}
"""


def build_fake_nvml(folder: Path) -> Path:
    """Compile the library into a folder, for the variable `LD_LIBRARY_PATH` of a new process. Skip without gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    library = folder / "libnvidia-ml.so.1"
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-xc", "-", f"-Wl,-soname,{library.name}"]
    subprocess.run([*command, "-o", str(library)], input=_SOURCE, text=True, check=True, timeout=60)
    return folder


def load_fake_nvml(folder: Path) -> None:
    """Load the library into this process, so that the loader finds it by its name."""
    ctypes.CDLL(str(build_fake_nvml(folder) / "libnvidia-ml.so.1"))
