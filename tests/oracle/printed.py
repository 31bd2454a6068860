"""Printed and measured quality: what qcc's report says of an artefact, beside what the runtime gives on the same samples.

Arguments: a folder, and patterns of names, else all. The program is $QCC. For each NAME.onnx or
NAME.tflite in the folder, with NAME.calib.npz and NAME.eval.npz (an array for each input, samples along the first axis),
compiles the model in every precision for every target, compares its artefacts with the model in the runtimes, and prints a
line for each. Fails where a signal to quantization noise ratio differs by more than 1 dB, unless both are 60 dB or more or the
output's agreement is the same within one point, and where a
model whose channels differ gains nothing by scales. A folder without models gets those of printed_models.py."""
import fnmatch, json, os, subprocess, sys
from pathlib import Path

import numpy as np, onnx

import boxes, printed_models
from runtimes import TARGETS, LiteRt, OpenVino, Ort, sqnr, turned

PRECISIONS = ["int8", "w8a16", "w8a32", "w4a32", "fp16"]
LACKING = [("openvino", "w8a16")]
HIGH = 60.0
LEAST_HALF = 30.0
# One of printed_models.py: its channels are scaled.
SMOOTHED = "outliers"


RUNTIMES = {".onnx": Ort, ".tflite": LiteRt, ".xml": OpenVino}


def samples(path, model):
    """The samples of a file, each with a batch of one where the model wants that."""
    arrays = dict(np.load(path))
    if model.suffix == ".onnx":
        inputs = onnx.load(model, load_external_data=False).graph.input
        ranks = {i.name: len(i.type.tensor_type.shape.dim) for i in inputs}
    else:
        ranks = {d["name"]: len(d["shape"]) for d in LiteRt(model).interpreter.get_input_details()}
    count = len(next(iter(arrays.values())))
    batched = lambda name, a: a if a.ndim == ranks.get(name, a.ndim + 1) else a[None]
    return [{name: batched(name, a[i]) for name, a in arrays.items()} for i in range(count)]


def outputs(runtime, data, truth=None):
    """The outputs by name for each sample, with the axes of the true ones where those are given."""
    found = []
    for i, sample in enumerate(data):
        named = dict(zip(runtime.names, runtime.run(sample)))
        found.append({n: in_pixels(turned(named[n], t.shape), t, sample) for n, t in truth[i].items()} if truth else named)
    return found


def in_pixels(found, truth, sample):
    """The output of a detector in pixels. TFLite artefacts give boxes as parts of the picture's sides."""
    if truth.ndim != 3:
        return found
    corners = (..., slice(4)) if truth.shape[2] == 6 else (slice(None), slice(4))
    if not truth[corners].max(initial=0) > 2 >= found[corners].max(initial=0):
        return found
    sides = next(a.shape[-2:] for a in sample.values() if a.ndim == 4)
    factors = np.array([sides[1], sides[0]] * 2)
    scaled = found.copy()
    scaled[corners] *= factors if truth.shape[2] == 6 else factors.reshape(4, 1)
    return scaled


def joined(results, name, part):
    """The numbers of one output or of a part of its rows, from all samples."""
    def cut(a):
        if part is None:
            return a
        axis = next(i for i in range(1, a.ndim) if a.shape[i] >= (part[1] or part[0] + 1))
        return np.take(a, range(part[0], part[1] or a.shape[axis]), axis)
    return np.concatenate([cut(r[name]).reshape(1, -1) for r in results]).astype(np.float64)


def ratio_of(truth, found):
    """As `sqnr`; the least where the truth is 0 everywhere."""
    return sqnr(truth, found) if np.any(truth) else -np.inf


def agreement(measure, truth, found, name):
    """What the runtime gives for a measure of the report, in %."""
    pairs = [(t[name], f[name]) for t, f in zip(truth, found)]
    if measure in ("top-1", "pixels of the same class"):
        axis = lambda a: 1 if a.ndim == 4 else a.ndim - 1
        same = [t.argmax(axis(t)) == f.argmax(axis(t)) for t, f in pairs]
        return 100 * np.mean(np.concatenate([s.reshape(-1) for s in same]))
    if measure == "equal labels":
        return 100 * np.mean([np.mean(t == f) for t, f in pairs])
    if measure == "F1 of decisions at 0.5":
        both, either = (sum(np.sum(op(t >= 0.5, f >= 0.5)) for t, f in pairs) for op in (np.logical_and, np.logical_or))
        return 100 * 2 * both / (both + either)
    if measure == "same finds":
        sets = [[set(map(tuple, x.reshape(x.shape[0], -1).tolist())) for x in pair] for pair in pairs]
        return 100 * 2 * sum(len(t & f) for t, f in sets) / sum(len(t) + len(f) for t, f in sets)
    if measure == "same entries":
        rows = [zip(*(x.reshape(-1, x.shape[-1]) for x in pair)) for pair in pairs]
        return 100 * np.mean([np.isin(a, b).mean() for sample in rows for a, b in sample])
    if measure == boxes.MEASURE:
        return boxes.agreement(*zip(*pairs))
    if measure == "cosine":
        rows = [(t.reshape(-1, t.shape[-1]).astype(float), f.reshape(-1, t.shape[-1]).astype(float)) for t, f in pairs]
        return 100 * np.mean([np.sum(t * f, 1) / np.sqrt(np.sum(t * t, 1) * np.sum(f * f, 1) + 1e-300) for t, f in rows])
    raise SystemExit(f"{name}: the measure {measure} is not known")


