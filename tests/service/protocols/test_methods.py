"""Methods that a path does not support."""

from collections.abc import Iterator

import pytest

from modeltrace.inference.model import Model
from tests.helpers.in_process_services import RecordsService, records_service

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture(scope="module")
def service(model: Model) -> Iterator[RecordsService]:
    """Run the service."""
    with records_service(model) as running:
        yield running


@pytest.mark.parametrize("method", METHODS)
def test_every_path_answers_other_methods_with_405(service: RecordsService, model: Model, method: str) -> None:
    """Each path of the description has the status 405 for each other method, and `Allow` names its own."""
    paths: dict[str, dict[str, object]] = service.client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/v1/models/{name}:predict", "/v2/models/{name}/infer", "/invocations", "/ping"} <= set(paths)
    answers = {}
    for template, described in paths.items():
        if method.lower() not in described:
            path = template.replace("{name}", model.name).replace("{version}", model.version)
            response = service.client.request(method, path)
            answers[template] = (response.status_code, response.headers.get("allow"), response.text)

    own = {path: ", ".join(name.upper() for name in described) for path, described in paths.items()}
    assert {path: status for path, (status, _, _) in answers.items()} == dict.fromkeys(answers, 405)
    assert all(f"does not take {method}" in text for _, _, text in answers.values())
    assert {path: (allow or "").removesuffix(", HEAD") for path, (_, allow, _) in answers.items()} == {
        path: own[path] for path in answers
    }
    assert service.queue.requests == []
