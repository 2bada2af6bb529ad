"""An untrusted model.onnx is checked before ONNX Runtime parses it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modeltrace.bundles.onnx.model import _MESSAGES, check_graph, open_session, session_predict_fns
from modeltrace.errors import BundleError, InferenceError, SettingsError
from modeltrace.inference.model import Label, ModelOutput
from modeltrace.inference.schema import Feature, Reference, Schema
from modeltrace.inference.tasks import Task

REFERENCE = Reference(n=1, shares={"00": 1.0})


def schema(width: int = 2) -> Schema:
    """Return a schema of numbers."""
    return Schema(features=tuple(Feature(name=f"x{i}", type="number", reference=REFERENCE) for i in range(width)))


def tensor(name: str, kind: int = TensorProto.DOUBLE, width: int = 2) -> Any:
    """Return the description of an input or output."""
    return helper.make_tensor_value_info(name, kind, [None, width])


def graph(*nodes: Any, initializer: tuple[Any, ...] = (), output: Any = None) -> Any:
    """Return a graph from two numbers to two numbers."""
    return helper.make_graph(list(nodes), "g", [tensor("numbers")], [output or tensor("y")], list(initializer))


def model(graph: Any, **more: Any) -> Any:
    """Return a model with one graph."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def identity(kind: str = "Identity", **more: Any) -> Any:
    """Return an operator that returns its input."""
    return helper.make_node(kind, ["numbers"], ["y"], **more)


def external_tensor(path: str = "weights.bin") -> Any:
    """Return a tensor whose content is in another file."""
    tensor = TensorProto(name="c", data_type=TensorProto.DOUBLE, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=path)
    return tensor


def sparse(values: Any) -> Any:
    """Return a sparse tensor."""
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 1])
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[2])


def graph_with_sparse_initializer() -> Any:
    """Return a graph with an external sparse tensor."""
    result = graph(identity())
    result.sparse_initializer.add().CopyFrom(sparse(external_tensor()))
    return result


def branch(graph_of_branch: Any) -> Any:
    """Return an operator that contains a graph."""
    return helper.make_node("If", ["numbers"], ["y"], then_branch=graph_of_branch, else_branch=graph(identity()))


def half_external() -> Any:
    """Return a tensor that names another file, but is not marked as external."""
    tensor = external_tensor()
    tensor.data_location = TensorProto.DEFAULT
    return tensor


