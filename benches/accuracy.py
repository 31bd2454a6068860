"""Accuracy of int8 models on held-out samples: `.venv/bin/python benches/accuracy.py FOLDER [PATTERN..] [-- OPTIONS]`.

Compiles each NAME.onnx or NAME.tflite of a folder to int8 for every target on NAME.calib.npz, once with `--effort fast` and once
with OPTIONS (for example `--min-agreement 99`), runs both in the runtimes on the samples of NAME.eval.npz, and prints for each
target and output: the signal to quantization noise ratio, the agreement where the report names a measure that can be computed
here, and the time on one thread; each before and after. The last column is what was kept in higher precision.
QCC names the binary, target/release/qcc otherwise."""
import fnmatch, json, os, subprocess, sys, tempfile, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "oracle"))
import printed

QCC = os.environ.get("QCC", "target/release/qcc")
MOST_SAMPLES = 64


def milliseconds(run, sample):
    run(sample)
    times, end = [], time.perf_counter() + 1.0
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run(sample)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def compiled(model, options, folder):
    """The report of a model; where an output is worse than asked, nothing is written."""
    command = [QCC, model, "--to", ",".join(printed.TARGETS), "--int8", "--data", model.with_suffix(".calib.npz"), "-q"]
    done = subprocess.run([*command, "--report", folder / "report.json", "-o", f"{folder}/", *options], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr.splitlines()[0] if done.stderr else "no message")
    return json.loads((folder / "report.json").read_text()), done.returncode == 0


def measured(artefact, data, truth):
    """SQNR and agreement of each output, and milliseconds."""
    path = Path(artefact["output"])
    runtime = printed.RUNTIMES[path.suffix](path)
    found = printed.outputs(runtime, data, truth)
    cells = {}
    for output in artefact["quality"]["outputs"]:
        name, told = output["name"], output.get("agreement")
        ratio = printed.sqnr(printed.joined(truth, name, None), printed.joined(found, name, None))
        cells[name] = (ratio, printed.agreement(told["measure"], truth, found, name) if told else None)
    return cells, milliseconds(runtime.run, data[0])


def raised(artefact):
    repair = artefact["quality"].get("repair")
    if not repair:
        return "nothing"
    return f"{len(repair['choices'])} parts after {repair['evaluated']} evaluations" + ("" if repair["reached"] else ", not reached")


def cell(before, after):
    shown = lambda c: f"{c[0]:.1f} dB" + (f" {c[1]:.1f} %" if c[1] is not None else "")
    return f"{shown(before):>18} -> {shown(after):<18}" if after else f"{shown(before):>18}"


def rows(model, options):
    probe = printed.RUNTIMES[{".tflite": ".tflite"}.get(model.suffix, ".onnx")](model)
    data = printed.samples(model.with_suffix(".eval.npz"), model)[:MOST_SAMPLES]
    truth = printed.outputs(probe, data)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        (before, _), (after, written) = compiled(model, ["--effort", "fast"], Path(one)), compiled(model, options, Path(two))
        for first, second in zip(before["artefacts"], after["artefacts"]):
            (cells, took), (others, longer) = measured(first, data, truth), measured(second, data, truth) if written else ({}, None)
            for name, one_cell in cells.items():
                times = f"{took:8.3f} -> {longer:8.3f} ms" if written else f"{took:8.3f} ms, not written"
                yield f"{model.stem:16} {first['target']:9} {name[:20]:20} {cell(one_cell, others.get(name))} {times}  {raised(second)}"


def main():
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    (folder, *patterns), options = arguments[:split], arguments[split + 1 :]
    for model in sorted(p for p in Path(folder).iterdir() if p.suffix in (".onnx", ".tflite")):
        wanted = not patterns or any(fnmatch.fnmatch(model.stem, p) for p in patterns)
        if wanted and model.with_suffix(".eval.npz").exists():
            try:
                for row in rows(model, options):
                    print(row, flush=True)
            except Exception as e:
                print(f"{model.stem}: {e}", file=sys.stderr)


main()
