"""What all telemetry of one process says about where it comes from."""

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
# What the SDK calls a service that nobody has named.
UNKNOWN_SERVICE: Final = "unknown_service"


def build_resource(
    service_name: str | None, version: str, *, workers: int, default_name: str = DEFAULT_SERVICE_NAME
) -> Resource:
    """Describe this process; `OTEL_RESOURCE_ATTRIBUTES` wins over what is said here.

    Counts of two processes must never land in one series, and the SDK takes a `service.instance.id` from the
    environment as it stands. With several workers each therefore adds its process ID to an ID that was set.

    Args:
        service_name: `OTEL_SERVICE_NAME`; `None` where it is not set.
        version: the service's version.
        workers: how many processes serve.
        default_name: the name where neither variable gives one.
    """
    detected = Resource.create()
    if not service_name:
        said = str(detected.attributes[SERVICE_NAME])
        service_name = default_name if said.startswith(UNKNOWN_SERVICE) else said
    resource = Resource(
        {
            SERVICE_VERSION: version,
            HOST_NAME: socket.gethostname(),
            PROCESS_PID: os.getpid(),
            PROCESS_RUNTIME_NAME: platform.python_implementation().lower(),
            PROCESS_RUNTIME_VERSION: platform.python_version(),
        }
    ).merge(detected)
    own = ServiceInstanceIdResourceDetector().detect().attributes[SERVICE_INSTANCE_ID]  # one for each process
    instance = resource.attributes.get(SERVICE_INSTANCE_ID) or own
    if workers > 1 and instance != own:
        instance = f"{instance}-{os.getpid()}"
    return resource.merge(Resource({SERVICE_NAME: service_name, SERVICE_INSTANCE_ID: instance}))
