"""The messages of the Open Inference Protocol V2 over gRPC.

No package on PyPI has only these messages, so they are declared here, by the protocol's field names and numbers.
Source: https://github.com/kserve/open-inference-protocol, file specification/protocol/open_inference_grpc.proto
(Apache License 2.0). A map field is declared as a repeated message with a key and a value, which has the same encoding.
"""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE: Final = "inference.GRPCInferenceService"
_PACKAGE: Final = "modeltrace.inference"
# The fields of each message, in the order of their numbers from 1; `*` marks a repeated field.
_MESSAGES: Final[Mapping[str, str]] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready",
    "ModelReadyRequest": "string name, string version",
    "ModelReadyResponse": "bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name, string version, *string extensions",
    "ModelMetadataRequest": "string name, string version",
    "TensorMetadata": "string name, string datatype, *int64 shape",
    "ModelMetadataResponse": "string name, *string versions, string platform, *TensorMetadata inputs, "
    "*TensorMetadata outputs",
    "InferParameter": "bool bool_param, int64 int64_param, string string_param, double double_param, "
    "uint64 uint64_param",
    "Parameter": "string key, InferParameter value",
    "InferTensorContents": "*bool bool_contents, *int32 int_contents, *int64 int64_contents, *uint32 uint_contents, "
    "*uint64 uint64_contents, *float fp32_contents, *double fp64_contents, *bytes bytes_contents",
    "InferTensor": "string name, string datatype, *int64 shape, *Parameter parameters, InferTensorContents contents",
    "InferRequestedOutputTensor": "string name, *Parameter parameters",
    "ModelInferRequest": "string model_name, string model_version, string id, *Parameter parameters, "
    "*InferTensor inputs, *InferRequestedOutputTensor outputs, *bytes raw_input_contents",
    "ModelInferResponse": "string model_name, string model_version, string id, *Parameter parameters, "
    "*InferTensor outputs, *bytes raw_output_contents",
}
# Messages of which at most one field is set.
_ONE_OF: Final = {"InferParameter": "parameter_choice"}


def load_messages() -> dict[str, Any]:
    """Return the class of each message by name.

    The descriptors have a pool of their own, so that they do not conflict with those of a client in the same process.
    """
    file = FileDescriptorProto(name="modeltrace/open_inference.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name=_ONE_OF[name])
        for number, declared in enumerate(fields.split(", ") if fields else (), 1):
            kind, _, field_name = declared.partition(" ")
            field = message.field.add(name=field_name, number=number)
            repeated = kind.startswith("*")
            field.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in _MESSAGES:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
            if name in _ONE_OF:
                field.oneof_index = 0
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES}
