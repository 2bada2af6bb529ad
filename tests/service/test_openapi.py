"""Every route is tested with generated data against its OpenAPI description."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.helpers.in_process_services import SdkService

pytestmark = pytest.mark.slow

ROUTES = [
    ("/predict", "POST"),
    ("/predict/batch", "POST"),
    ("/feedback", "POST"),
    ("/model", "GET"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
]


def fuzz(service: SdkService, path: str, method: str, *, valid: bool) -> None:
    """Send generated requests and validate each response against the description."""
    # Imported here, since every test process collects this module and the import takes more than a second.
    import schemathesis  # noqa: PLC0415  see above

    mode = schemathesis.GenerationMode.POSITIVE if valid else schemathesis.GenerationMode.NEGATIVE
    operation: Any = schemathesis.openapi.from_asgi("/openapi.json", service.client.app)[path][method]

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode).filter(lambda case: not valid or has_an_id_per_row(case)))
    def check(case: Any) -> None:
        case.call_and_validate()

    check()


def has_an_id_per_row(case: Any) -> bool:
    """Return whether a batch has one ID for each row, which a JSON schema cannot require."""
    ids = case.body.get("ids") if isinstance(case.body, dict) else None
    return ids is None or len(ids) == len(case.body["rows"])


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_valid_requests_are_answered_as_described(service: SdkService, path: str, method: str) -> None:
    """Valid requests are accepted, and the responses are valid too."""
    fuzz(service, path, method, valid=True)


@pytest.mark.parametrize(("path", "method"), ROUTES[:3])
def test_invalid_requests_are_rejected_as_described(service: SdkService, path: str, method: str) -> None:
    """Invalid requests have a documented error response; the service never fails."""
    fuzz(service, path, method, valid=False)
