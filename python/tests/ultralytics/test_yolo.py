"""Ultralytics loads what is compiled of its models, and finds the same as its own model."""

import numpy as np
import pytest
import torch
from ultralytics import YOLO

import qcc

SIZE = 160
TASKS = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}


def picture(seed: int) -> np.ndarray:
    """Smooth patches of colour."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.random((1, 3, 10, 10), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
    return (smooth[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


def made(task: str) -> YOLO:
    """A model with random weights whose activations have the usual size, and whose scores are not all alike."""
    torch.manual_seed(0)
    model = YOLO(f"yolo26n{TASKS[task]}.yaml")
    module = model.model.train()
    with torch.no_grad():
        for seed in range(30):
            image = torch.from_numpy(picture(seed)).permute(2, 0, 1)[None] / 255
            module(image.repeat(2, 1, 1, 1))
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 0.1
        for name, branches in module.model[-1].named_children():
            if name.endswith("cv3"):
                for branch in branches:
                    branch[-1].weight *= 30
                    branch[-1].bias.fill_(-3)
    module.eval()
    model.model.args["imgsz"] = SIZE
    return model


def found(model: YOLO, task: str, image: np.ndarray) -> list[np.ndarray]:
    """What the model finds in a picture, before anything is selected: one array for each kind of number."""
    [result] = model.predict(image, imgsz=SIZE, conf=0.01, max_det=50, verbose=False)
    if task == "classify":
        return [result.probs.data.numpy()]
    boxes = result.obb if task == "obb" else result.boxes
    # Of a mask that is empty, the box is left out.
    assert 0 < len(boxes) <= 50 or task == "segment"
    assert task != "segment" or len(result.masks.data) == len(boxes)
    assert task != "pose" or result.keypoints.data.shape[:2] == (len(boxes), 17)
    tensor = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    numbers, *protos = tensors(model.predictor.model(tensor))
    classes = len(model.names)
    parts = [numbers[:, :4], numbers[:, 4 : 4 + classes], numbers[:, 4 + classes :]]
    return [part.numpy() for part in [*parts, *(protos if task == "segment" else [])] if part.numel()]


def tensors(output: object) -> list[torch.Tensor]:
    """The tensors of an output, however they are nested."""
    if isinstance(output, torch.Tensor):
        return [output]
    return [t for part in output for t in tensors(part)] if isinstance(output, (list, tuple)) else []


def sqnr(truth: np.ndarray, other: np.ndarray) -> float:
    """The ratio of the signal to the error in dB."""
    assert truth.shape == other.shape
    return 10 * float(np.log10((truth**2).sum() / max(((truth - other) ** 2).sum(), 1e-30)))


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("task", TASKS)
def test_ultralytics_loads_what_is_compiled(task: str, precision: str) -> None:
    model = made(task)
    image = picture(100)
    report = qcc.compile(
        model,
        to=["tflite", "onnx", "openvino"],
        int8=precision == "int8",
        data=[picture(seed)[None] for seed in range(24)] if precision == "int8" else None,
        output="out/",
        progress=False,
    )
    truth = found(model, task, image)
    for artefact in report.artefacts:
        path = artefact.output.parent if artefact.target == "openvino" else artefact.output
        loaded = YOLO(path, task=task)
        got = found(loaded, task, image)
        assert loaded.names == model.names
        ratios = [sqnr(a, b) for a, b in zip(truth, got, strict=True)]
        print(f"{task:9} {precision:8} {artefact.target:9} {', '.join(f'{r:.1f} dB' for r in ratios)}")
        # On some processors OpenVINO computes in 16 bits.
        least = 12 if precision == "int8" else 25 if artefact.target == "openvino" else 80
        assert min(ratios) > least, artefact.target


def test_the_same_model_gives_the_same_bytes() -> None:
    model = made("detect")
    one = qcc.compile(model, "tflite", output="a.tflite").output.read_bytes()
    assert qcc.compile(model, "tflite", output="b.tflite").output.read_bytes() == one


def test_arguments_of_the_export() -> None:
    model = made("detect")
    raw = qcc.compile(model, "onnx", kwargs={"imgsz": 96}, output="a.onnx").artefacts[0]
    assert raw.inputs[0].type == "f32[1,3,96,96]"
    end = qcc.compile(model, "onnx", kwargs={"nms": False}, output="b.onnx").artefacts[0]
    assert end.outputs[0].type == "f32[1,300,6]"
