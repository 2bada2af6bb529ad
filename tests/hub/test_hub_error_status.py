"""HTTP status, gRPC status and type of errors."""

import grpc
import httpx
import pytest
from google.rpc.status_pb2 import Status

from modeltrace_hub import errors
from modeltrace_hub.error_status import error_status
from modeltrace_hub.errors import HubError, RetryableError, TooLargeError
from modeltrace_hub.receive.signals import TRACES
from tests.helpers.in_process_hubs import InProcessHub
from tests.helpers.otlp_messages import trace_request

BODY = trace_request().SerializeToString()


class _NewError(HubError):
    """A class without a status of its own."""


class _NewRetryableError(RetryableError):
    """A subclass of a class with a status."""


def _raise(*_: object, **__: object) -> None:
    raise _NewError("a new error")


def test_every_error_has_a_status() -> None:
    """The lookup fails for no class of the hub; a status is an error status."""
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, HubError)]
    assert len(classes) > 20
    assert {error_status(cls("message")).http >= 400 for cls in classes} == {True}


@pytest.mark.parametrize(
    ("error", "http", "code", "type_"),
    [
        (TooLargeError(), 413, grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large"),
        (_NewRetryableError(), 503, grpc.StatusCode.UNAVAILABLE, "unavailable"),
        (_NewError(), 500, grpc.StatusCode.INTERNAL, "internal"),
        (KeyError(), 500, grpc.StatusCode.INTERNAL, "internal"),
    ],
)
def test_the_most_specific_class_decides(error: Exception, http: int, code: grpc.StatusCode, type_: str) -> None:
    """A subclass without a status has the one of its base class, and any other error is internal."""
    status = error_status(error)
    assert (status.http, status.grpc, status.type) == (http, code, type_)


def test_an_unlisted_error_is_answered(hub: InProcessHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTLP over HTTP and gRPC and the API answer an error without a status with 500 and INTERNAL."""
    monkeypatch.setattr(hub.writer, "submit", _raise)
    response = hub.client.post(TRACES.http_path, content=BODY, headers={"Content-Type": "application/x-protobuf"})
    status = Status.FromString(response.content)
    assert (response.status_code, status.code, status.message) == (
        500,
        grpc.StatusCode.INTERNAL.value[0],
        "a new error",
    )

    with grpc.insecure_channel(hub.grpc_target) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"/{TRACES.grpc_service}/Export")(BODY, timeout=20)
    assert raised.value.code() == grpc.StatusCode.INTERNAL  # type: ignore[attr-defined]  the error is a call, too

    monkeypatch.setattr(hub.store, "read", _raise)
    response = httpx.get(f"{hub.page_url}/api/traces")
    assert (response.status_code, response.json()["error"]["type"]) == (500, "internal")
