"""What the bundled classifier says of the bundled digits: the model in ONNX Runtime beside its artefacts.

Argument: a folder with artefacts. Writes truth.json there: for each artefact the SQNR of the scores in dB, and how many
of the pictures get the same digit."""
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


def ort(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for image in images:
        yield session.run(None, {"image": image})[0]


RUNTIMES = {".onnx": ort, ".tflite": litert}


def main():
    folder = Path(sys.argv[1])
    pictures = sorted((MODELS / "digits").glob("*.png"))
    images = [np.asarray(Image.open(p).convert("L"), np.float32)[None, None] / 255 for p in pictures]
    truth = np.concatenate(list(ort(MODELS / "mnist_lenet.onnx", images))).astype(np.float64)
    result = {"pictures": len(images)}
    for path in sorted(p for p in folder.iterdir() if p.suffix in RUNTIMES):
        scores = np.concatenate(list(RUNTIMES[path.suffix](path, images)))
        noise = np.sum((truth - scores) ** 2)
        sqnr = 10 * np.log10(np.sum(truth**2) / max(noise, 1e-30))
        same = int(np.sum(truth.argmax(1) == scores.argmax(1)))
        result[path.name] = {"sqnr": float(sqnr), "same": same}
    (folder / "truth.json").write_text(json.dumps(result))


main()
