"""Models of PyTorch give what PyTorch computes."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import qcc


class Net(nn.Module):
    """A small classifier with layers that training and evaluation compute differently."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


class Pair(nn.Module):
    """Two inputs, one by keyword."""

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) * scale


def run(path: object, *inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path))
    names = [i.name for i in session.get_inputs()]
    return session.run(None, {name: x.numpy() for name, x in zip(names, inputs)})[0]


def test_a_module_is_compiled_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    net = Net().train()
    net.head.eval()
    x = torch.rand(1, 3, 16, 16)
    report = qcc.compile(net, "onnx", args=(x,))
    assert str(report.output) == "Net.onnx"
    assert net.training and net.drop.training and not net.head.training
    np.testing.assert_allclose(run(report.output, x), net.eval()(x).detach(), atol=1e-5)


def test_modules_with_keywords_and_open_extents() -> None:
    x, scale = torch.rand(4, 8), torch.rand(8)
    report = qcc.compile(Pair(), "onnx", args=x, kwargs={"scale": scale}, output="pair.onnx")
    np.testing.assert_allclose(run(report.output, x, scale), Pair()(x, scale=scale), atol=1e-6)
    with pytest.raises(qcc.UsageError, match="exported with examples of its inputs"):
        qcc.compile(Pair(), "onnx")


def test_programs_with_unknown_operators_are_decomposed() -> None:
    class Unknown(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.logaddexp(torch.sinc(x), x)

    x = torch.rand(2, 5) + 0.1
    program = torch.export.export(Unknown(), (x,))
    torch.export.save(program, "program.pt2")
    with pytest.raises(qcc.Error, match="aten.*is not supported"):
        qcc.compile("program.pt2", "onnx")
    np.testing.assert_allclose(run(qcc.compile(program, "onnx").output, x), Unknown()(x), atol=1e-6)


def test_operators_that_stay_unknown_are_told() -> None:
    class Unknown(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.hypot(torch.sinc(x), x)

    with pytest.raises(qcc.Error, match="aten.hypot.default is not supported") as error:
        qcc.compile(Unknown(), "onnx", args=(torch.rand(3),))
    assert error.value.code == "unsupported-op" and error.value.where


def test_a_data_loader_is_calibration_data() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    images, labels = torch.rand(24, 3, 16, 16), torch.arange(24)
    loader = DataLoader(TensorDataset(images, labels), batch_size=7)
    loaded = qcc.compile(net, "tflite", int8=True, args=(images[:1],), data=loader, output="a.tflite")
    array = qcc.compile(net, "tflite", int8=True, args=(images[:1],), data=images, output="b.tflite")
    assert loaded.output.read_bytes() == array.output.read_bytes()
    assert loaded.calibration.startswith("18 samples") and loaded.worst_sqnr > 15
