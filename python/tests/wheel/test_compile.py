"""Compilations: models and data in all forms give the bytes that the command line writes."""

import io
import pathlib
import warnings

import numpy as np
import onnx
import pytest
from conftest import DIGITS, LENET, MODELS, Folder
from onnx import TensorProto, helper, numpy_helper

import qcc


def two_inputs(path: pathlib.Path) -> onnx.ModelProto:
    """A product of one input with weights, added to the other."""
    weights = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])],
        "two",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 6]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return model


def test_a_path_compiles_to_the_bytes_of_the_command_line(binary: Folder) -> None:
    report = qcc.compile(LENET, to="tflite", int8=True, data=DIGITS, scale=1 / 255)
    assert report.output == pathlib.Path("mnist_lenet_int8.tflite")
    expected = binary.compiled(LENET, "--to", "tflite", "--int8", "--data", DIGITS, "--scale", "1/255")
    assert report.output.read_bytes() == expected


@pytest.mark.parametrize("target", ["tflite", "onnx"])
def test_models_in_memory_are_those_in_files(target: str, binary: Folder) -> None:
    expected = binary.compiled(LENET, "--to", target, "--fp16")
    for name, model in [
        ("bytes", LENET.read_bytes()),
        ("view", memoryview(LENET.read_bytes())),
        ("proto", onnx.load(LENET)),
        ("text", str(LENET)),
    ]:
        report = qcc.compile(model, target, fp16=True, output=f"{name}.{target}")
        assert report.output.read_bytes() == expected, name
        assert report.model == (str(LENET) if name == "text" else "<model.onnx>" if name == "proto" else "<model>")


def test_artefacts_of_models_in_memory_have_a_name() -> None:
    assert str(qcc.compile(LENET.read_bytes(), "onnx").output) == "model.onnx"
    assert str(qcc.compile(onnx.load(LENET), "tflite", w8a32=True).output) == "model_w8a32.tflite"
    report = qcc.compile(onnx.load(LENET), "onnx", report="r.json")
    assert str(report.output) == "model.onnx" and "\nwritten      model.onnx\n" in report.summary()
    assert '"model": "<model.onnx>"' in pathlib.Path("r.json").read_text()


def test_several_targets_come_from_one_calibration(images: np.ndarray, here: pathlib.Path) -> None:
    report = qcc.compile(LENET, to=["tflite", "openvino"], int8=True, data=images, output="out/")
    assert [a.target for a in report.artefacts] == ["tflite", "openvino"]
    assert all(a.output.stat().st_size > 0 and a.worst_sqnr > 10 for a in report.artefacts)
    assert sorted(p.suffix for p in (here / "out").iterdir()) == [".bin", ".tflite", ".xml"]


class Loader:
    """As a DataLoader of PyTorch: it has no length and makes an iterator each time."""

    def __init__(self, batches: list) -> None:
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class Rows:
    """As a Dataset of PyTorch: samples by index, with labels."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __getitem__(self, i: int) -> tuple:
        return self.array[i], 7


class Tensor:
    """As a tensor of PyTorch."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def detach(self) -> "Tensor":
        return self

    def cpu(self) -> "Tensor":
        return self

    @property
    def shape(self) -> tuple:
        return self.array.shape

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.array


def test_data_in_memory_are_those_in_files(images: np.ndarray, binary: Folder) -> None:
    np.save(binary.path / "d.npy", images)
    expected = binary.compiled(LENET, "--to", "tflite", "--int8", "--data", "d.npy")
    labels = np.arange(12)
    batches = [images[:5], images[5:10], images[10:]]
    for name, data in {
        "array": images,
        "columns": np.asfortranarray(images),
        "dictionary": {"image": images},
        "samples": list(images),
        "samples with a batch axis": [image[None] for image in images],
        "generator": (image for image in images),
        "batches": Loader(batches),
        "labelled batches": Loader([[Tensor(batch), labels[: len(batch)]] for batch in batches]),
        "named batches": Loader([{"image": batch, "label": labels[: len(batch)]} for batch in batches]),
        "tensor": Tensor(images),
        "numbers": images.astype(np.float64).tolist(),
        "rows": Rows(images),
        "path": binary.path / "d.npy",
    }.items():
        report = qcc.compile(LENET, to="tflite", int8=True, data=data, progress=False)
        assert report.output.read_bytes() == expected, name
        assert report.calibration.startswith(f"9 samples of {data if name == 'path' else 'data in memory'}"), name


def test_bytes_are_pixels_as_in_files(binary: Folder) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (9, 28, 28, 1), dtype=np.uint8)
    np.save(binary.path / "d.npy", pixels)
    expected = binary.compiled(LENET, "--to", "onnx", "--int8", "--data", "d.npy", "--scale", "1/255")
    for data in [pixels, list(pixels)]:
        assert qcc.compile(LENET, "onnx", int8=True, data=data, scale="1/255").output.read_bytes() == expected


def test_lists_of_pictures(binary: Folder) -> None:
    pictures = sorted(DIGITS.glob("*.png"))[:10]
    (binary.path / "list.txt").write_text("".join(f"{picture}\n" for picture in pictures))
    expected = binary.compiled(LENET, "--to", "tflite", "--int8", "--data", "list.txt", "--scale", "1/255")
    report = qcc.compile(LENET, "tflite", int8=True, data=pictures, scale="1/255")
    assert report.output.read_bytes() == expected


