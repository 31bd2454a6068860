"""Artefacts with open extents as sources: ONNX to TFLite and OpenVINO IR, and those again to every target.

Argument: a folder, and names of models, else all of open_shapes.py and run_time_values.py. The program is $QCC. The
artefacts of the second compilation are compared with the first model in the runtimes at all sizes; 8-bit TFLite models
become ONNX models, which are compared with those. Prints a line for each. Fails where no extent is open any more, a runtime
refuses a size, a floating-point result has less than 80 dB, an 8-bit one less than 40 dB, or the integers are lost."""
import os, subprocess, sys
from pathlib import Path

import numpy as np, onnx

import open_shapes, run_time_values
from runtimes import TARGETS, LiteRt, OpenVino, Ort, sqnr, turned

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
SOURCES = ("tflite", "openvino")
CALIBRATED = 64
LEAST, LEAST_INT8 = 80, 38
WITHOUT_WEIGHTS = ("appended", "decoder", "frequencies", "lengths", "ranked", "scattered", "turns")


def qcc(*arguments):
    done = subprocess.run([os.environ["QCC"], *map(str, arguments), "-q"], capture_output=True, text=True)
    if done.returncode or "open-shape" in done.stderr:
        raise ValueError(f"{arguments[0]}: {done.stdout}{done.stderr}")


def constants(graph):
    """The initializers of a graph and of those inside."""
    inside = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [*graph.initializer, *(t for g in inside for t in constants(g))]


def is_open(path):
    """Whether an input has an open extent."""
    if path.suffix == ".tflite":
        return any(-1 in d["shape_signature"] for d in LiteRt(path).interpreter.get_input_details())
    if path.suffix == ".xml":
        return any(p.get_partial_shape().is_dynamic for p in OpenVino(path).compiled.inputs)
    return any(not isinstance(d, int) for i in Ort(path).inputs for d in i.shape)


def ratio(wanted, found):
    """The ratio of signal to noise; results without elements are equal if their shapes are."""
    if not wanted.size:
        return np.inf if wanted.shape == found.shape else -np.inf
    return sqnr(wanted, turned(found, list(wanted.shape)))


def written(name, folder):
    """Writes a model and gives its samples, and whether its inputs have open extents."""
    source = folder / f"{name}.onnx"
    if name not in open_shapes.MODELS:
        made, feeds = run_time_values.model(*run_time_values.MODELS[name])
        onnx.save(made, source)
        return feeds, False
    make, inputs, sizes, *_ = open_shapes.MODELS[name]
    builder = open_shapes.Builder(len(name))
    onnx.save(builder.model(inputs, make(builder)), source)
    random = np.random.default_rng(1)
    return [open_shapes.sample(inputs, size, random) for size in sizes], True


def held(label, artefact, wanted, samples, opens, least, failed):
    """Compares an artefact with results for samples."""
    try:
        if opens and not is_open(artefact):
            raise ValueError("no extent is open")
        model = RUNTIMES[next(t for t, suffix in TARGETS.items() if suffix == artefact.suffix)](artefact)
        found = [ratio(w, model.run(s)[0]) for w, s in zip(wanted, samples)]
    except Exception as e:
        failed.append(f"{label}: {e}")
        return
    print(label, " ".join(f"{db:6.1f}" for db in found), flush=True)
    failed += [f"{label}: {found}"] if min(found) < least else []


def round_trips(name, folder, failed):
    samples, opens = written(name, folder)
    truth = Ort(folder / f"{name}.onnx")
    wanted = [run_time_values.expected(truth, s) for s in samples]
    for via in SOURCES:
        first, folder_of = folder / f"{name}_{via}{TARGETS[via]}", folder / f"{name}_by_{via}"
        try:
            qcc(folder / f"{name}.onnx", "--to", via, "-o", first)
            qcc(first, "--to", ",".join(TARGETS), "-o", folder_of)
        except ValueError as e:
            failed.append(f"{name} {via}: {e}")
            continue
        for target in TARGETS:
            artefact = next(folder_of.glob(f"*{TARGETS[target]}"))
            held(f"{name:18} {via:8} {target:8}", artefact, wanted, samples, opens, LEAST, failed)


def integers(name, folder, failed):
    """An 8-bit TFLite model with open extents becomes an ONNX model with its integers."""
    samples, _ = written(name, folder)
    _, inputs, sizes, *_ = open_shapes.MODELS[name]
    data, random = folder / f"{name}_data", np.random.default_rng(2)
    data.mkdir(exist_ok=True)
    for i in range(CALIBRATED):
        np.savez(data / f"{i:02}.npz", **open_shapes.sample(inputs, sizes[i % len(sizes)], random))
    first, second = folder / f"{name}_int8.tflite", folder / f"{name}_int8.onnx"
    try:
        qcc(folder / f"{name}.onnx", "--to", "tflite", "--int8", "--data", data, "-o", first)
        qcc(first, "--to", "onnx", "-o", second)
    except ValueError as e:
        failed.append(f"{name} int8: {e}")
        return
    wanted = [turned(LiteRt(first).run(s)[0], list(Ort(folder / f"{name}.onnx").run(s)[0].shape)) for s in samples]
    weights = [t for t in constants(onnx.load(second).graph) if t.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)]
    kept = name in WITHOUT_WEIGHTS or any(np.prod(t.dims) > 1 for t in weights)
    failed += [] if kept else [f"{name} int8: the weights are no integers"]
    held(f"{name:18} int8     onnx    ", second, wanted, samples, True, LEAST_INT8, failed)


def main():
    folder, names = Path(sys.argv[1]), sys.argv[2:] or [*open_shapes.MODELS, *run_time_values.MODELS]
    failed = []
    for name in names:
        round_trips(name, folder, failed)
        if name in open_shapes.MODELS:
            integers(name, folder, failed)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
