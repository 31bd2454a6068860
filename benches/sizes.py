"""Artefacts with open shapes at several sizes: `.venv/bin/python benches/sizes.py FOLDER.. [-- PATTERN..]`.

Compiles each .onnx and .tflite below the folders (those whose path contains one of the patterns, if given) with its own shapes to
every target in floating point, in both precisions, and compares the artefacts in the runtimes with the source at three sizes that
the source's runtime takes; a model whose extents are fixed, on three samples. Prints the time of the compilation and for each
size the least signal to noise ratio in dB of all outputs. Inputs are random, or, with NAME.eval.npz beside the model (an array for
each input, samples along the first axis), made of those samples, cut and repeated to each size, the first of which is their own.
With NAME.calib.npz as well, compiles to int8 on it. QCC names the binary, target/release/qcc otherwise."""
import os, subprocess, sys, tempfile, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "oracle"))
import numpy as np
from printed import in_pixels
from runtimes import TARGETS, LiteRt, OpenVino, Ort, sqnr, turned

QCC = os.environ.get("QCC", "target/release/qcc")
RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
SIZES, ATTEMPTS, MOST_ELEMENTS = 3, 400, 1 << 21
BATCHES = [1, 2, 3, 4]
EXTENTS = [5, 12, 16, 21, 32, 33, 40, 48, 64, 76, 96, 128, 160, 256, 320, 512, 576, 1280, 2048, 4000, 16000]
FACTORS = [1, 2, 3, 4]
PRECISIONS = {"float": [], "fp16": ["--fp16"], "int8": ["--int8"]}
ELEMENTS = {"float": "float32", "double": "float64"}


def declared(source):
    """For each input of a source: its name, its extents (an open one is the name of a symbol) and its element type."""
    if isinstance(source, Ort):
        for i in source.inputs:
            element = i.type[len("tensor("):-1]
            named = [d if isinstance(d, int) else d or f"{i.name}_{axis}" for axis, d in enumerate(i.shape)]
            yield i.name, named, ELEMENTS.get(element, element)
        return
    interpreter = source.interpreter
    signed = interpreter.get_signature_runner().get_input_details() if interpreter.get_signature_list() else {}
    names = {d["index"]: name for name, d in signed.items()}
    for d in interpreter.get_input_details():
        name = names.get(d["index"], d["name"])
        extents = [int(n) if n >= 0 else f"{name}_{axis}" for axis, n in enumerate(d["shape_signature"])]
        yield name, extents, np.dtype(d["dtype"]).name


def drawn(inputs, known, random):
    """Extents for all symbols, by what is known of the data: multiples of halves and thirds of its extents."""
    batch, other, same = int(random.choice(BATCHES)), int(random.choice(EXTENTS)), random.random() < 0.7
    factor, found = random.choice(FACTORS) / random.choice(FACTORS), {}
    for _, extents, _ in inputs:
        for axis, extent in enumerate(extents):
            if isinstance(extent, str) and extent not in found:
                if axis == 0 or "batch" in extent:
                    found[extent] = batch
                elif extent in known:
                    found[extent] = max(1, int(known[extent] * factor))
                else:
                    found[extent] = other if same else int(random.choice(EXTENTS))
    return found


def made(name, shape, element, random):
    if element.startswith("float"):
        return np.asarray(random.standard_normal(shape) * 0.5, element)
    if element == "bool":
        return random.random(shape) < 0.5
    return np.array(16000 if name == "sr" else 1, element) if not shape else random.integers(1, 10, shape).astype(element)


def cut(array, shape):
    """The array, cut and repeated to a shape."""
    for axis, extent in enumerate(shape):
        array = np.take(array, np.arange(extent) % array.shape[axis], axis)
    return array


def sample(inputs, extents, data, start, random):
    """Inputs of the extents; of the samples from `start` on, where there are data."""
    def one(name, shape, element):
        shape = [extents.get(n, n) for n in shape]
        if name not in data:
            return made(name, shape, element, random)
        array = np.roll(data[name], -start, 0)
        return cut(array if array.ndim == len(shape) else array[0], shape).astype(element)

    return {i[0]: one(*i) for i in inputs}


