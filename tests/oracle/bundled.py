"""The bundled classifier and digits, for the scripts beside this one."""
from pathlib import Path

import numpy as np, onnxruntime, openvino
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

MODELS = Path(__file__).parent.parent / "models"


def images():
    """The digits as the classifier takes them."""
    pictures = sorted((MODELS / "digits").glob("*.png"))
    return [np.asarray(Image.open(p).convert("L"), np.float32)[None, None] / 255 for p in pictures]


def litert(path, images):
    """The scores of each image in LiteRT."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for image in images:
        interpreter.set_tensor(inputs["index"], image.reshape(inputs["shape"]))
        interpreter.invoke()
        yield interpreter.get_tensor(outputs["index"])


def ort(path, images):
    """The scores of each image in ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for image in images:
        yield session.run(None, {"image": image})[0]


def ov(path, images):
    """The scores of each image in OpenVINO, given its batch."""
    core = openvino.Core()
    model, batch = core.read_model(path), None
    for image in images:
        if len(image) != batch:
            batch = len(image)
            model.reshape(image.shape)
            compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        yield compiled(image)[0]
