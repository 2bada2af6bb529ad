"""Builds the OpenTelemetry resource of a process."""

import os
import platform
import socket
from typing import Final

from opentelemetry.sdk.resources import Resource, ServiceInstanceIdResourceDetector
from opentelemetry.semconv._incubating.attributes.host_attributes import HOST_NAME
from opentelemetry.semconv._incubating.attributes.process_attributes import (
    PROCESS_PID,
    PROCESS_RUNTIME_NAME,
    PROCESS_RUNTIME_VERSION,
)
from opentelemetry.semconv.attributes.service_attributes import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION

DEFAULT_SERVICE_NAME: Final = "modeltrace"
# Prefix of the name that the SDK gives to a service without a name.
UNKNOWN_SERVICE: Final = "unknown_service"


def build_resource(
    service_name: str | None, version: str, *, workers: int, default_name: str = DEFAULT_SERVICE_NAME
) -> Resource:
    """Describe this process. `OTEL_RESOURCE_ATTRIBUTES` takes precedence.

    Two processes must never share a series, but the SDK uses a `service.instance.id` from the environment unchanged. If
    there are several workers, each worker therefore appends its process ID.

    Args:
        service_name: `OTEL_SERVICE_NAME`; `None` if it is not set.
        version: version of the service.
        workers: number of processes that serve.
        default_name: the name if no variable sets one.
    """
    detected = Resource.create()
    if not service_name:
        detected_name = str(detected.attributes[SERVICE_NAME])
        service_name = default_name if detected_name.startswith(UNKNOWN_SERVICE) else detected_name
    resource = Resource(
        {
            SERVICE_VERSION: version,
            HOST_NAME: socket.gethostname(),
            PROCESS_PID: os.getpid(),
            PROCESS_RUNTIME_NAME: platform.python_implementation().lower(),
            PROCESS_RUNTIME_VERSION: platform.python_version(),
        }
    ).merge(detected)
    random_id = ServiceInstanceIdResourceDetector().detect().attributes[SERVICE_INSTANCE_ID]  # one per process
    instance = resource.attributes.get(SERVICE_INSTANCE_ID) or random_id
    if workers > 1 and instance != random_id:
        instance = f"{instance}-{os.getpid()}"
    return resource.merge(Resource({SERVICE_NAME: service_name, SERVICE_INSTANCE_ID: instance}))
