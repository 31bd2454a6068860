"""Accuracy of int8 models on held-out samples: `.venv/bin/python benches/accuracy.py FOLDER [PATTERN..] [--peers PYTHON
--kept FOLDER] [-- OPTIONS]`.

Compiles each NAME.onnx or NAME.tflite of a folder to int8 for every target on NAME.calib.npz, once with `--effort fast` and once
with OPTIONS (for example `--min-agreement 99`), runs both in the runtimes on the samples of NAME.eval.npz, and prints for each
target and output: the signal to quantization noise ratio, the agreement where the report names a measure that can be computed
here, and the time on one thread; each before and after. The last column is what was kept in higher precision.

With --peers, an environment for peers.py, the first figures are those of the best of all variants of the other tools, which got
the same samples, and the last column is its name. What they write and how good that is stays in the folder --kept: only
new models and variants are made. QCC names the binary, target/release/qcc otherwise. Linux only."""
import argparse, fnmatch, json, os, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

import numpy as np, peers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "oracle"))
import printed

QCC = os.environ.get("QCC", "target/release/qcc")
MOST_SAMPLES = 256
MOST_SECONDS = 1200


@contextmanager
def one_core():
    """Runtimes that are loaded inside have one thread."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    yield
    os.sched_setaffinity(0, cores)


def milliseconds(path, sample):
    with one_core():
        run = printed.RUNTIMES[path.suffix](path).run
        run(sample)
        return least(run, sample)


def least(run, sample):
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


def measured(path, measures, data, truth):
    """SQNR and agreement of each output, and milliseconds. Measures are by the names of the outputs."""
    runtime = printed.RUNTIMES[path.suffix](path)
    if set(runtime.names) != set(truth[0]):
        runtime.names = list(truth[0])
    found = printed.outputs(runtime, data, truth)
    cells = {}
    for name, measure in measures.items():
        ratio = printed.sqnr(printed.joined(truth, name, None), printed.joined(found, name, None))
        cells[name] = (ratio, printed.agreement(measure, truth, found, name) if measure else None)
    return cells, milliseconds(path, data[0])


def of_artefact(artefact, data, truth):
    told = {output["name"]: output.get("agreement") for output in artefact["quality"]["outputs"]}
    return measured(Path(artefact["output"]), {name: t and t["measure"] for name, t in told.items()}, data, truth)


def of_peers(given, model, measures, data, truth):
    """The figures of all variants of other tools by target and name, None where there is no artefact that runs."""
    home = given.kept / model.stem
    home.mkdir(parents=True, exist_ok=True)
    samples, kept = home / "samples.npz", home / "figures.json"
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    if not samples.exists():
        every = printed.samples(model.with_suffix(".calib.npz"), model)
        np.savez(samples, **{name: np.stack([one[name] for one in every]) for name in every[0]})
    for (target, name), command in peers.variants(given.peers):
        key, folder = f"{target}: {name}", home / f"{target} {name}"
        if key in figures:
            continue
        folder.mkdir(exist_ok=True)
        made = folder / f"model{printed.TARGETS[target]}"
        try:
            if not made.exists():
                paths = [model.resolve(), samples, folder]
                subprocess.run(command(*paths), check=True, capture_output=True, timeout=MOST_SECONDS)
            figures[key] = measured(made, measures, data, truth)
        except Exception as error:
            words = (getattr(error, "stderr", None) or str(error).encode()).decode().strip().splitlines()
            print(f"{model.stem}, {key}: no artefact that runs: {words[-1][:200] if words else error}", file=sys.stderr)
            figures[key] = None
        kept.write_text(json.dumps(figures))
    return figures


def best(figures, target, name):
    """The best variant for an output: its cell, milliseconds and name."""
    found = [(f[0][name], f[1], key.partition(": ")[2]) for key, f in figures.items() if f and key.startswith(target)]
    number = lambda entry: [x if x is not None and np.isfinite(x) else -1e9 for x in entry[0]]
    return max(found, key=number, default=None)


def raised(artefact):
    repair = artefact["quality"].get("repair")
    if not repair:
        return "nothing"
    return f"{len(repair['choices'])} parts after {repair['evaluated']} evaluations" + ("" if repair["reached"] else ", not reached")


def cell(figures):
    ratio, share = figures or (None, None)
    words = [f"{ratio:.1f} dB"] if ratio is not None else []
    return " ".join(words + ([f"{share:.1f} %"] if share is not None else []))


def row(model, artefact, name, before, after, last):
    """A line: figures and milliseconds before and after, None where there are none."""
    cells = f"{cell(before and before[0]):>18} -> {cell(after and after[0]):<18}"
    times = " -> ".join(f"{figures[1]:8.3f}" if figures else f"{'-':>8}" for figures in (before, after))
    return f"{model.stem:16} {artefact['target']:9} {name[:20]:20} {cells} {times} ms  {last}"


def rows(given, model, options):
    probe = printed.RUNTIMES[{".tflite": ".tflite"}.get(model.suffix, ".onnx")](model)
    data = printed.samples(model.with_suffix(".eval.npz"), model)[:MOST_SAMPLES]
    truth = printed.outputs(probe, data)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        after, written = compiled(model, options, Path(two))
        if given.peers:
            told = {o["name"]: o.get("agreement") for o in after["artefacts"][0]["quality"]["outputs"]}
            figures = of_peers(given, model, {name: t and t["measure"] for name, t in told.items()}, data, truth)
        else:
            before, _ = compiled(model, ["--effort", "fast"], Path(one))
        for i, artefact in enumerate(after["artefacts"]):
            cells, took = of_artefact(artefact, data, truth) if written else ({}, None)
            if not given.peers:
                first, first_took = of_artefact(before["artefacts"][i], data, truth)
            for name in (o["name"] for o in artefact["quality"]["outputs"]):
                now = (cells[name], took) if written else None
                if given.peers:
                    then = best(figures, artefact["target"], name)
                    yield row(model, artefact, name, then, now, then[2] if then else "")
                else:
                    yield row(model, artefact, name, (first[name], first_took), now, raised(artefact))


def main():
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--kept", type=Path, default=Path("peers"))
    given, options = parser.parse_args(arguments[:split]), arguments[split + 1 :]
    for model in sorted(p for p in given.folder.iterdir() if p.suffix in (".onnx", ".tflite")):
        wanted = any(fnmatch.fnmatch(model.stem, p) for p in given.patterns)
        if wanted and model.with_suffix(".eval.npz").exists():
            try:
                for line in rows(given, model, options):
                    print(line, flush=True)
            except Exception as e:
                print(f"{model.stem}: {e}", file=sys.stderr)


main()
