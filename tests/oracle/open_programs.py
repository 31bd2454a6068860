"""Programs of torch.export with open extents, compiled once and run at several sizes.

Argument: a folder. The program is $QCC. Each program of tests/models/torch/open.json is compiled for every target in
floating point and to 8-bit integers, on its inputs of all sizes; the artefacts are compared with PyTorch's results in the
runtimes at all of them. Prints a line for each artefact. Fails where a runtime refuses a size, a floating-point artefact
has less than 80 dB, or an 8-bit one less than 10 dB."""
import json, subprocess, sys
from pathlib import Path

import numpy as np

from runtimes import TARGETS, LiteRt, OpenVino, Ort, sqnr, turned

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
MODELS = Path(__file__).parents[1] / "models/torch"
LEAST = {"f32": 80, "int8": 10}


def arrays(numbers):
    """The tensors of a case: integers where all numbers are."""
    whole = lambda values: all(isinstance(v, int) for v in values)
    return [np.array(v, np.int64 if whole(v) else np.float32).reshape(shape) for shape, v in numbers]


def least(wanted, found):
    """The least ratio of signal to noise of the results."""
    return min(sqnr(w, turned(np.asarray(f), list(w.shape))) for w, f in zip(wanted, found, strict=True))


def compiled(name, target, precision, folder, samples):
    """The artefact, with open extents."""
    path = folder / f"{name}.{precision}{TARGETS[target]}"
    command = [QCC, MODELS / f"{name}.pt2", "--to", target, "-o", path, "-q"]
    if precision == "int8":
        data = folder / f"{name}.{target}"
        data.mkdir()
        for i, sample in enumerate(samples):
            np.savez(data / f"{i}.npz", **{k: v[:1] for k, v in sample.items()})
        command += ["--int8", "--data", data]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or "example-shape" in done.stderr:
        sys.exit(f"{name} for {target} in {precision}: {done.stdout}{done.stderr}")
    return path


def main(folder):
    failed = []
    for name, cases in json.loads((MODELS / "open.json").read_text()).items():
        names = [f"inputs_{i}" for i in range(len(cases[0]["inputs"]))]
        samples = [dict(zip(names, arrays(case["inputs"]))) for case in cases]
        for precision in LEAST:
            for target in TARGETS:
                model = RUNTIMES[target](compiled(name, target, precision, folder, samples))
                each = [least(arrays(case["outputs"]), model.run(s)) for s, case in zip(samples, cases)]
                print(name, precision, target, " ".join(f"{db:.1f}" for db in each))
                failed += [f"{name} {precision} {target}: {each}"] if min(each) < LEAST[precision] else []
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    import os

    QCC = os.environ["QCC"]
    main(Path(sys.argv[1]))
