"""ONNX graphs from elsewhere: served as their reference computes them, and refused in words where they cannot be."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper
from onnx.reference import ReferenceEvaluator

from bench.graphs import perceptron
from bench.toy import market
from shared.artifacts import ArtifactStore
from shared.artifacts.checks import check_stored
from shared.distribution import install_command
from shared.families import WeightsError, complete, family_named
from shared.families.imported.onnx import FILE, ONNX
from shared.families.libraries import LibraryMissingError
from shared.features import SETS
from shared.importing import onnx as graphs
from shared.importing.comparing import DiffersError
from shared.importing.importer import import_weights
from shared.importing.layouts import LayoutError
from shared.importing.onnx import Graph, read_graph, try_out
from shared.importing.reading import SourceFileError, opened_first
from shared.training.fitting import NotStoredError, Trained

THREE = ("SELL", "HOLD", "BUY")
PATH = Path("model.onnx")
SET = SETS["user-8"]


def read(model: Any, features: int = 8, stated: Any = None, classes: tuple[str, ...] = THREE) -> Graph:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return read_graph(data, PATH, features, stated or {}, classes)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("softmaxed", [False, True])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("rows", [1, "rows"])
def test_a_graph_answers_as_its_reference_whatever_its_form(rows: int | str, flat: bool, softmaxed: bool) -> None:
    model = perceptron(8, 4, rows=rows, flat=flat, softmax=softmaxed)
    graph = read(model)
    assert (graph.params["window"], graph.params["probabilities"]) == (4, int(softmaxed))
    assert graph.off < 1e-5
    assert ("probabilities" if softmaxed else "logits") in graph.layout
    windows = np.random.default_rng(3).standard_normal((7, 4, 8))
    asked = windows.astype(np.float32).reshape(7, 32) if flat else windows.astype(np.float32)
    expected = np.concatenate([ReferenceEvaluator(model).run(None, {"x": asked[n : n + 1]})[0] for n in range(7)])
    p = softmax(graph.model.logits(windows))
    assert p == pytest.approx(expected if softmaxed else softmax(expected), abs=1e-6)


def test_outputs_in_another_order_are_put_into_ours() -> None:
    model, windows = perceptron(8), np.random.default_rng(3).standard_normal((9, 1, 8))
    usual, turned = read(model), read(model, classes=("HOLD", "BUY", "SELL"))
    assert turned.model.logits(windows).tobytes() == usual.model.logits(windows)[:, [2, 0, 1]].tobytes()


def test_the_file_that_is_kept_is_the_file_that_came() -> None:
    model = perceptron(8, 4)
    graph = read(model)
    files = ONNX.save(graph.model)
    assert files == {FILE: model.SerializeToString()}
    again = ONNX.load(files, 8, graph.params)
    windows = np.random.default_rng(3).standard_normal((50, 4, 8))
    whole = graph.model.logits(windows)
    assert again.logits(windows).tobytes() == whole.tobytes()
    assert np.concatenate([again.logits(windows[n : n + 1]) for n in range(50)]).tobytes() == whole.tobytes()


def two_inputs() -> Any:
    model = perceptron(8)
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["rows", 2]))
    return model


def of_labels() -> Any:
    model = perceptron(8)
    model.graph.output[0].name = "named"
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["named"], axis=1, keepdims=0))
    del model.graph.output[0].type.tensor_type.shape.dim[1]
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def later_opset() -> Any:
    model = perceptron(8)
    model.opset_import[0].version = 9_999
    return model


def unknown_operator() -> Any:
    model = perceptron(8)
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "OfMine", "mine"
    model.opset_import.append(helper.make_opsetid("mine", 1))
    return model


def weights_elsewhere() -> Any:
    model = perceptron(8)
    for tensor in model.graph.initializer:
        external_data_helper.set_external_data(tensor, location="/etc/hostname")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    return model


@pytest.mark.parametrize(
    ("model", "features", "words"),
    [
        (b"not a graph", 8, "not a valid ONNX graph"),
        (b"", 8, "not a valid ONNX graph"),
        (perceptron(8, rows=16), 8, "computes a fixed number of rows at once; export it with a batch of 1"),
        (perceptron(8, outputs=2), 8, r"expected one output of floats \[rows, 3\]; found y tensor\(float\)"),
        (of_labels(), 8, r"expected one output of floats \[rows, 3\]; found named tensor\(int64\)"),
        (two_inputs(), 8, "expected one input of floats; found x tensor.float. .*, more"),
        (perceptron(8, 4), 9, r"its input x is \[rows, 4, 8\]; for 4 vectors of 9 features"),
        (perceptron(8, 4, flat=True), 9, "not a whole number of vectors of 9 features"),
        (later_opset(), 8, "not a (valid ONNX )?graph"),
        (unknown_operator(), 8, "not a graph that ONNX Runtime .* serves: .*OfMine"),
        (weights_elsewhere(), 8, "its weights are in other files"),
    ],
)
def test_what_cannot_be_served_is_refused_in_words(model: Any, features: int, words: str) -> None:
    with pytest.raises((SourceFileError, WeightsError, LayoutError), match=words):
        read(model, features)


def test_a_window_that_the_input_does_not_show_is_asked_for() -> None:
    model = perceptron(8)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "steps"
    with pytest.raises(LayoutError, match="state --param window="):
        read(model)
    assert read(model, stated={"window": 1}).params["window"] == 1
    with pytest.raises(LayoutError, match="heads: a graph shows everything but `window`"):
        read(model, stated={"window": 1, "heads": 2})


def test_classes_are_three_and_stated_in_their_order() -> None:
    with pytest.raises(LayoutError, match="--classes SELL,HOLD,BUY"):
        read(perceptron(8), classes=("SELL", "BUY"))


def test_a_runtime_that_computes_something_else_than_the_reference_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = perceptron(8, seed=2)
    usual = graphs._reference
    monkeypatch.setattr(graphs, "_reference", lambda _, *others: usual(wrong, *others))
    with pytest.raises(DiffersError, match=r"differs from the reference by 0\.\d+; at most 1e-05"):
        read(perceptron(8))


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(LibraryMissingError, match=re.escape(install_command("onnx"))):
        read(perceptron(8))


def test_a_graph_is_opened_in_a_child_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(perceptron(8, 4).SerializeToString())
    assert opened_first(path) == path.read_bytes()
    for made, words in ((unknown_operator(), "OfMine"), (weights_elsewhere(), "other files"), (b"x", "m.onnx: not a")):
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
        with pytest.raises(SourceFileError, match=words):
            opened_first(path)


def endless() -> bytes:
    """A loop of 2**62 turns."""
    turn = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["on"]), helper.make_node("Add", ["value", "value"], ["twice"])],
        "turn",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("twice", TensorProto.FLOAT, None),
        ],
    )
    model = perceptron(8)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2**62), "most"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "begin"))
    model.graph.node[-1].output[0] = "once"
    model.graph.node.append(helper.make_node("Loop", ["most", "begin", "once"], ["y"], body=turn))
    return bytes(model.SerializeToString())


@pytest.mark.long
def test_a_graph_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.confined.PROCESSOR_S", 4)
    path = tmp_path / "m.onnx"
    path.write_bytes(endless())
    with pytest.raises(SourceFileError, match="opening it took more than 4 s of processor time"):
        opened_first(path)


def test_a_graph_that_fails_on_a_row_fails_when_it_is_tried_out() -> None:
    model = perceptron(8)
    reshape = helper.make_node("Reshape", ["bias", "five"], ["never"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([5]), "five"))
    model.graph.node.append(reshape)
    model.graph.node.append(helper.make_node("ReduceSum", ["never"], ["sum"]))
    model.graph.node.append(helper.make_node("Add", ["once", "sum"], ["y"]))
    model.graph.node[3].output[0] = "once"
    with pytest.raises((ValueError, WeightsError), match="ONNX Runtime"):
        try_out(model.SerializeToString(), PATH)


def imported(tmp_path: Path, model: Any) -> Trained:
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    bars = {name: market(name, 1500, 0.5, seed) for seed, name in enumerate(("AAA", "BBB"))}
    return import_weights(path, bars, SET, classes=THREE, params={}, source="toy", horizon=3, hold=0.5)


def test_a_graph_becomes_an_artifact_that_passes_every_check(tmp_path: Path) -> None:
    trained = imported(tmp_path, perceptron(8, 4, scale=0.5))
    manifest = trained.manifest
    assert (manifest.family, manifest.window) == ("onnx", 4)
    assert manifest.imported is not None
    assert manifest.imported.layout == "an ONNX graph of logits (opset ai.onnx 17)"
    assert set(manifest.libraries) == {"numpy", "onnxruntime"}
    store = ArtifactStore(tmp_path / "store")
    digest = store.save(manifest, trained.files)
    assert not check_stored(ArtifactStore(tmp_path / "store"), digest).failed


def test_a_graph_that_answers_the_same_to_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotStoredError, match="distinct predictions"):
        imported(tmp_path, perceptron(8, scale=0.0))


def test_a_graph_cannot_be_trained_here() -> None:
    with pytest.raises(ValueError, match="imported, not trained"):
        family_named("onnx").fit(None, None, 1, {})  # type: ignore[arg-type]  # nothing is read
    with pytest.raises(ValueError, match="places of the classes"):
        complete(ONNX, {"sell": 1})