ADD = helper.make_node("Add", ["numbers", "c"], ["y"])
HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "an external tensor": (lambda: model(graph(ADD, initializer=(external_tensor(),))), "other files"),
    "an absolute path": (lambda: model(graph(ADD, initializer=(external_tensor("/etc/passwd"),))), "other files"),
    "a path alone": (lambda: model(graph(ADD, initializer=(half_external(),))), "other files"),
    "in an operator": (
        lambda: model(graph(helper.make_node("Constant", [], ["y"], value=external_tensor()))),
        "other files",
    ),
    "in a branch": (lambda: model(graph(branch(graph(ADD, initializer=(external_tensor(),))))), "other files"),
    "in a sparse tensor": (lambda: model(graph_with_sparse_initializer()), "other files"),
    "in a sparse attribute": (
        lambda: model(graph(helper.make_node("Constant", [], ["y"], sparse_value=sparse(external_tensor())))),
        "other files",
    ),
    "another library's operator": (lambda: model(graph(identity(domain="com.microsoft"))), "com.microsoft Identity"),
    "in a branch of a branch": (
        lambda: model(graph(branch(graph(branch(graph(identity(domain="evil"))))))),
        "evil Identity",
    ),
    "an operator that may not terminate": (lambda: model(graph(identity("Loop"))), "operator Loop"),
    "a function": (
        lambda: model(
            graph(identity("Own", domain="ai.onnx")),
            functions=[helper.make_function("ai.onnx", "Own", ["numbers"], ["y"], [identity()], [])],
        ),
        "functions",
    ),
    "no graph": (lambda: onnx.ModelProto(ir_version=10), "none"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_graph_is_rejected(case: str) -> None:
    """Forbidden content is found anywhere in the graph, before it is loaded."""
    make, message = HOSTILE[case]

    with pytest.raises(BundleError, match=f"model.onnx.*{message}"):
        open_session(make().SerializeToString(), "model.onnx")


def test_a_second_graph_is_checked_too() -> None:
    """Protobuf merges repeated occurrences of a message, so all of them are checked."""
    valid, hostile = model(graph(identity())), onnx.ModelProto(graph=graph(ADD, initializer=(external_tensor(),)))

    with pytest.raises(BundleError, match="other files"):
        check_graph(valid.SerializeToString() + hostile.SerializeToString(), "model.onnx")


@pytest.mark.parametrize("raw", [b"", b"no model", b"\x00\x00\x00\x00ORTM" + bytes(64)])
def test_other_bytes_are_rejected(raw: bytes) -> None:
    """Neither an empty file nor another format of ONNX Runtime is accepted."""
    with pytest.raises(BundleError):
        open_session(raw, "model.onnx")


def test_the_bytes_do_not_select_their_format() -> None:
    """Bytes that were checked as ONNX are parsed as ONNX, even with the identifier of ONNX Runtime's own format."""
    marked = b"\x12\x06" + b"..ORTM" + model(graph(identity())).SerializeToString()
    assert marked[4:8] == b"ORTM"

    predict = session_predict_fns(open_session(marked, "model.onnx"), "classifier", ("a", "b"), schema()).predict

    assert predict(np.array([[0.25, 0.75]])) == [ModelOutput("b", 0.75)]


def test_an_invalid_graph_is_rejected_with_the_reason() -> None:
    """An error of ONNX Runtime is reported in one line."""
    raw = model(graph(helper.make_node("NoSuchOperator", ["numbers"], ["y"]))).SerializeToString()

    with pytest.raises(BundleError, match=r"^model\.onnx cannot be loaded by ONNX Runtime [^\n]*NoSuchOperator[^\n]*$"):
        open_session(raw, "model.onnx")


@pytest.mark.parametrize("message", _MESSAGES)
def test_field_numbers_are_those_of_onnx(message: str) -> None:
    """The check parses fields by the numbers of onnx.proto."""
    known = {field.name: field for field in getattr(onnx, message).DESCRIPTOR.fields}

    for name, (number, kind) in _MESSAGES[message].items():
        assert known[name].number == number
        assert known[name].message_type is None or kind in (known[name].message_type.name, "bytes")


@pytest.mark.parametrize("message", _MESSAGES)
def test_every_field_with_a_checked_message_is_walked(message: str) -> None:
    """Every field that leads to one of the checked messages is followed."""
    followed = {
        field.name
        for field in getattr(onnx, message).DESCRIPTOR.fields
        if field.message_type is not None and field.message_type.name in _MESSAGES
    }

    assert followed <= _MESSAGES[message].keys()


def test_loading_without_onnx_runtime_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime is an optional dependency."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(SettingsError, match=r"pip install 'modeltrace\[onnx\]'"):
        open_session(b"", "model.onnx")


def session(output: Any, *nodes: Any) -> Any:
    """Return a session of a small graph."""
    return open_session(model(graph(*(nodes or (identity(),)), output=output)).SerializeToString(), "model.onnx")


def cast(kind: int) -> Any:
    """Return an operator that converts the type."""
    return identity("Cast", to=kind)


@pytest.mark.parametrize(
    ("task", "classes", "width", "output", "nodes", "message"),
    [
        ("classifier", ("a", "b", "c"), 2, tensor("y"), (), "another number of classes"),
        ("classifier", None, 2, tensor("y"), (), "not the outputs of a classifier"),
        ("classifier", ("a", "b"), 3, tensor("y"), (), "other features"),
        (
            "regressor",
            None,
            2,
            tensor("y", TensorProto.STRING),
            (cast(TensorProto.STRING),),
            "not the outputs of a regressor",
        ),
    ],
)
def test_a_graph_that_does_not_match_is_rejected(
    task: Task, classes: tuple[Label, ...] | None, width: int, output: Any, nodes: tuple[Any, ...], message: str
) -> None:
    """Inputs and outputs must be those of model.json."""
    with pytest.raises(BundleError, match=message):
        session_predict_fns(session(output, *nodes), task, classes, schema(width))


def test_an_integer_input_is_rejected() -> None:
    """Rows are arrays of floats or objects."""
    integers = helper.make_graph(
        [identity()], "g", [tensor("numbers", TensorProto.INT64)], [tensor("y", TensorProto.INT64)]
    )

    with pytest.raises(BundleError, match="other features"):
        session_predict_fns(
            open_session(model(integers).SerializeToString(), "model.onnx"), "regressor", None, schema()
        )


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.2, 0.8], ModelOutput("b", 0.8)),
        ([0.5, 0.5], ModelOutput("a", 0.5)),
        ([0.5 - 1e-12, 0.5 + 1e-12], ModelOutput("a", 0.5 - 1e-12)),
        ([0.5 - 1e-8, 0.5 + 1e-8], ModelOutput("b", 0.5 + 1e-8)),
        ([np.nan, np.nan], ModelOutput("a", None)),
    ],
)
def test_a_tie_goes_to_the_first_class(probabilities: list[float], expected: ModelOutput) -> None:
    """A tie is decided as in scikit-learn; a difference by rounding is still a tie."""
    predict = session_predict_fns(session(tensor("y")), "classifier", ("a", "b"), schema()).predict

    assert predict(np.array([probabilities])) == [expected]


def test_a_value_that_is_not_finite_is_an_error() -> None:
    """Infinity and NaN are an InferenceError, as with scikit-learn."""
    single = helper.make_graph([identity()], "g", [tensor("numbers", width=1)], [tensor("y", width=1)])
    single_session = open_session(model(single).SerializeToString(), "model.onnx")
    predict = session_predict_fns(single_session, "regressor", None, schema(1)).predict

    assert predict(np.array([[1.5], [2.5]])) == [ModelOutput(value=1.5), ModelOutput(value=2.5)]
    with pytest.raises(InferenceError, match="not finite"):
        predict(np.array([[1.5], [np.inf]]))


def test_no_other_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even an existing file in the working folder that the model names."""
    (tmp_path / "weights.bin").write_bytes(np.ones(2).tobytes())
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleError, match="other files"):
        open_session(model(graph(ADD, initializer=(external_tensor(),))).SerializeToString(), "model.onnx")
