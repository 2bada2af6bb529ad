"""A model.onnx from a bundle that nobody vouches for is looked through before ONNX Runtime sees it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modeltrace.bundles.onnx.model import _MESSAGES, check_graph, open_session, session_predict_fn
from modeltrace.errors import BundleError, InferenceError, SettingsError
from modeltrace.inference.model import Label, ModelOutput, Task
from modeltrace.inference.schema import Feature, Reference, Schema

REFERENCE = Reference(n=1, shares={"00": 1.0})


def schema(width: int = 2) -> Schema:
    """Numbers, as many as wanted."""
    return Schema(features=tuple(Feature(name=f"x{i}", type="number", reference=REFERENCE) for i in range(width)))


def tensor(name: str, kind: int = TensorProto.DOUBLE, width: int = 2) -> Any:
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, [None, width])


def graph(*nodes: Any, initializer: tuple[Any, ...] = (), output: Any = None) -> Any:
    """A graph from two numbers to two."""
    return helper.make_graph(list(nodes), "g", [tensor("numbers")], [output or tensor("y")], list(initializer))


def model(of: Any, **more: Any) -> Any:
    """A model of one graph."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(of, opset_imports=opsets, ir_version=10, **more)


def identity(kind: str = "Identity", **more: Any) -> Any:
    """An operator that gives what it takes."""
    return helper.make_node(kind, ["numbers"], ["y"], **more)


def elsewhere(path: str = "weights.bin") -> Any:
    """A tensor whose content is in another file."""
    kept = TensorProto(name="c", data_type=TensorProto.DOUBLE, dims=[2], data_location=TensorProto.EXTERNAL)
    kept.external_data.add(key="location", value=path)
    return kept


def sparse(values: Any) -> Any:
    """A sparse tensor."""
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 1])
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[2])


def with_sparse() -> Any:
    """A graph that starts with a sparse tensor."""
    made = graph(identity())
    made.sparse_initializer.add().CopyFrom(sparse(elsewhere()))
    return made


def branch(of: Any) -> Any:
    """An operator that holds a graph."""
    return helper.make_node("If", ["numbers"], ["y"], then_branch=of, else_branch=graph(identity()))


def half_external() -> Any:
    """A tensor that names another file without saying that its content is there."""
    named = elsewhere()
    named.data_location = TensorProto.DEFAULT
    return named


