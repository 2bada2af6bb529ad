"""What telemetry says about where it comes from."""

import os

import pytest

from modeltrace.settings import read_settings
from modeltrace.telemetry.resource import build_resource


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment, without any of OpenTelemetry's variables."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def built(*, workers: int = 1) -> dict[str, object]:
    """The attributes of this process's resource."""
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
    """`OTEL_SERVICE_NAME` wins over `OTEL_RESOURCE_ATTRIBUTES`, and either over our own."""
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
def test_workers_never_share_an_instance(variables: pytest.MonkeyPatch, attributes: str, instance: str) -> None:
    """Whichever way an ID is written, each of several workers adds its process ID to it, and a single one does not."""
    variables.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)

    assert built(workers=1)["service.instance.id"] == instance
    assert built(workers=2)["service.instance.id"] == f"{instance}-{os.getpid()}"


@pytest.mark.parametrize("attributes", ["", "service.instance.id=", "team=a"])
def test_an_instance_without_a_name(variables: pytest.MonkeyPatch, attributes: str) -> None:
    """Each process has an ID of its own, which it keeps."""
    variables.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)
    first = built(workers=2)["service.instance.id"]

    assert len(str(first)) == 36
    assert built(workers=2)["service.instance.id"] == first


def test_a_detector_may_give_the_name(variables: pytest.MonkeyPatch) -> None:
    """Further detectors of the SDK are asked, too."""
    variables.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "os")

    assert "os.type" in built()
