"""What the bundled classifier says of the bundled digits: the model in ONNX Runtime beside its artefacts.

Argument: a folder with artefacts. Writes truth.json there: for each artefact the SQNR of the scores in dB, and how many
of the pictures get the same digit; but for TFLite also whether all pictures at once get the scores that each gets
alone."""
import json, sys
from pathlib import Path

import numpy as np

from bundled import MODELS, images, litert, ort, ov

RUNTIMES = {".onnx": ort, ".tflite": litert, ".xml": ov}


def main():
    folder = Path(sys.argv[1])
    digits = images()
    truth = np.concatenate(list(ort(MODELS / "mnist_lenet.onnx", digits))).astype(np.float64)
    result = {"pictures": len(digits)}
    for path in sorted(p for p in folder.iterdir() if p.suffix in RUNTIMES):
        run = RUNTIMES[path.suffix]
        scores = np.concatenate(list(run(path, digits)))
        noise = np.sum((truth - scores) ** 2)
        sqnr = 10 * np.log10(np.sum(truth**2) / max(noise, 1e-30))
        same = int(np.sum(truth.argmax(1) == scores.argmax(1)))
        result[path.name] = {"sqnr": float(sqnr), "same": same}
        if run is not litert:
            at_once = np.concatenate(list(run(path, [np.concatenate(digits)])))
            result[path.name]["at_once"] = bool(np.allclose(at_once, scores, rtol=0, atol=1e-4))
    (folder / "truth.json").write_text(json.dumps(result))


main()
