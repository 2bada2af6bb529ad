"""Panels about the worker processes of a service and their host."""

from deploy.grafana.source.panels import Panels, time_series_panel
from deploy.grafana.source.queries import JOB, WORKER, by_process, range_query, rate

HTTP = "http_server_request_duration_seconds"
PROCESS_LEGEND = "{{host_name}} · {{process_pid}}"
GPU_LEGEND = "{{host_name}} · {{hw_name}} · {{hw_id}}"


def worker_panels() -> Panels:
    """Build the panels about each worker process."""
    return [
        time_series_panel(
            8,
            "Requests by worker",
            "Requests per second, by host and process ID. A persistent connection always uses the same worker.",
            "reqps",
            range_query(by_process(rate(f"{HTTP}_count", WORKER)), PROCESS_LEGEND),
        ),
        time_series_panel(
            8,
            "Requests in flight",
            "Requests in progress. The number grows if requests arrive faster than they are answered.",
            "short",
            range_query(by_process(f"http_server_active_requests{{{WORKER}}}"), PROCESS_LEGEND),
        ),
        time_series_panel(
            8,
            "CPU",
            "CPU time in cores. A worker uses little more than one core, because Python runs one thread at a time.",
            "short",
            range_query(by_process(rate("process_cpu_time_seconds_total", WORKER)), PROCESS_LEGEND),
            limits=(1,),
        ),
        time_series_panel(
            8,
            "Memory",
            "Resident memory. Unlimited growth indicates a leak.",
            "bytes",
            range_query(by_process(f"process_memory_usage_bytes{{{WORKER}}}"), PROCESS_LEGEND),
        ),
        time_series_panel(
            8,
            "Threads",
            "Threads of each worker.",
            "short",
            range_query(by_process(f"process_thread_count{{{WORKER}}}"), PROCESS_LEGEND),
        ),
        time_series_panel(
            8,
            "Open files",
            "Open file descriptors, including connections.",
            "short",
            range_query(by_process(f"process_open_file_descriptor_count{{{WORKER}}}"), PROCESS_LEGEND),
        ),
    ]


def host_panels() -> Panels:
    """Build the panels about the host. One worker of each service reports the GPUs of its host."""
    busy = '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))'
    waiting = "sum by (instance) (rate(node_pressure_%s_waiting_seconds_total[$__rate_interval]))"
    disks = '{fstype!~"tmpfs|ramfs|squashfs|overlay|fuse.*"}'
    free = f"node_filesystem_avail_bytes{disks} / node_filesystem_size_bytes{disks}"
    gpu = f"max by (host_name, hw_name, hw_id) (hw_gpu_%s{{{JOB}}})"
    return [
        time_series_panel(
            6,
            "CPU",
            "Share of the CPU time of the host that is used.",
            "percentunit",
            range_query(busy, "{{instance}}"),
            limits=(0.8, 0.9),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Memory",
            "Share of the memory of the host that is not available.",
            "percentunit",
            range_query("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "{{instance}}"),
            limits=(0.8, 0.9),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Disk",
            "Share of each file system that is used.",
            "percentunit",
            range_query(f"1 - min by (instance, mountpoint) ({free})", "{{mountpoint}}"),
            limits=(0.8, 0.9),
            max_value=1,
        ),
        time_series_panel(
            6,
            "Pressure",
            "Share of time in which a task waited for CPU, memory or disk (PSI of the kernel).",
            "percentunit",
            *(range_query(waiting % resource, f"{resource} {{{{instance}}}}") for resource in ("cpu", "memory", "io")),
        ),
        time_series_panel(
            12,
            "GPU",
            "Share of time in which each NVIDIA GPU of the service's host computed, for any process. No data without "
            "MODELTRACE_GPU_METRICS or ONNX Runtime on a GPU.",
            "percentunit",
            range_query(gpu % "utilization_ratio", GPU_LEGEND),
            max_value=1,
        ),
        time_series_panel(
            12,
            "GPU memory",
            "Memory of each NVIDIA GPU of the service's host that any process uses, and its size.",
            "bytes",
            range_query(gpu % "memory_usage_bytes", GPU_LEGEND),
            range_query(gpu % "memory_limit_bytes", f"size · {GPU_LEGEND}"),
        ),
    ]
