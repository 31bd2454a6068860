"""Compares qcc with ONNX Runtime and with itself, and prints a table of ratios:
`.venv/bin/python benches/compare.py [MODEL.onnx | FOLDER].. [--run MODEL.onnx DATA.npz] [--quick]`.

- The evaluator on one sample and one thread beside ONNX Runtime, for each model and each model of a folder. Models that
  either does not run on made-up samples are left out.
- The whole int8 run of --run beside ONNX Runtime that merely runs the samples, on two threads or twice on one, whichever
  is faster; three targets beside one; memory with 300 samples beside 16.
- Conversion of --run's model to float32: time and memory.
- Conversion of 100,000 nodes beside 10,000, for each node.

Times are the least of some runs: what else the machine does only adds to them. Memory is anonymous memory: pages of mapped files are the system's. Without --run it is a model of the tests with random
samples. `tests/run` creates the environment. With --quick each time is measured once, and there are a tenth of the nodes."""
import argparse, concurrent.futures, os, subprocess, sys, tempfile, time
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from process import ROOT, Run

BUNDLED = os.path.join(ROOT, "tests/models/mnist_lenet.onnx")


def session(model, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def extents(i):
    return [d if isinstance(d, int) and d > 0 else 1 for d in i.shape]


def row(what, ours, theirs, ratio, goal=""):
    print(f"| {what} | {ours} | {theirs} | {ratio:.2f} | {goal} |", flush=True)


# The evaluator


def runtime(model, shapes):
    one = session(model, 1)
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}

    def feed(i, shape):
        count = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        return np.asarray(count * 7919 % 256 / 255 if i.type == "tensor(float)" else count % 2, kinds[i.type])

    feeds = {i.name: feed(i, shape) for i, shape in zip(one.get_inputs(), shapes, strict=True)}

    def least():
        times = []
        for _ in range(16):
            start = time.perf_counter()
            one.run(None, feeds)
            times.append(time.perf_counter() - start)
        return 1e3 * min(times)

    return least


def evaluator(model):
    """The least time in milliseconds, and the shape of each input."""
    command = ["cargo", "bench", "--quiet", "--bench", "evaluate", "--", os.path.abspath(model)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise ValueError((done.stderr.splitlines() or ["failed"])[-1])
    time, *shapes = done.stdout.splitlines()
    return float(time), [[int(n) for n in shape.split()] for shape in shapes]


def evaluators(models, rounds):
    for model in models:
        try:
            least = runtime(model, evaluator(model)[1])
            ours, theirs = map(min, zip(*((evaluator(model)[0], least()) for _ in range(rounds))))
        except Exception as e:
            print(f"{os.path.basename(model)}: {str(e).splitlines()[0]}", file=sys.stderr)
            continue
        name = "/".join(os.path.abspath(os.path.splitext(model)[0]).split(os.sep)[-2:])
        row(f"evaluator: {name}", f"{ours:.2f} ms", f"{theirs:.2f} ms", ours / theirs, "1.15")


# Processes


def samples(data):
    with np.load(data) as arrays:
        arrays = dict(arrays)
    count = len(next(iter(arrays.values())))
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)]


def forward_passes(model, all_samples, rounds):
    """The least time and processor time in which ONNX Runtime runs the samples, with two threads or on two at once."""
    two, each = session(model, 2), [session(model, 1), session(model, 1)]

    def half(k):
        for feed in all_samples[k::2]:
            each[k].run(None, feed)

    def threads():
        for feed in all_samples:
            two.run(None, feed)

    def at_once():
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(half, [0, 1]))

    def timed(run):
        start, cpu = time.perf_counter(), time.process_time()
        run()
        return time.perf_counter() - start, time.process_time() - cpu

    both = [[timed(run) for _ in range(rounds + 1)][1:] for run in (threads, at_once)]
    return min(t for times in both for t, _ in times), min(t for times in both for _, t in times)


