"""What all telemetry of one process says about where it comes from."""

import os
import platform
import socket

from opentelemetry.sdk.resources import Resource
from opentelemetry.semconv._incubating.attributes.host_attributes import HOST_NAME
from opentelemetry.semconv._incubating.attributes.process_attributes import (
    PROCESS_PID,
    PROCESS_RUNTIME_NAME,
    PROCESS_RUNTIME_VERSION,
)
from opentelemetry.semconv.attributes.service_attributes import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION


def build_resource(service_name: str, version: str, *, workers: int) -> Resource:
    """Describe this process; `OTEL_RESOURCE_ATTRIBUTES` wins over what is said here.

    Counts of two processes must never land in one series, and the SDK takes a `service.instance.id` from the
    environment as it stands. With several workers each therefore adds its process ID to an ID that was set.
    """
    resource = Resource(
        {
            SERVICE_VERSION: version,
            HOST_NAME: socket.gethostname(),
            PROCESS_PID: os.getpid(),
            PROCESS_RUNTIME_NAME: platform.python_implementation().lower(),
            PROCESS_RUNTIME_VERSION: platform.python_version(),
        }
    ).merge(Resource.create({SERVICE_NAME: service_name}))
    instance = str(resource.attributes[SERVICE_INSTANCE_ID])
    if workers > 1 and f"{SERVICE_INSTANCE_ID}={instance}" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        resource = resource.merge(Resource({SERVICE_INSTANCE_ID: f"{instance}-{os.getpid()}"}))
    return resource
