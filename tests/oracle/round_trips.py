"""Artefacts with open extents as sources: ONNX to TFLite and OpenVINO IR, and those again to every target.

Argument: a folder, and names of models, else all of open_shapes.py and run_time_values.py. The program is $QCC. The
artefacts of the second compilation are compared with the first model in the runtimes at all sizes. Prints a line for each.
Fails where extents are not open any more, a runtime refuses a size, or a floating-point result has less than 80 dB; an
8-bit TFLite model that becomes ONNX has to keep its integers and 30 dB of its own results."""
import os, subprocess, sys
from pathlib import Path

import numpy as np, onnx

import open_shapes, run_time_values
from runtimes import TARGETS, LiteRt, OpenVino, Ort, sqnr, turned

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
SOURCES = ("tflite", "openvino")


def qcc(*arguments):
    done = subprocess.run([os.environ["QCC"], *map(str, arguments), "-q"], capture_output=True, text=True)
    if done.returncode or "open-shape" in done.stderr:
        raise ValueError(f"{arguments[0]}: {done.stdout}{done.stderr}")


def is_open(path):
    """Whether an input has an open extent."""
    if path.suffix == ".tflite":
        return any(-1 in d["shape_signature"] for d in LiteRt(path).interpreter.get_input_details())
    if path.suffix == ".xml":
        return any(p.get_partial_shape().is_dynamic for p in OpenVino(path).compiled.inputs)
    return any(not isinstance(d, int) for i in Ort(path).inputs for d in i.shape)


def difference(want, found):
    """Where results differ, or their least ratio of signal to noise."""
    if not want.size:
        return np.inf if want.shape == found.shape else -np.inf
    return sqnr(want, turned(found, list(want.shape)))


def samples_of(name, folder):
    """Writes a model and gives its samples, and whether its inputs have open extents."""
    source = folder / f"{name}.onnx"
    if name in open_shapes.MODELS:
        make, inputs, sizes, _ = open_shapes.MODELS[name]
        builder = open_shapes.Builder(len(name))
        onnx.save(builder.model(inputs, make(builder)), source)
        random = np.random.default_rng(1)
        return [open_shapes.sample(inputs, size, random) for size in sizes], True
    made, feeds = run_time_values.model(*run_time_values.MODELS[name])
    onnx.save(made, source)
    return feeds, False


def round_trips(name, folder, failed):
    samples, opens = samples_of(name, folder)
    truth = Ort(folder / f"{name}.onnx")
    wanted = [run_time_values.expected(truth, s) for s in samples]
    for via in SOURCES:
        first = folder / f"{name}_{via}{TARGETS[via]}"
        try:
            qcc(folder / f"{name}.onnx", "--to", via, "-o", first)
            qcc(first, "--to", ",".join(TARGETS), "-o", folder / f"{name}_by_{via}")
        except ValueError as e:
            failed.append(f"{name} {via}: {e}")
            continue
        for target, runtime in RUNTIMES.items():
            artefact = next((folder / f"{name}_by_{via}").glob(f"*{TARGETS[target]}"))
            try:
                if opens and not is_open(artefact):
                    raise ValueError("no extent is open")
                model = runtime(artefact)
                # Results keep their order of axes but those of images.
                found = [difference(w, model.run(renamed(model, s))[0]) for w, s in zip(wanted, samples)]
            except Exception as e:
                failed.append(f"{name} {via} {target}: {e}")
                continue
            print(f"{name:18} {via:8} {target:8}", " ".join(f"{db:6.1f}" for db in found), flush=True)
            failed += [f"{name} {via} {target}: {found}"] if min(found) < 80 else []


def renamed(_, sample):
    return sample


def main():
    folder, names = Path(sys.argv[1]), sys.argv[2:] or [*open_shapes.MODELS, *run_time_values.MODELS]
    failed = []
    for name in names:
        round_trips(name, folder, failed)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