def int8(model, data, rounds):
    one = Run(rounds, model, "tflite", "--int8", "--data", data)
    seconds, cpu = forward_passes(model, samples(data), rounds)
    row("int8 run beside forward passes, time", f"{one.seconds:.2f} s", f"{seconds:.2f} s", one.seconds / seconds, "1.6")
    row("int8 run beside forward passes, processor time", f"{one.cpu:.2f} s", f"{cpu:.2f} s", one.cpu / cpu)
    three = Run(rounds, model, "tflite,onnx,openvino", "--int8", "--data", data)
    row("int8, three targets beside one", f"{three.cpu:.2f} s", f"{one.cpu:.2f} s", three.cpu / one.cpu, "1.15")


def memory(model, data):
    """Memory with 300 samples, which repeat those of the data, beside 16 of them."""
    with np.load(data) as arrays:
        arrays = dict(arrays)

    def of(count):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "samples.npz")
            np.savez(path, **{name: np.resize(a, [count, *a.shape[1:]]) for name, a in arrays.items()})
            return Run(1, model, "tflite", "--int8", "--data", path).memory

    many, few = of(300), of(16)
    row("memory with 300 samples beside 16", f"{many:.0f} MB", f"{few:.0f} MB", many / few, "1.1")


def float32(model, rounds):
    run, size = Run(rounds, model, "tflite"), os.path.getsize(model) / 1e6
    row("conversion to float32: time beside 20 ms", f"{1e3 * run.seconds:.0f} ms", "20 ms", run.seconds / 0.02, "1")
    row("conversion to float32: memory beside the model", f"{run.memory:.0f} MB", f"{size:.0f} MB", run.memory / size)


# Size


def network(nodes):
    """Residual blocks of a few channels with `nodes` nodes: convolutions, normalizations, activations and sums."""
    random = np.random.RandomState(0)
    tensors, all_nodes, x = {}, [], "x"

    def constant(name, *dims):
        tensors[name] = numpy_helper.from_array(random.rand(*dims).astype(np.float32) + 0.5, name)
        return name

    def node(kind, *operands, **attributes):
        result = f"{kind.lower()}{len(all_nodes)}"
        all_nodes.append(helper.make_node(kind, operands, [result], name=result, **attributes))
        return result

    while len(all_nodes) < nodes:
        at = len(all_nodes)
        y = node("Conv", x, constant(f"w{at}", 4, 4, 1, 1), constant(f"b{at}", 4), kernel_shape=[1, 1])
        y = node("BatchNormalization", y, *(constant(f"{part}{at}", 4) for part in ["scale", "shift", "mean", "variance"]))
        y = node("Mul", y, node("Sigmoid", y))
        x = node("Add", x, y)
    shape = [1, 4, 4, 4]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(all_nodes, "network", [value("x")], [value(x)], list(tensors.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def nodes(few, rounds):
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for count in [few, 10 * few]:
            path = os.path.join(folder, f"{count}.onnx")
            onnx.save(network(count), path)
            runs.append(Run(rounds, path, "tflite"))
    few_run, many_run = runs
    ratio = many_run.cpu / few_run.cpu / 10
    row(f"{10 * few} nodes beside {few}, for each node", f"{many_run.cpu:.2f} s", f"{few_run.cpu:.2f} s", ratio, "1.1")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[BUNDLED], metavar="MODEL.onnx | FOLDER")
    parser.add_argument("--run", nargs=2, metavar=("MODEL.onnx", "DATA.npz"))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    rounds = 1 if given.quick else 5
    if "QCC" not in os.environ:
        subprocess.run(["cargo", "build", "--quiet", "--release", "--bin", "qcc"], check=True, cwd=ROOT)
    models = []
    for path in given.models:
        inside = os.walk(path) if os.path.isdir(path) else [("", [], [path])]
        models += sorted(os.path.join(folder, f) for folder, _, files in inside for f in files if f.endswith(".onnx"))
    print("| what | qcc | beside | ratio | goal |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        model, data = given.run or (BUNDLED, os.path.join(folder, "samples.npz"))
        if not given.run:
            inputs = session(model, 1).get_inputs()
            batch = lambda i: [16, *extents(i)[1:]]
            np.savez(data, **{i.name: np.random.RandomState(0).rand(*batch(i)).astype(np.float32) for i in inputs})
        int8(model, data, rounds)
        memory(model, data)
        float32(model, rounds)
    nodes(1_000 if given.quick else 10_000, rounds)
    evaluators(models, rounds)


main()
