"""The tables in docs/protocols.md: each call of them is executed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from modeltrace.api.grpc_bridge import STATUS_CODES
from modeltrace.api.grpc_server import GrpcMiddleware
from modeltrace.inference.model import Model
from modeltrace.protocols.grpc_messages import SERVICE, load_messages
from tests.helpers.in_process_services import RecordsService, records_service
from tests.helpers.processes import free_port

PAGE = Path(__file__).parents[3] / "docs" / "protocols.md"
OTHER_PATHS = ("/invocations", "/ping", "/health", "/version")


def table(header: str) -> list[tuple[str, str]]:
    """Return the first two cells of the rows of all tables whose header row begins with these cells."""
    rows = []
    for part in re.findall(rf"(?m)^\| {re.escape(header)}.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE.read_text()):
        rows += [tuple(cell.strip() for cell in line.split(" | ")[:2]) for line in part.splitlines()]
    assert rows, header
    return [(first.removeprefix("| "), second.removesuffix(" |")) for first, second in rows]


CALLS = [
    (method, path, supported)
    for cell, supported in table("call | supported")
    for method, path in re.findall(r"`(GET|POST) (/[^` ]+)`", cell)
]
METHODS = [
    (method, supported)
    for cell, supported in table("method of `inference.GRPCInferenceService` | supported")
    for method in re.findall(r"`([A-Z]\w+)`", cell)
]


@pytest.fixture(scope="module")
def service(model: Model) -> Iterator[tuple[RecordsService, grpc.Channel]]:
    """Run the service, with gRPC."""
    port = free_port()
    with (
        records_service(model, wrap=GrpcMiddleware, grpc_port=port) as running,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield running, channel


def body(path: str, row: dict[str, float]) -> dict[str, Any]:
    """Return a valid body for a path of predictions."""
    if path.startswith("/v2"):
        inputs = [{"name": name, "datatype": "FP64", "shape": [1], "data": [value]} for name, value in row.items()]
        return {"inputs": inputs}
    return {"instances": [row]}


@pytest.mark.parametrize(("method", "path", "supported"), CALLS)
def test_calls_over_http(
    service: tuple[RecordsService, grpc.Channel], model: Model, rows: list[dict[str, float]], method: str, path: str,
    supported: str,
) -> None:  # fmt: skip
    """A call that is supported is answered with 200, another one with 404 or 405."""
    url = path.replace("{name}", model.name).replace("{version}", model.version)
    client = service[0].client
    response = client.get(url) if method == "GET" else client.post(url, json=body(path, rows[0]))

    assert response.status_code in ((200,) if supported.startswith("yes") else (404, 405)), response.text


def test_all_calls_over_http_are_listed(service: tuple[RecordsService, grpc.Channel]) -> None:
    """Each path of the protocols that the service has is in a table."""
    paths = service[0].client.get("/openapi.json").json()["paths"]
    own = {
        (method.upper(), path)
        for path, methods in paths.items()
        if path.startswith(("/v1", "/v2")) or path in OTHER_PATHS
        for method in methods
    }

    assert own == {(method, path) for method, path, supported in CALLS if supported.startswith("yes")}


@pytest.mark.parametrize(("method", "supported"), METHODS)
def test_methods_of_grpc(
    service: tuple[RecordsService, grpc.Channel], model: Model, rows: list[dict[str, float]], method: str,
    supported: str,
) -> None:  # fmt: skip
    """A method that is supported is answered, another one is UNIMPLEMENTED."""
    messages = load_messages()
    content = b""
    if method.startswith("Model") and f"{method}Request" in messages:
        request = messages[f"{method}Request"]()
        setattr(request, "model_name" if method == "ModelInfer" else "name", model.name)
        for name, value in rows[0].items() if method == "ModelInfer" else ():
            request.inputs.add(name=name, datatype="FP64", shape=[1]).contents.fp64_contents.append(value)
        content = request.SerializeToString()
    call = service[1].unary_unary(f"/{SERVICE}/{method}")
    if supported.startswith("yes"):
        assert call(content, timeout=60)
        return
    with pytest.raises(grpc.RpcError) as caught:
        call(content, timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_all_methods_of_grpc_are_listed() -> None:
    """The table has each method of Triton's service."""
    from tritonclient.grpc import service_pb2  # noqa: PLC0415  every test process collects this module

    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert {method for method, _ in METHODS} == {method.name for method in service.methods}


def test_status_codes_of_grpc_are_listed() -> None:
    """The table has each status that is not that of its class."""
    rows = table("HTTP status of the error | gRPC status")
    listed = {int(status): name for cell, name in rows for status in re.findall(r"\b\d{3}\b", cell)}

    assert listed == {status: code.name for status, code in STATUS_CODES.items()}
