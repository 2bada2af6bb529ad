"""The documented API is the API: every call, with generated data, against its OpenAPI description."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.helpers.in_process_services import SdkService

pytestmark = pytest.mark.slow

CALLS = [
    ("/predict", "POST"),
    ("/predict/batch", "POST"),
    ("/feedback", "POST"),
    ("/model", "GET"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
]


def fuzz(service: SdkService, path: str, method: str, *, valid: bool) -> None:
    """Send generated requests and check each answer against the description."""
    # Every worker process collects this module, and one of them runs it: the import takes more than a second.
    import schemathesis  # noqa: PLC0415  see above

    mode = schemathesis.GenerationMode.POSITIVE if valid else schemathesis.GenerationMode.NEGATIVE
    operation: Any = schemathesis.openapi.from_asgi("/openapi.json", service.client.app)[path][method]

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate()

    check()


@pytest.mark.parametrize(("path", "method"), CALLS)
def test_valid_requests_are_answered_as_described(service: SdkService, path: str, method: str) -> None:
    """Whatever fits the description is accepted, and the answer fits it too."""
    fuzz(service, path, method, valid=True)


@pytest.mark.parametrize(("path", "method"), CALLS[:3])
def test_invalid_requests_are_refused_as_described(service: SdkService, path: str, method: str) -> None:
    """Whatever does not fit gets a documented refusal, never a failure of the service."""
    fuzz(service, path, method, valid=False)