def own(inputs, data):
    """The extents of the data."""
    found = {}
    for name, shape, _ in inputs:
        if name in data:
            of = data[name].shape if data[name].ndim == len(shape) else data[name].shape[1:]
            found |= {s: 1 if axis == 0 and data[name].ndim == len(shape) else n
                      for axis, (s, n) in enumerate(zip(shape, of)) if isinstance(s, str)}
    return found


def wanted(source, fed):
    """What the source gives; nothing where its runtime does not take the sample or a result is no number."""
    try:
        found = dict(zip(source.names, source.run(fed)))
    except Exception:
        return None
    return found if all(np.isfinite(o).all() for o in found.values() if o.dtype.kind == "f") else None


def samples(source, data):
    """Lists of samples for sizes that the source takes: the extents, and pairs of inputs and outputs."""
    random, found, tried = np.random.default_rng(5), [], set()
    inputs = list(declared(source))
    known = own(inputs, data)
    count = min(8, len(next(iter(data.values())))) if data else 1
    for attempt in range(ATTEMPTS):
        extents = drawn(inputs, known, random)
        extents = extents | known if attempt == 0 else extents
        key = tuple(extents.items())
        if extents and key in tried:
            continue
        tried.add(key)
        if any(np.prod([extents.get(n, n) for n in shape]) > MOST_ELEMENTS for _, shape, _ in inputs):
            continue
        fed = [sample(inputs, extents, data, i * 3 + attempt, random) for i in range(count)]
        pairs = [(f, wanted(source, f)) for f in fed]
        if all(w is not None for _, w in pairs):
            found.append((extents, pairs))
        if len(found) == SIZES:
            break
    return found


def least(artefact, pairs):
    """The least ratio of all outputs, over all samples of a size."""
    true, found = {}, {}
    for fed, outputs in pairs:
        results = artefact.run(fed)
        named = dict(zip(artefact.names, results))
        for place, (name, value) in enumerate(outputs.items()):
            other = turned(named.get(name, results[place]), value.shape)
            true.setdefault(name, []).append(value.reshape(-1))
            found.setdefault(name, []).append(in_pixels(other, value, fed).reshape(-1))
    return min(sqnr(np.concatenate(true[n]), np.concatenate(found[n])) for n in true)


def cell(runtime, artefact, pairs):
    try:
        return f"{least(runtime(artefact), pairs):6.1f}"
    except Exception as e:
        return f"not run: {str(e).strip().splitlines()[0][:100]!r}"


def line(model, target, runtime, options, known, folder):
    artefact, start = folder / f"m{TARGETS[target]}", time.perf_counter()
    command = [QCC, model, "--to", target, "-q", *options, "-o", artefact]
    done = subprocess.run(command, capture_output=True, text=True)
    took = time.perf_counter() - start
    if done.returncode:
        return f"{took:6.2f} s  {done.stderr.strip().splitlines()[0][:150]}"
    return f"{took:6.2f} s  " + " ".join(cell(runtime, artefact, pairs) for _, pairs in known)


def main():
    arguments = sys.argv[1:]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    folders, patterns = arguments[:at], arguments[at + 1:]
    models = sorted(p for f in folders for e in ("onnx", "tflite") for p in Path(f).rglob(f"*.{e}"))
    for model in (m for m in models if not patterns or any(p in str(m) for p in patterns)):
        beside = lambda part: model.with_name(f"{model.stem}.{part}.npz")
        data = dict(np.load(beside("eval"))) if beside("eval").exists() else {}
        try:
            source = Ort(model) if model.suffix == ".onnx" else LiteRt(model)
        except Exception as e:
            print(f"{model.name:38} source not run: {str(e).splitlines()[0][:80]}", flush=True)
            continue
        known = samples(source, data)
        sizes = [" ".join(f"{k}={v}" for k, v in extents.items()) or "fixed" for extents, _ in known]
        print(f"{model.name:38} " + ("; ".join(sizes) or "no size found that the source takes"), flush=True)
        for precision, options in PRECISIONS.items():
            if precision == "int8" and not beside("calib").exists():
                continue
            options = options + (["--data", beside("calib")] if precision == "int8" else [])
            for target, runtime in RUNTIMES.items():
                with tempfile.TemporaryDirectory() as folder:
                    print(f"  {precision:6} {target:9} {line(model, target, runtime, options, known, Path(folder))}", flush=True)


if __name__ == "__main__":
    main()
