"""What the bundled classifier says of the bundled digits: the model in ONNX Runtime beside its artefacts in LiteRT.

Argument: a folder with lenet.tflite and lenet_int8.tflite. Writes truth.json there: for each artefact the SQNR of the
scores in dB, and how many of the pictures get the same digit."""
import json, sys
from pathlib import Path

import numpy as np, onnxruntime
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

MODELS = Path(__file__).parent.parent / "models"


def litert(path, images):
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for image in images:
        interpreter.set_tensor(inputs["index"], image.reshape(inputs["shape"]))
        interpreter.invoke()
        yield interpreter.get_tensor(outputs["index"])


def main():
    folder = Path(sys.argv[1])
    pictures = sorted((MODELS / "digits").glob("*.png"))
    images = [np.asarray(Image.open(p).convert("L"), np.float32)[None, None] / 255 for p in pictures]
    session = onnxruntime.InferenceSession(MODELS / "mnist_lenet.onnx", providers=["CPUExecutionProvider"])
    truth = np.concatenate([session.run(None, {"image": image})[0] for image in images]).astype(np.float64)
    result = {"pictures": len(images)}
    for name in ["lenet", "lenet_int8"]:
        scores = np.concatenate(list(litert(folder / f"{name}.tflite", images)))
        noise = np.sum((truth - scores) ** 2)
        sqnr = 10 * np.log10(np.sum(truth**2) / max(noise, 1e-30))
        same = int(np.sum(truth.argmax(1) == scores.argmax(1)))
        result[name] = {"sqnr": float(sqnr), "same": same}
    (folder / "truth.json").write_text(json.dumps(result))


main()
