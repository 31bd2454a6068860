"""Draws int8 artefacts of qcc beside those of other tools: their size and accuracy, and time and memory of making them.

    .venv/bin/python benches/picture.py FOLDER [PATTERN..] -o docs/comparison.svg --peers PYTHON [--onnx2tf PYTHON]

FOLDER has models NAME.onnx with samples NAME.calib.npz and held-out samples NAME.eval.npz (an array for each input, samples
along the first axis). All tools get the same calibration samples; the artefacts run in the runtimes on the held-out ones, beside
the float model. Accuracy is the agreement of boxes or of the largest scores where qcc's report has such a measure, else the
signal to quantization noise ratio; of several outputs the worst. Time and memory are those of whole processes, the
least of --rounds alternating runs; memory is anonymous memory. Prints the figures as a table; --figures FILE.json keeps them,
and draws those that it has.

PYTHON is an environment with `onnxruntime onnx nncf openvino`, and one with `onnx2tf` and what that needs. QCC names the
binary, target/release/qcc otherwise. Linux only."""
import argparse, datetime, fnmatch, json, os, subprocess, sys, tempfile
from html import escape
from pathlib import Path

import numpy as np, peers
from process import QCC, ROOT, watched

sys.path.insert(0, str(Path(ROOT) / "tests/oracle"))
import boxes, printed  # noqa: E402

AGREEMENTS = {boxes.MEASURE: "same boxes", "top-1": "same class"}

# NNCF as Ultralytics calls it for detectors: with the preset for mixed activations, and the operators of the head in float.
HEAD = "NNCF as in Ultralytics"
NOTES = [
    "Accuracy: int8 beside float on held-out samples, in the runtime of the format. Time: that of processors. Memory: the peak.",
    "ONNX Runtime, products: only Conv, MatMul and Gemm. NNCF as in Ultralytics: mixed preset, operators of the head in float.",
]


def tools(given):
    """Tools by target and name: a function that gives the command for a model, its samples and a folder."""
    qcc = lambda target: lambda model, _, folder: [
        QCC, model, "--to", target, "--int8", "--data", model.with_suffix(".calib.npz"), "-q", "-o", f"{folder}/"
    ]
    yield ("onnx", "qcc"), qcc("onnx")
    yield ("onnx", "ONNX Runtime"), peers.called(given.peers, peers.static())
    yield ("onnx", "ONNX Runtime, products"), peers.called(given.peers, peers.static(peers.PRODUCTS))
    yield ("openvino", "qcc"), qcc("openvino")
    yield ("openvino", "NNCF"), peers.called(given.peers, peers.nncf())
    yield ("openvino", HEAD), peers.called(given.peers, peers.nncf(head=True))
    yield ("tflite", "qcc"), qcc("tflite")
    if given.onnx2tf:
        yield ("tflite", "onnx2tf"), peers.called(given.onnx2tf, peers.ONNX2TF)


# What is measured


def artefact(folder, target):
    """The artefact in a folder, and its size in MB."""
    [path] = (p for p in Path(folder).rglob("*") if p.suffix == printed.TARGETS[target])
    files = [path, path.with_suffix(".bin")] if target == "openvino" else [path]
    return path, sum(f.stat().st_size for f in files) / 1e6


def accuracy(path, data, truth, measure):
    """The worst of the outputs."""
    runtime = printed.RUNTIMES[path.suffix](str(path))
    if set(runtime.names) != set(truth[0]):
        runtime.names = list(truth[0])
    found = printed.outputs(runtime, data, truth)
    if measure:
        return min(printed.agreement(measure, truth, found, name) for name in truth[0])
    return min(printed.sqnr(*(printed.joined(results, name, None) for results in (truth, found))) for name in truth[0])


def agreed(model, folder):
    """The measure that the report of qcc has for a model."""
    report = folder / "report.json"
    command = [QCC, model, "--to", "onnx", "--int8", "--data", model.with_suffix(".calib.npz"), "-q"]
    subprocess.run([*command, "-o", f"{folder}/", "--report", report], check=True)
    output = json.loads(report.read_text())["artefacts"][0]["quality"]["outputs"][0]
    measure = (output.get("agreement") or {}).get("measure")
    return measure if measure in AGREEMENTS else None


def measured(model, all_tools, rounds):
    """What is known of a model, and for each tool its size in MB, accuracy, seconds, processor seconds and memory in MB."""
    data = {kind: printed.samples(model.with_suffix(f".{kind}.npz"), model) for kind in ("calib", "eval")}
    truth = printed.outputs(printed.Ort(str(model)), data["eval"])
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        samples, folders = scratch / "samples.npz", {tool: scratch / "-".join(tool) for tool in all_tools}
        np.savez(samples, **{name: np.stack([one[name] for one in data["calib"]]) for name in data["calib"][0]})
        measure = agreed(model, scratch)
        if measure != boxes.MEASURE:
            folders.pop(("openvino", HEAD))
        if any(array.dtype.kind == "i" for array in data["calib"][0].values()):
            # It calibrates on floating-point inputs only.
            folders.pop(("tflite", "onnx2tf"), None)
        runs, rows = {tool: [] for tool in folders}, []
        for _ in range(rounds):
            for tool, folder in folders.items():
                folder.mkdir(exist_ok=True)
                if None in runs[tool]:
                    continue
                try:
                    command = all_tools[tool](model.resolve(), samples, folder)
                    runs[tool].append(watched(command, stderr=None if tool[1] == "qcc" else subprocess.DEVNULL))
                except SystemExit:
                    runs[tool].append(None)
        for tool, folder in folders.items():
            try:
                path, size = artefact(folder, tool[0])
                rows.append([*tool, [size, accuracy(path, data["eval"], truth, measure), *map(min, zip(*runs[tool]))]])
            except Exception as error:
                print(f"{model.stem}, {' '.join(tool)}: no artefact that runs: {str(error)[:200]}", file=sys.stderr)
                rows.append([*tool, None])
        size, counts = model.stat().st_size / 1e6, [len(data[kind]) for kind in data]
        return {"name": model.stem, "size": size, "measure": measure, "samples": counts, "rows": rows}


