"""The Open Inference Protocol over gRPC: messages, values, errors and telemetry, with the service in this process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st

from modeltrace.api.auth import wrap_with_auth
from modeltrace.api.grpc_bridge import _client
from modeltrace.api.grpc_server import GrpcMiddleware
from modeltrace.errors import InferenceError, MalformedRequestError, SettingsError
from modeltrace.inference.features import Matrix
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.protocols.grpc_inference import CONTENTS, to_http_request
from modeltrace.protocols.grpc_messages import SERVICE, load_messages
from modeltrace.server import check_grpc_port, listen
from modeltrace.settings import read_settings
from tests.helpers.conformance import comparable_spans
from tests.helpers.in_process_services import RecordsService, records_service
from tests.helpers.mixed_schema import MIXED_SCHEMA
from tests.helpers.processes import free_port

KEY = "a key of 16 signs"
MESSAGES = load_messages()
ROWS: dict[str, tuple[str, list[Any]]] = {
    "age": ("FP64", [1.5, float("nan")]),
    "rooms": ("INT64", [2, 3]),
    "vip": ("BOOL", [True, False]),
    "city": ("BYTES", ["Bonn", "Köln, am Rhein"]),
}
INPUTS = [(1.5, 2, True, "Bonn"), (None, 3, False, "Köln, am Rhein")]


def add_up(matrix: Matrix) -> list[ModelOutput]:
    """Return the number of rooms as the value of each row."""
    return [ModelOutput(value=float(rooms)) for rooms in matrix["rooms"]]


@pytest.fixture(scope="module")
def regressor(model: Model) -> Model:
    """A regressor with a feature of every type."""
    functions: dict[str, Any] = {"predict_fn": add_up, "details_fn": None}
    return replace(model, name="rooms", schema=MIXED_SCHEMA, as_frame=True, task="regressor", classes=None, **functions)


@contextmanager
def grpc_service(model: Model, **settings: Any) -> Iterator[tuple[RecordsService, grpc.Channel, str]]:
    """Run the service with gRPC, and open a channel to it."""
    port = free_port()
    wrap = lambda app, read: GrpcMiddleware(wrap_with_auth(app, read), read)  # noqa: E731  one expression
    with (
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        records_service(model, wrap=wrap, grpc_port=port, allowed_hosts="testserver", **settings) as service,
    ):
        yield service, channel, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def served(regressor: Model) -> Iterator[tuple[RecordsService, grpc.Channel, str]]:
    """Run the service with the regressor."""
    with grpc_service(regressor) as running:
        yield running


def call(channel: grpc.Channel, method: str, request: Any, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
    """Call a method; return the response, and the trailing metadata."""
    response, finished = channel.unary_unary(f"/{SERVICE}/{method}").with_call(
        request.SerializeToString(), metadata=metadata, timeout=60
    )
    return MESSAGES[f"{method}Response"].FromString(response), dict(finished.trailing_metadata())


def typed_request(rows: dict[str, tuple[str, list[Any]]] = ROWS, name: str = "rooms", **fields: Any) -> Any:
    """Return a request with typed values."""
    request = MESSAGES["ModelInferRequest"](model_name=name, **fields)
    for feature, (datatype, values) in rows.items():
        tensor = request.inputs.add(name=feature, datatype=datatype, shape=[len(values)])
        plain = [value.encode() for value in values] if datatype == "BYTES" else values
        getattr(tensor.contents, CONTENTS[datatype]).extend(plain)
    return request


def triton_inputs(rows: dict[str, tuple[str, list[Any]]]) -> list[Any]:
    """Return inputs of Triton's client."""
    import tritonclient.grpc  # noqa: PLC0415  every test process collects this module

    inputs = []
    for name, (datatype, values) in rows.items():
        dtype = {"BYTES": object, "BOOL": bool, "INT64": np.int64, "FP64": np.float64, "FP32": np.float32}[datatype]
        inputs.append(tritonclient.grpc.InferInput(name, [len(values)], datatype))
        inputs[-1].set_data_from_numpy(np.array(values, dtype=dtype))
    return inputs