ADD = helper.make_node("Add", ["numbers", "c"], ["y"])
HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "a tensor elsewhere": (lambda: model(graph(ADD, initializer=(elsewhere(),))), "other files"),
    "an absolute path": (lambda: model(graph(ADD, initializer=(elsewhere("/etc/passwd"),))), "other files"),
    "a path alone": (lambda: model(graph(ADD, initializer=(half_external(),))), "other files"),
    "in an operator": (lambda: model(graph(helper.make_node("Constant", [], ["y"], value=elsewhere()))), "other files"),
    "in a branch": (lambda: model(graph(branch(graph(ADD, initializer=(elsewhere(),))))), "other files"),
    "in a sparse tensor": (lambda: model(with_sparse()), "other files"),
    "in a sparse attribute": (
        lambda: model(graph(helper.make_node("Constant", [], ["y"], sparse_value=sparse(elsewhere())))),
        "other files",
    ),
    "another library's operator": (lambda: model(graph(identity(domain="com.microsoft"))), "com.microsoft Identity"),
    "in a branch of a branch": (
        lambda: model(graph(branch(graph(branch(graph(identity(domain="evil"))))))),
        "evil Identity",
    ),
    "what may never end": (lambda: model(graph(identity("Loop"))), "operator Loop"),
    "a function": (
        lambda: model(
            graph(identity("Own", domain="ai.onnx")),
            functions=[helper.make_function("ai.onnx", "Own", ["numbers"], ["y"], [identity()], [])],
        ),
        "functions",
    ),
    "no graph": (lambda: onnx.ModelProto(ir_version=10), "none"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_graph_is_refused(what: str) -> None:
    """It is refused by what it holds, wherever it holds it, before it is loaded."""
    make, message = HOSTILE[what]

    with pytest.raises(BundleError, match=f"model.onnx.*{message}"):
        open_session(make().SerializeToString(), "model.onnx")


def test_a_second_graph_is_looked_through_too() -> None:
    """Readers merge a message that occurs twice; so every occurrence counts."""
    good, bad = model(graph(identity())), onnx.ModelProto(graph=graph(ADD, initializer=(elsewhere(),)))

    with pytest.raises(BundleError, match="other files"):
        check_graph(good.SerializeToString() + bad.SerializeToString(), "model.onnx")


@pytest.mark.parametrize("raw", [b"", b"no model", b"\x00\x00\x00\x00ORTM" + bytes(64)])
def test_other_bytes_are_refused(raw: bytes) -> None:
    """Neither nothing nor another format, which ONNX Runtime would read without a word, passes for a model."""
    with pytest.raises(BundleError):
        open_session(raw, "model.onnx")


def test_the_bytes_do_not_choose_their_format() -> None:
    """What was looked through as ONNX is read as ONNX, even where it bears the mark of ONNX Runtime's own format."""
    marked = b"\x12\x06" + b"..ORTM" + model(graph(identity())).SerializeToString()
    assert marked[4:8] == b"ORTM"

    ask = session_predict_fn(open_session(marked, "model.onnx"), "classifier", ("a", "b"), schema())

    assert ask(np.array([[0.25, 0.75]])) == [ModelOutput("b", 0.75)]


def test_a_graph_that_is_none_is_refused_with_the_reason() -> None:
    """What only ONNX Runtime can find is said in its words, in one line."""
    raw = model(graph(helper.make_node("NoSuchOperator", ["numbers"], ["y"]))).SerializeToString()

    with pytest.raises(BundleError, match=r"^model\.onnx cannot be loaded by ONNX Runtime [^\n]*NoSuchOperator[^\n]*$"):
        open_session(raw, "model.onnx")


@pytest.mark.parametrize("message", _MESSAGES)
def test_the_numbers_of_the_fields_are_those_of_onnx(message: str) -> None:
    """What is looked through is found by the numbers that ONNX gives it."""
    known = {field.name: field for field in getattr(onnx, message).DESCRIPTOR.fields}

    for name, (number, kind) in _MESSAGES[message].items():
        assert known[name].number == number
        assert known[name].message_type is None or kind in (known[name].message_type.name, "bytes")


@pytest.mark.parametrize("message", _MESSAGES)
def test_no_way_to_a_tensor_or_a_graph_is_left_out(message: str) -> None:
    """Every field that leads to one of the messages that are looked through is followed."""
    leads = {
        field.name
        for field in getattr(onnx, message).DESCRIPTOR.fields
        if field.message_type is not None and field.message_type.name in _MESSAGES
    }

    assert leads <= _MESSAGES[message].keys()


def test_without_onnx_runtime_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(SettingsError, match=r"pip install 'modeltrace\[onnx\]'"):
        open_session(b"", "model.onnx")


def session(output: Any, *nodes: Any) -> Any:
    """A session of a small graph."""
    return open_session(model(graph(*(nodes or (identity(),)), output=output)).SerializeToString(), "model.onnx")


def cast(kind: int) -> Any:
    """An operator that gives another type."""
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
def test_a_model_of_another_kind_is_refused(
    task: Task, classes: tuple[Label, ...] | None, width: int, output: Any, nodes: tuple[Any, ...], message: str
) -> None:
    """Inputs and outputs are those of what model.json describes."""
    with pytest.raises(BundleError, match=message):
        session_predict_fn(session(output, *nodes), task, classes, schema(width))


def test_whole_numbers_are_no_features() -> None:
    """The input's type is one that a row can be given in."""
    whole = helper.make_graph(
        [identity()], "g", [tensor("numbers", TensorProto.INT64)], [tensor("y", TensorProto.INT64)]
    )

    with pytest.raises(BundleError, match="other features"):
        session_predict_fn(open_session(model(whole).SerializeToString(), "model.onnx"), "regressor", None, schema())


@pytest.mark.parametrize(
    ("probabilities", "answer"),
    [
        ([0.2, 0.8], ModelOutput("b", 0.8)),
        ([0.5, 0.5], ModelOutput("a", 0.5)),
        ([0.5 - 1e-12, 0.5 + 1e-12], ModelOutput("a", 0.5 - 1e-12)),
        ([0.5 - 1e-8, 0.5 + 1e-8], ModelOutput("b", 0.5 + 1e-8)),
        ([np.nan, np.nan], ModelOutput("a", None)),
    ],
)
def test_a_tie_goes_to_the_first_class(probabilities: list[float], answer: ModelOutput) -> None:
    """As scikit-learn has it; what rounding has made of a tie is still one."""
    ask = session_predict_fn(session(tensor("y")), "classifier", ("a", "b"), schema())

    assert ask(np.array([probabilities])) == [answer]


def test_a_value_that_json_does_not_have_is_an_error() -> None:
    """Infinite or not a number: the model failed, as it would have in scikit-learn."""
    one = helper.make_graph([identity()], "g", [tensor("numbers", width=1)], [tensor("y", width=1)])
    ask = session_predict_fn(open_session(model(one).SerializeToString(), "model.onnx"), "regressor", None, schema(1))

    assert ask(np.array([[1.5], [2.5]])) == [ModelOutput(value=1.5), ModelOutput(value=2.5)]
    with pytest.raises(InferenceError, match="not finite"):
        ask(np.array([[1.5], [np.inf]]))


def test_no_file_beside_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that lies where the model says, in the folder that the service runs in."""
    (tmp_path / "weights.bin").write_bytes(np.ones(2).tobytes())
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleError, match="other files"):
        open_session(model(graph(ADD, initializer=(elsewhere(),))).SerializeToString(), "model.onnx")