# What is drawn

WIDTH, ROW, LABEL, COLUMN, BAR = 750, 19, 252, 124, 66
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .n { text-anchor: end } .h { font-weight: 600 }
.s { font-size: 11px; fill: #59636e } .b { fill: #b6bfc8 } .q { fill: #0969da } .g { fill: #fff }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .s { fill: #9198a1 } .b { fill: #4a535e } .q { fill: #4493f8 }
.g { fill: #0d1117 } }
"""
COLUMNS = ["size, MB", "accuracy", "time, s", "memory, MB"]
FORMS = {"onnx": "ONNX", "openvino": "OpenVINO", "tflite": "TFLite"}


def text(x, y, words, style=""):
    named = f' class="{style}"' if style else ""
    return f'<text x="{x}" y="{y}"{named}>{escape(words)}</text>'


def short(number):
    return f"{number:.0f}" if number >= 99.95 else f"{number:.1f}" if number >= 9.95 else f"{number:.2f}"


def drawn(models, notes):
    parts, y = [text(x, 24, words, "h") for x, words in [(12, "int8 models"), *zip(range(LABEL, WIDTH, COLUMN), COLUMNS)]], 14
    for model in models:
        y += 30
        measure, (calibrated, held) = model["measure"], model["samples"]
        unit = f"{AGREEMENTS[measure]}, %" if measure else "SQNR, dB"
        name = '<tspan class="h">' + escape(model["name"]) + '</tspan>'
        parts.append(f'<text x="12" y="{y}" class="s">{name} {calibrated} samples, {held} held out</text>')
        parts += [text(LABEL + COLUMN, y, unit, "s"), text(LABEL + 2 * COLUMN, y, "of the conversion", "s")]
        every = [["float", "the model", [model["size"], 100 if measure else None, None, None, None]], *model["rows"]]
        columns = [0, 1, 3, 4]
        most = {c: max(row[c] for *_, row in every if row and row[c] is not None) for c in columns}
        for form, name, row in every:
            y += ROW
            parts += [text(12, y, FORMS.get(form, form), "s"), text(76, y, name)]
            for x, c in zip(range(LABEL, WIDTH, COLUMN), columns if row else []):
                if row[c] is not None:
                    length = max(BAR * max(row[c], 0) / most[c], 1)
                    parts.append(text(x + 38, y, short(row[c]), "n"))
                    style = "q" if name == "qcc" else "b"
                    parts.append(f'<rect x="{x + 44}" y="{y - 10}" width="{length:.1f}" height="11" class="{style}"/>')
            if not row:
                parts.append(text(LABEL, y, "no artefact that runs", "s"))
    y += 14
    for note in notes:
        y += 15
        parts.append(text(12, y, note, "s"))
    y += 12
    box = f'viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
    parts = [f"<style>{STYLE}</style>", f'<rect class="g" width="{WIDTH}" height="{y}"/>', *parts]
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {box}>', *parts, "</svg>\n"])


def table(models):
    print("| model | format | tool | size | accuracy | processor time | memory |\n|---|---|---|---|---|---|---|")
    for model in models:
        for target, name, row in model["rows"]:
            cells = "no artefact that runs | | | |"
            if row:
                size, figure, _, cpu, memory = map(short, row)
                cells = f"{size} MB | {figure} {'%' if model['measure'] else 'dB'} | {cpu} s | {memory} MB |"
            print(f"| {model['name']} | {FORMS[target]} | {name} | {cells}")


def versions(given):
    """The versions of all tools."""
    names = {given.peers: ["onnxruntime", "nncf", "openvino"], given.onnx2tf: ["onnx2tf"]}
    show = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    output = lambda command: subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    found = [output([python, "-c", show, *packages]) for python, packages in names.items() if python]
    return ", ".join([" ".join(output([QCC, "--version"]).split()[:2]), *found])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--onnx2tf", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--figures", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    if not (given.figures and given.figures.exists()):
        folder, rounds = given.folder, given.rounds
        found = [m for p in given.patterns for m in sorted(folder.glob("*.onnx")) if fnmatch.fnmatch(m.stem, p)]
        processor = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
        runs = f"the least of {rounds} runs" if rounds > 1 else "one run each"
        machine = f"{datetime.date.today()}, {os.cpu_count()} cores of {processor}, {runs}. {versions(given)}"
        figures = {"machine": machine, "models": [measured(model, dict(tools(given)), rounds) for model in found]}
        figures = json.dumps(figures, indent=1)
        if given.figures:
            given.figures.write_text(figures)
    else:
        figures = given.figures.read_text()
    figures = json.loads(figures)
    given.output.write_text(drawn(figures["models"], [*NOTES, figures["machine"]]))
    table(figures["models"])


main()