def test_models_with_several_inputs(tmp_path: pathlib.Path, binary: Folder) -> None:
    model = two_inputs(binary.path / "two.onnx")
    random = np.random.default_rng(3)
    a, b = random.random((16, 6), dtype=np.float32), random.random((16, 4), dtype=np.float32)
    np.savez(binary.path / "d.npz", a=a, b=b)
    expected = binary.compiled("two.onnx", "--to", "tflite", "--int8", "--data", "d.npz")
    for name, data in {
        "dictionary": {"b": b, "a": a},
        "pairs": list(zip(a, b)),
        "batches": [(a[:8], b[:8]), (a[8:], b[8:])],
        "named": [{"b": y, "a": x, "id": 7} for x, y in zip(a, b)],
    }.items():
        report = qcc.compile(model, "tflite", int8=True, data=data)
        assert report.output.read_bytes() == expected, name
    for data, message in [
        ({"a": a}, "data in memory has no array for input b; it has a"),
        ([(x,) for x in a], "sample 0 has 1 parts; the model has 2 inputs"),
        ([(a[0], b[0]), (a[1], b[1][:3])], "sample 1 of input b is float32 of shape (3,), not float32 of shape (4,)"),
        ([{"x": a[0], "y": b[0]}], "sample 0 has x, y; the inputs of the model are a, b"),
        ([{"a": a[0], "b": b[0]}, {"a": a[0]}], "sample 1 has a, the samples before it a, b"),
        ([], "there are no samples in the data"),
        (7, "int is no data"),
        ([object()], "object is no array of numbers"),
    ]:
        with pytest.raises(qcc.Error) as error:
            qcc.compile(model, "tflite", int8=True, data=data)
        assert message in str(error.value)


def test_validation_data_and_samples(images: np.ndarray) -> None:
    report = qcc.compile(LENET, "tflite", int8=True, data=images, samples=3, validate=iter(images[:5]))
    assert report.calibration.startswith("3 samples of data in memory")
    assert report.validation.samples == 5 and report.validation.data.startswith("5 samples of data in memory")


def test_samples_are_taken_until_there_are_enough(images: np.ndarray) -> None:
    def endless():
        while True:
            yield images[0]

    few = (images[0] for _ in range(9))
    assert qcc.compile(LENET, "tflite", int8=True, data=few, samples="8").calibration.startswith("6 samples")
    assert len(list(few)) == 1
    with pytest.warns(qcc.CompileWarning) as told:
        qcc.compile(LENET, "tflite", int8=True, data=endless(), validate=endless(), effort="fast")
    messages = [str(warning.message) for warning in told]
    assert "the first 512 samples of data are used; samples=N takes another number" in messages
    assert "the first 512 samples of validate are used" in messages


def test_options_have_the_values_of_the_command_line(images: np.ndarray, binary: Folder) -> None:
    np.save(binary.path / "d.npy", (images * 255).astype(np.uint8))
    first, *_, last = (node.name for node in onnx.load(LENET).graph.node)
    given = dict(shape={"image": (1, 1, 28, 28)}, exclude=[first, last], mean=(0.5, 0.25, 0.5), std=0.5, io="int8")
    words = ["--shape", "image=1,1,28,28", "--exclude", first, "--exclude", last]
    words += ["--mean", "0.5,0.25,0.5", "--std", 0.5]
    expected = binary.compiled(LENET, "--to", "tflite", "--int8", "--data", "d.npy", "--io", "int8", *words)
    data = str(binary.path / "d.npy")
    report = qcc.compile(LENET, "tflite", int8=True, fp16=False, half_values=None, data=data, **given)
    assert report.output.read_bytes() == expected


def test_warnings_are_python_warnings() -> None:
    with pytest.warns(qcc.CompileWarning, match="built-in pictures"):
        report = qcc.compile(LENET, "tflite", int8=True, scale="1/255")
    assert "synthetic-data" in [d.code for d in report.diagnostics]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qcc.compile(LENET, "onnx")


def test_python_prints_graphs_and_explanations(images: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    report = qcc.compile(LENET, "tflite", int8=True, data=images, print_after="quantize", explain=True, verbose=True)
    printed = capsys.readouterr().out
    assert "// after quantize/quantize\ngraph " in printed
    assert report.explain() in printed and report.summary(verbose=True) in printed
    name = onnx.load(LENET).graph.node[0].name
    assert report.explain().count("\n") > 1 and report.explain(name).startswith(f"tflite: {name} (Conv): ")


def test_what_is_no_model_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(qcc.UsageError, match="builtins.int is no model"):
        qcc.compile(7, "tflite")
    with pytest.raises(qcc.UsageError, match="args, kwargs and dynamic_shapes"):
        qcc.compile(LENET, "tflite", args=(1,))
    with pytest.raises(qcc.Error):
        qcc.compile(b"\0\1\2", "tflite")


def test_external_weights_of_a_large_model(monkeypatch: pytest.MonkeyPatch, binary: Folder) -> None:
    from qcc import _models

    monkeypatch.setattr(_models, "MOST_PROTOBUF", 1000)
    model = onnx.load(LENET)
    report = qcc.compile(model, "tflite")
    assert report.output.read_bytes() == binary.compiled(LENET, "--to", "tflite")
    assert model == onnx.load(LENET)


def test_models_of_other_formats(images: np.ndarray) -> None:
    qcc.compile(LENET, "tflite", int8=True, data=images, output="a.tflite")
    report = qcc.compile("a.tflite", "onnx", output="b.onnx")
    assert report.precision == "int8"
    buffer = io.BytesIO(pathlib.Path("b.onnx").read_bytes())
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(buffer).graph.node)
    assert MODELS.exists()
