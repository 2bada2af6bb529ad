"""The resource of a process."""

import os

import pytest

from modeltrace.settings import read_settings
from modeltrace.telemetry.resource import build_resource


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove OpenTelemetry's variables from the environment."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def built(*, workers: int = 1) -> dict[str, object]:
    """Return the attributes of this process's resource."""
    return dict(build_resource(read_settings().otel.service_name, "1", workers=workers).attributes)


@pytest.mark.parametrize(
    ("attributes", "name", "expected"),
    [
        ("", "", "modeltrace"),
        ("service.name=churn-api,team=a", "", "churn-api"),
        ("service.name = churn%20api", "", "churn api"),
        ("service.name=churn-api", "scores", "scores"),
        ("service.name=", "", "modeltrace"),
    ],
)
def test_the_name_of_the_service(variables: pytest.MonkeyPatch, attributes: str, name: str, expected: str) -> None:
    """`OTEL_SERVICE_NAME` takes precedence over `OTEL_RESOURCE_ATTRIBUTES`, and either over the default."""
    variables.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)
    variables.setenv("OTEL_SERVICE_NAME", name)

    assert built()["service.name"] == expected


@pytest.mark.parametrize(
    ("attributes", "instance"),
    [
        ("service.instance.id=pod-7", "pod-7"),
        ("service.instance.id=pod%2F7", "pod/7"),
        ("service.instance.id = pod-7 ", "pod-7"),
        ("team=a,service.instance.id=a=b", "a=b"),
    ],
)
def test_workers_never_share_an_instance_id(variables: pytest.MonkeyPatch, attributes: str, instance: str) -> None:
    """However an ID is set, each of several workers appends its process ID, and a single worker does not."""
    variables.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)

    assert built(workers=1)["service.instance.id"] == instance
    assert built(workers=2)["service.instance.id"] == f"{instance}-{os.getpid()}"


@pytest.mark.parametrize("attributes", ["", "service.instance.id=", "team=a"])
def test_an_instance_id_is_generated(variables: pytest.MonkeyPatch, attributes: str) -> None:
    """Each process has an ID of its own, which does not change."""
    variables.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)
    first = built(workers=2)["service.instance.id"]

    assert len(str(first)) == 36
    assert built(workers=2)["service.instance.id"] == first


def test_a_resource_detector_may_set_the_name(variables: pytest.MonkeyPatch) -> None:
    """Further resource detectors of the SDK are used, too."""
    variables.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "os")

    assert "os.type" in built()
