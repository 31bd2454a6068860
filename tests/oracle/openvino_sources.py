"""OpenVINO IR with operations that qcc reads and does not write, compiled for every target.

Argument: a folder. The program is $QCC. The artefacts are compared with the model in the runtimes. Prints a line for each
artefact; fails where a result differs."""
import os, subprocess, sys
from pathlib import Path

import numpy as np, openvino
from openvino import opset1, opset16

from runtimes import TARGETS, LiteRt, OpenVino, Ort

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
INDICES = np.array([[1, -1, 5], [0, 6, -5]], np.int64)
VALUES = np.array([2.5, -1], np.float32)


def one_hot(axis, **mode):
    indices = opset1.parameter(INDICES.shape, np.int64, name="x")
    operation = opset16.one_hot if mode else opset1.one_hot
    hot = operation(indices, np.int64(5), VALUES[0], VALUES[1], axis, **mode)
    indices.output(0).set_names({"x"})
    hot.output(0).set_names({"y"})
    return openvino.Model([hot], [indices], "m"), {"x": INDICES}


MODELS = {
    "one_hot": one_hot(-1),
    "one_hot_first": one_hot(0),
    "one_hot_from_end": one_hot(1, negative_indices_mode="normalize"),
    "one_hot_without_negative": one_hot(1, negative_indices_mode="ignore_negative"),
}


def main():
    folder, failed = Path(sys.argv[1]), []
    for name, (model, sample) in MODELS.items():
        source = folder / f"{name}.xml"
        openvino.save_model(model, source, compress_to_fp16=False)
        wanted = OpenVino(source).run(sample)
        for target, suffix in TARGETS.items():
            artefact = folder / f"{name}_made{suffix}"
            subprocess.run([os.environ["QCC"], source, "--to", target, "-q", "-o", artefact], check=True)
            found = RUNTIMES[target](artefact).run(sample)
            equal = all(np.array_equal(w, f) for w, f in zip(wanted, found, strict=True))
            print(f"{name} for {target}: {'equal' if equal else 'different'}")
            failed += [] if equal else [f"{name} for {target}"]
    assert not failed, failed


if __name__ == "__main__":
    main()