def flat_fields(message: Descriptor) -> list[tuple[Any, ...]]:
    """Return number, name, type and whether it is repeated, of each field; messages are replaced by their fields."""
    return [
        (
            field.number,
            field.name,
            field.type,
            field.is_repeated,
            field.message_type and flat_fields(field.message_type),
        )
        for field in message.fields
    ]


def test_messages_are_those_of_tritons_client() -> None:
    """Each message has the same fields with the same numbers, also where it is part of another one."""
    from tritonclient.grpc import service_pb2  # noqa: PLC0415  see `triton_inputs`

    calls = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")
    for name in (f"{call}{kind}" for call in calls for kind in ("Request", "Response")):
        assert flat_fields(MESSAGES[name].DESCRIPTOR) == flat_fields(getattr(service_pb2, name).DESCRIPTOR), name
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert service.full_name == SERVICE
    assert {*calls} <= {method.name for method in service.methods}


def test_tritons_client_describes_server_and_model(served: tuple[RecordsService, grpc.Channel, str]) -> None:
    """The metadata are those over HTTP."""
    import tritonclient.grpc  # noqa: PLC0415  see `triton_inputs`

    service, _, address = served
    with tritonclient.grpc.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("rooms")
        assert client.is_model_ready("rooms", "1.0.0")
        assert not client.is_model_ready("rooms", "9")
        assert not client.is_model_ready("other")
        server = client.get_server_metadata(as_json=True)
        metadata = client.get_model_metadata("rooms", "1.0.0", as_json=True)
        with pytest.raises(tritonclient.grpc.InferenceServerException, match=r"NOT_FOUND.*has no model 'other'"):
            client.get_model_metadata("other")
    assert server == service.client.get("/v2").json()
    expected = service.client.get("/v2/models/rooms").json()
    for tensor in (*expected["inputs"], *expected["outputs"]):
        tensor["shape"] = [str(size) for size in tensor["shape"]]  # as JSON of Protocol Buffers writes int64
    assert metadata == expected


def test_tritons_client_predicts(served: tuple[RecordsService, grpc.Channel, str]) -> None:
    """Values of all types arrive, and selected outputs come back in binary form."""
    import tritonclient.grpc  # noqa: PLC0415  see `triton_inputs`

    service, _, address = served
    outputs = [tritonclient.grpc.InferRequestedOutput(name) for name in ("prediction_id", "value")]
    with tritonclient.grpc.InferenceServerClient(address) as client:
        result = client.infer("rooms", triton_inputs(ROWS), request_id="r-1", outputs=outputs)
        response = result.get_response()

    record = service.queue.requests[-1]
    assert [row.inputs for row in record.predictions] == INPUTS
    assert result.as_numpy("value").tolist() == [2.0, 3.0]
    assert [each.decode() for each in result.as_numpy("prediction_id")] == [
        row.prediction_id for row in record.predictions
    ]
    assert [output.name for output in response.outputs] == ["prediction_id", "value"]
    assert (response.id, response.model_name, response.model_version) == ("r-1", "rooms", "1.0.0")
    assert response.parameters["trace_id"].string_param == record.trace_id.hex()
    assert len(response.raw_output_contents) == 2


def test_typed_values_are_answered_with_typed_values(served: tuple[RecordsService, grpc.Channel, str]) -> None:
    """A request without raw values is answered without them."""
    service, channel, _ = served

    response, _ = call(channel, "ModelInfer", typed_request(model_version="1.0.0"))

    assert [row.inputs for row in service.queue.requests[-1].predictions] == INPUTS
    values = {output.name: output.contents for output in response.outputs}
    assert list(values["value"].fp64_contents) == [2.0, 3.0]
    ids = [row.prediction_id.encode() for row in service.queue.requests[-1].predictions]
    assert list(values["prediction_id"].bytes_contents) == ids
    assert list(response.raw_output_contents) == []