def part(name):
    """The rows that a part of the report is about."""
    known = {"boxes": (0, 4), "scores": (4, None)}
    return known[name] if name in known else tuple(int(n) for n in name.strip("[]").split(".."))


def judged(output, truth, found):
    """A cell of the table for an output, and whether it is true."""
    cells, right = [], True
    figures = [(p["sqnr"], part(p["name"])) for p in output.get("parts") or []] or [(output["sqnr"], None)]
    for printed, rows in figures:
        if printed is None:
            continue
        measured = ratio_of(joined(truth, output["name"], rows), joined(found, output["name"], rows))
        cells.append(f"{printed:.1f}/{measured:.1f}")
        right &= abs(printed - measured) <= 1 or min(printed, measured) >= HIGH
    told = output.get("agreement")
    measured = agreement(told["measure"], truth, found, output["name"]) if told else None
    if measured is not None:
        cells.append(f"{told['percent']:.1f}%/{measured:.1f}%")
        right |= abs(told["percent"] - measured) <= 1
    return " ".join(cells), right


def halved(name, truth, found):
    """A cell of the table for an output of a 16-bit floating-point artefact, and whether it is good enough."""
    if truth[0][name].ndim == 3 and truth[0][name].shape[2] == 6:
        same = agreement(boxes.MEASURE, truth, found, name)
        return f"{same:.1f}%", same >= 99
    ratio = ratio_of(joined(truth, name, None), joined(found, name, None))
    return f"{ratio:.1f}", ratio >= LEAST_HALF


def compiled(model, precision, folder):
    """The report of a model in one precision for all targets that have it."""
    targets = [t for t in TARGETS if (t, precision) not in LACKING]
    command = [os.environ["QCC"], model, "--to", ",".join(targets), "--report", folder / "report.json", "-q"]
    command += ["-o", f"{folder}/", "--quantize", {"int8": "8", "fp16": "16"}.get(precision, precision)]
    if precision != "fp16":
        command += ["--data", model.with_suffix(".calib.npz"), "--validate", model.with_suffix(".eval.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{model.name} {precision}: {done.stderr}")
    return json.loads((folder / "report.json").read_text())


def compare(model, precision, data, truth, folder):
    """Prints the lines of a model in one precision; gives whether they are true."""
    right = True
    for artefact in compiled(model, precision, folder)["artefacts"]:
        path = Path(artefact["output"])
        found = outputs(RUNTIMES[path.suffix](path), data, truth)
        if artefact.get("quality"):
            lines = [judged(o, truth, found) for o in artefact["quality"]["outputs"]]
        else:
            lines = [halved(n, truth, found) for n in truth[0]]
        true = all(r for _, r in lines)
        if model.stem == SMOOTHED and precision == "int8":
            true &= artefact["quality"]["smoothing_gain"] is not None
        right &= true
        print(f"{model.stem:24} {precision:6} {artefact['target']:9}", " ".join(c for c, _ in lines), "" if true else "<<<")
    return right


def main():
    folder, patterns = Path(sys.argv[1]), sys.argv[2:] or ["*"]
    models = lambda: sorted(p for p in folder.iterdir() if p.suffix in (".onnx", ".tflite"))
    own = not models()
    if own:
        printed_models.write(folder)
    work = folder / "artefacts"
    work.mkdir(exist_ok=True)
    right = True
    for model in (m for m in models() if any(fnmatch.fnmatch(m.stem, p) for p in patterns)):
        data = samples(model.with_suffix(".eval.npz"), model)
        truth = outputs(RUNTIMES[model.suffix](model), data)
        for precision in PRECISIONS[:1] if own and model.stem.startswith("between_") else PRECISIONS:
            right &= compare(model, precision, data, truth, work)
    sys.exit(not right)


if __name__ == "__main__":
    main()
