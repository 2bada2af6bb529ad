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
    ("/v2", "GET"),
    ("/v2/models/{name}", "GET"),
    ("/v2/models/{name}/versions/{version}/ready", "GET"),
    ("/v1/models", "GET"),
    ("/v1/models/{name}", "GET"),
    ("/ping", "GET"),
    ("/version", "GET"),
]
# A valid request of these is more than OpenAPI can describe: the number of values follows from the shape, for example.
PROTOCOL_ROUTES = [
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
    "/v1/models/{name}:predict",
    "/invocations",
]


def fuzz(service: SdkService, path: str, method: str, *, valid: bool, accepted: bool = True) -> None:
    """Send generated requests and validate each response against the description.

    Args:
        service: the service.
        path: the path of the route.
        method: its method.
        valid: whether the requests are as the description says.
        accepted: whether such requests must be accepted, and others rejected.
    """
    # Imported here, since every test process collects this module and the import takes more than a second.
    import schemathesis  # noqa: PLC0415  see above
    from schemathesis.checks import negative_data_rejection, positive_data_acceptance  # noqa: PLC0415  see above

    mode = schemathesis.GenerationMode.POSITIVE if valid else schemathesis.GenerationMode.NEGATIVE
    operation: Any = schemathesis.openapi.from_asgi("/openapi.json", service.client.app)[path][method]

    requests = operation.as_strategy(generation_mode=mode)
    if valid and accepted:
        requests = requests.filter(lists_have_an_item_per_row)

    @settings(
        max_examples=50 if accepted else 20, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(case=requests)
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=[] if accepted else [positive_data_acceptance, negative_data_rejection])

    check()


def lists_have_an_item_per_row(case: Any) -> bool:
    """Return whether a batch has one ID, and one object of tags, for each row, which a JSON schema cannot require."""
    lists = [case.body.get(name) for name in ("ids", "tags")] if isinstance(case.body, dict) else []
    return all(len(values) == len(case.body["rows"]) for values in lists if isinstance(values, list))


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_valid_requests_are_answered_as_described(service: SdkService, path: str, method: str) -> None:
    """Valid requests are accepted, and the responses are valid too."""
    fuzz(service, path, method, valid=True)


@pytest.mark.parametrize(("path", "method"), ROUTES[:3])
def test_invalid_requests_are_rejected_as_described(service: SdkService, path: str, method: str) -> None:
    """Invalid requests have a documented error response; the service never fails."""
    fuzz(service, path, method, valid=False)


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("path", PROTOCOL_ROUTES[1:])
def test_responses_of_protocols_are_described(service: SdkService, path: str, valid: bool) -> None:
    """Any request has a documented response, whether it is accepted or rejected."""
    fuzz(service, path, "POST", valid=valid, accepted=False)


def test_examples_of_protocols_are_accepted(service: SdkService) -> None:
    """The example of each description is answered with predictions."""
    document = service.client.get("/openapi.json").json()
    for path in PROTOCOL_ROUTES:
        operation = document["paths"][path]["post"]
        parameters = [parameter for parameter in operation["parameters"] if parameter["in"] == "path"]
        names = {parameter["name"]: parameter["schema"]["enum"][0] for parameter in parameters}
        example = operation["requestBody"]["content"]["application/json"]["schema"]["example"]
        response = service.client.post(path.format(**names), json=example)
        assert response.status_code == 200, response.text