@pytest.mark.parametrize("datatype", ["FP32", "INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32", "UINT64"])
def test_all_numbers_are_accepted(served: tuple[RecordsService, grpc.Channel, str], datatype: str) -> None:
    """A feature that is a number takes each datatype of numbers."""
    service, channel, _ = served

    call(channel, "ModelInfer", typed_request({**ROWS, "age": (datatype, [1, 127]), "rooms": ("INT32", [2, 3])}))

    assert [row.inputs[0] for row in service.queue.requests[-1].predictions] == [1, 127]


@pytest.mark.parametrize("one_row", [True, False])
def test_telemetry_is_that_of_http(regressor: Model, one_row: bool) -> None:
    """Spans and predictions equal those of the same request over HTTP, but for the version of HTTP and the client."""
    rows = {name: (kind, values[: 1 if one_row else 2]) for name, (kind, values) in ROWS.items()}
    document = {
        "inputs": [
            {"name": name, "datatype": kind, "shape": [len(values)], "data": [None if v != v else v for v in values]}
            for name, (kind, values) in rows.items()
        ]
    }
    context = f"00-{'ab' * 16}-{'cd' * 8}-01"
    with grpc_service(regressor) as (service, channel, _):
        http = service.client.post("/v2/models/rooms/infer", json=document, headers={"traceparent": context})
        assert http.status_code == 200, http.text
        _, metadata = call(channel, "ModelInfer", typed_request(rows), (("traceparent", context),))
        requests = list(service.queue.requests)
        spans = []
        for request in requests:
            service.queue.requests[:] = [request]
            spans.append(comparable_spans(service.spans()))

    assert metadata["x-trace-id"] == "ab" * 16
    assert (requests[1].trace_id.hex(), requests[1].parent_span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert (requests[1].http_version, requests[1].client_address) == ("2", "127.0.0.1")
    assert requests[1].user_agent.startswith("grpc-python")
    rows_of = [[row._replace(prediction_id="", time=0) for row in request.predictions] for request in requests]
    assert rows_of[0] == rows_of[1]
    own = {
        "http.flavor", "user_agent.original", "http.user_agent", "network.protocol.version", "net.peer.ip",
        "client.address", "net.peer.port", "client.port", "http.host", "http.server_name", "http.url", "url.full",
        "net.host.port", "server.port", "server.address",
    }  # fmt: skip
    for each in spans:
        (server,) = (span for name, span in each.items() if " " in name)
        server["attributes"] = {key: value for key, value in server["attributes"].items() if key not in own}
    assert spans[0] == spans[1]


def test_concurrent_calls_have_their_own_traces(served: tuple[RecordsService, grpc.Channel, str]) -> None:
    """Calls of one connection that run at the same time continue the trace of their caller only."""
    service, channel, _ = served
    method, content = channel.unary_unary(f"/{SERVICE}/ModelInfer"), typed_request().SerializeToString()
    trace_ids = [f"{number:032x}" for number in range(1, 33)]
    calls = [
        method.future(content, metadata=(("traceparent", f"00-{trace_id}-{'cd' * 8}-01"),), timeout=60)
        for trace_id in trace_ids
    ]

    assert [dict(running.trailing_metadata())["x-trace-id"] for running in calls] == trace_ids
    assert {record.trace_id.hex() for record in service.queue.requests} >= set(trace_ids)


def test_a_running_call_is_answered_before_the_service_stops(regressor: Model) -> None:
    """A shutdown waits for it, up to the drain timeout, and rejects new calls."""
    started, finish = threading.Event(), threading.Event()

    def wait(matrix: Matrix) -> list[ModelOutput]:
        started.set()
        assert finish.wait(60)
        return add_up(matrix)

    slow = replace(regressor, predict_fn=wait, cpu_bound=False)
    with grpc_service(slow, inline_threshold=0, drain_timeout=60) as (service, _, address):
        channel = grpc.insecure_channel(address)  # it stays open when the block ends
        running = channel.unary_unary(f"/{SERVICE}/ModelInfer").future(typed_request().SerializeToString(), timeout=60)
        assert started.wait(60)
        threading.Timer(0.3, finish.set).start()

    # The block ends when the application has stopped.
    with channel:
        assert MESSAGES["ModelInferResponse"].FromString(running.result()).model_name == "rooms"
    assert len(service.queue.requests[-1].predictions) == 2


def fail(_: Matrix) -> list[ModelOutput]:
    """Fail as an estimator does."""
    raise InferenceError("the model failed with ValueError")


def out_of_range(request: Any) -> None:
    """Send 300 as INT8."""
    rooms = request.inputs[1]
    rooms.datatype = "INT8"
    rooms.contents.ClearField("int64_contents")
    rooms.contents.int_contents.extend([300, 1])


def shared_memory(request: Any) -> None:
    """Refer to shared memory instead of values."""
    request.inputs[0].parameters.add(key="shared_memory_region").value.string_param = "m"


def classification(request: Any) -> None:
    """Request Triton's classification extension."""
    request.outputs.add(name="value").parameters.add(key="classification").value.int64_param = 3


INVALID = "INVALID_ARGUMENT"
ERRORS: dict[str, tuple[Callable[[Any], object], str, str]] = {
    "an unknown model": (lambda r: setattr(r, "model_name", "x"), "NOT_FOUND", "this service has no model 'x'"),
    "an unknown version": (lambda r: setattr(r, "model_version", "9"), "NOT_FOUND", "version"),
    "no model": (lambda r: r.ClearField("model_name"), INVALID, '"model_name" must be the name of a model'),
    "no inputs": (lambda r: r.ClearField("inputs"), INVALID, "at least one input"),
    "an invalid row": (lambda r: setattr(r.inputs[1], "name", "x"), INVALID, "row 0"),
    "too many rows": (lambda r: r.inputs[0].shape.__setitem__(0, 5), "RESOURCE_EXHAUSTED", "the request has 5 rows"),
    "another shape": (lambda r: r.inputs[0].shape.append(3), INVALID, "has the shape"),
    "another field": (lambda r: r.inputs[0].contents.fp32_contents.append(1), INVALID, "belong to fp64_contents"),
    "another datatype": (lambda r: setattr(r.inputs[0], "datatype", "FP99"), INVALID, '"datatype" must be'),
    "typed halves": (lambda r: setattr(r.inputs[0], "datatype", "FP16"), INVALID, "send them in raw_input_contents"),
    "out of range": (out_of_range, INVALID, 'input "rooms": a value is not INT8'),
    "too few raw values": (lambda r: r.raw_input_contents.append(b"1"), INVALID, "1 raw_input_contents for 4 inputs"),
    "too many raw values": (lambda r: r.raw_input_contents.extend([b""] * 5), INVALID, "5 raw_input_contents for 4"),
    "shared memory": (shared_memory, INVALID, "no shared memory"),
    "classification": (classification, INVALID, "binary_data"),
    "another output": (lambda r: r.outputs.add(name="label"), INVALID, "has no output 'label'"),
    "an output twice": (lambda r: [r.outputs.add(name="value") for _ in range(2)], INVALID, "is requested twice"),
    "a path as name": (lambda r: setattr(r, "model_name", "homes/"), "NOT_FOUND", "must not contain a slash"),
    "a path as version": (lambda r: setattr(r, "model_version", "1/x"), "NOT_FOUND", "must not contain a slash"),
    "many inputs": (lambda r: [r.inputs.add() for _ in range(10_001)], INVALID, "10,005 inputs; the limit is 10,000"),
    "many outputs": (lambda r: [r.outputs.add() for _ in range(10_001)], INVALID, "10,001 outputs"),
    "many parameters": (lambda r: [r.inputs[0].parameters.add() for _ in range(10_001)], INVALID, "parameters"),
    "many dimensions": (lambda r: r.inputs[0].shape.extend([1] * 10_001), INVALID, "dimensions"),
}


@pytest.fixture(scope="module")
def limited(regressor: Model) -> Iterator[tuple[RecordsService, grpc.Channel, str]]:
    """Run the service with a limit of four rows."""
    with grpc_service(regressor, max_batch_rows=4) as running:
        yield running


@pytest.mark.parametrize("case", ERRORS)
def test_errors_have_a_status_and_a_message(limited: tuple[RecordsService, grpc.Channel, str], case: str) -> None:
    """Nothing is predicted."""
    change, status, message = ERRORS[case]
    service, channel, _ = limited
    request = typed_request()
    change(request)

    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "ModelInfer", request)

    assert (caught.value.code().name, message in caught.value.details()) == (status, True), caught.value.details()
    assert not any(record.predictions for record in service.queue.requests)


def test_other_failures(regressor: Model) -> None:
    """A call without key, a message that is not one, a large message and a failing model have their own status."""
    metadata = (("authorization", f"Bearer {KEY}"),)
    failing = replace(regressor, predict_fn=fail)
    with grpc_service(failing, api_key=KEY, max_body_bytes=2048) as (service, channel, _):
        statuses = {}
        for name, request, sent in (
            ("no key", typed_request(), ()),
            ("another key", typed_request(), (("authorization", "Bearer another key of 16"),)),
            ("failing", typed_request(), metadata),
            ("large", typed_request(id="x" * 4096), metadata),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(channel, "ModelInfer", request, sent)
            statuses[name] = caught.value.code().name
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/ModelInfer")(b"\xff", metadata=metadata, timeout=60)
        statuses["no message"] = caught.value.code().name
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/RepositoryIndex")(b"", metadata=metadata, timeout=60)
        statuses["another method"] = caught.value.code().name
        assert call(channel, "ServerLive", MESSAGES["ServerLiveRequest"]())[0].live  # probes need no key
        failures = [record.failure for record in service.queue.requests if record.failure]

    assert statuses == {
        "no key": "UNAUTHENTICATED",
        "another key": "UNAUTHENTICATED",
        "failing": "INTERNAL",
        "large": "RESOURCE_EXHAUSTED",
        "no message": "INVALID_ARGUMENT",
        "another method": "UNIMPLEMENTED",
    }
    assert len(failures) == 1


def test_the_port_must_be_free_and_shared() -> None:
    """A port in use, and workers that cannot share a port, end the start."""
    with listen("127.0.0.1", 0) as used:
        port = used.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1 port {port}: .*MODELTRACE_GRPC_PORT"):
            check_grpc_port(read_settings(grpc_port=port))
    with pytest.raises(SettingsError, match="MODELTRACE_GRPC_PORT=0 needs one worker"):
        check_grpc_port(read_settings(grpc_port=0, workers=2))
    check_grpc_port(read_settings(grpc_port=0))
    check_grpc_port(read_settings())


@given(content=st.binary(max_size=60))
def test_any_message_is_converted_or_rejected(content: bytes) -> None:
    """No message fails in another way than with an error for the client."""
    try:
        request = MESSAGES["ModelInferRequest"].FromString(content)
    except Exception:  # noqa: BLE001  not a message
        return
    with suppress(MalformedRequestError):
        to_http_request(request)


def test_addresses_of_clients() -> None:
    """The client of a request is the peer of the call."""
    assert _client("ipv4:127.0.0.1:50000") == ("127.0.0.1", 50000)
    assert _client("ipv6:%5B::1%5D:50000") == ("::1", 50000)
    assert _client("unix:") is None
