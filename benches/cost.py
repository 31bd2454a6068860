"""The latency proxy beside measured times: `.venv/bin/python benches/cost.py FOLDER [--fit]`, or `--depthwise`.

Compiles each NAME.onnx of a folder to float32 and int8 for every target, on NAME.calib.npz where there is one, runs it on one
thread, and prints for each target Spearman's rank correlation of the proxy and the time. Models with open extents other than a
batch are left out: the proxy and the run would be for different ones. With --fit it prints the constants of `LATENCY` and
`DEPTHWISE` (backends/src/*/target.rs) that fit the times best: least squares of relative errors, none below 0.
With --depthwise it prints the times of chains of depthwise convolutions instead: a fit tells little of them, since most of the
time of models is elsewhere. Those in `DEPTHWISE` are what is left of these without bytes and operators.
The times are minima: what else the machine does only adds to them. QCC names the binary, target/release/qcc otherwise."""
import json, os, subprocess, sys, tempfile, time
import numpy as np
from scipy.optimize import nnls
from scipy.stats import spearmanr

QCC = os.environ.get("QCC", "target/release/qcc")
TARGETS = {"tflite": "tflite", "onnx": "onnx", "openvino": "xml"}
NAMES = ["integer", "float", "channelwise_integer", "channelwise_float", "byte", "operator"]


def feed(shape, dtype):
    dtype = np.dtype(dtype)
    random = np.random.RandomState(0)
    return (random.rand(*shape) if dtype.kind == "f" else random.randint(0, 2, shape)).astype(dtype)


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(model_path=path, num_threads=1)
    model.allocate_tensors()
    for d in model.get_input_details():
        model.set_tensor(d["index"], feed(d["shape"], d["dtype"]))
    return model.invoke


def ort(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": "f4", "tensor(int64)": "i8", "tensor(int32)": "i4", "tensor(uint8)": "u1", "tensor(bool)": "?"}
    feeds = {i.name: feed([d if isinstance(d, int) else 1 for d in i.shape], kinds[i.type]) for i in session.get_inputs()}
    return lambda: session.run(None, feeds)


def openvino(path):
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    shapes = {i: [d.get_length() if d.is_static else 1 for d in i.partial_shape] for i in model.inputs}
    model.reshape(shapes)
    config = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", config).create_infer_request()
    feeds = [feed(list(i.shape), i.element_type.to_dtype()) for i in model.inputs]
    return lambda: request.infer(feeds)


def milliseconds(run):
    run()
    times, end = [], time.perf_counter() + 1.0
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def features(cost):
    all_, apart = cost["products"], cost["channelwise"]
    on_integers = lambda p: p["integer"] + p["run_time"]
    on_floats = lambda p: p["weights"] + p["float"]
    return [
        on_integers(all_) - on_integers(apart),
        on_floats(all_) - on_floats(apart),
        on_integers(apart),
        on_floats(apart),
        cost["moved_bytes"],
        cost["operators"],
    ]


def measure(folder):
    for file in sorted(os.listdir(folder)):
        name, extension = os.path.splitext(file)
        if extension != ".onnx":
            continue
        data = os.path.join(folder, f"{name}.calib.npz")
        data = data if os.path.exists(data) else "random"
        for precision in [[], ["--int8", "--data", data]]:
            for target, runner in zip(TARGETS, [litert, ort, openvino]):
                with tempfile.TemporaryDirectory() as out:
                    report = os.path.join(out, "r.json")
                    command = [QCC, os.path.join(folder, file), "--to", target, "-q", "-o", f"{out}/m.{TARGETS[target]}"]
                    done = subprocess.run([*command, "--report", report, *precision], capture_output=True, text=True)
                    if done.returncode:
                        print(f"{name} {target} {precision}: {done.stderr.splitlines()[0]}", file=sys.stderr)
                        continue
                    costs = json.load(open(report))["artefacts"][0]["costs"]
                    if any(e["extent"] != 1 for e in costs["extents"]):
                        print(f"{name} {target} {precision}: left out, its extents are open", file=sys.stderr)
                        continue
                    try:
                        run = runner(f"{out}/m.{TARGETS[target]}")
                        took = milliseconds(run)
                    except Exception as e:
                        print(f"{name} {target} {precision}: {e}", file=sys.stderr)
                        continue
                    yield target, name, "int8" if precision else "float32", took, costs["after"]


CHAIN = 8
# Channels, height and width, window.
CHAINS = [(32, 80, 3), (96, 40, 3), (192, 20, 3), (192, 20, 5), (384, 10, 5)]


def write_chain(channels, extent, window, folder):
    import onnx
    from onnx import helper, numpy_helper

    random, nodes, constants, x = np.random.RandomState(0), [], [], "x"
    for i in range(CHAIN):
        weight = random.randn(channels, 1, window, window).astype(np.float32) / window
        bias = 0.1 * random.randn(channels).astype(np.float32)
        constants += [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        attributes = dict(group=channels, kernel_shape=[window] * 2, pads=[window // 2] * 4)
        nodes.append(helper.make_node("Conv", [x, f"w{i}", f"b{i}"], [f"c{i}"], **attributes))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        x = f"r{i}"
    shape = [1, channels, extent, extent]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", x)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), f"{folder}/m.onnx")
    np.savez(f"{folder}/m.calib.npz", x=random.rand(16, *shape[1:]).astype(np.float32))


def print_depthwise():
    for channels, extent, window in CHAINS:
        with tempfile.TemporaryDirectory() as folder:
            write_chain(channels, extent, window, folder)
            products = CHAIN * channels * extent**2 * window**2
            for target, _, precision, took, _ in measure(folder):
                shape = f"{channels:4} channels, {extent} x {extent}, window {window}"
                print(f"{target:<9} {precision:<8} {shape}: {took * 1e6 / products:.4f} ns for a product")


def main():
    if sys.argv[1] == "--depthwise":
        return print_depthwise()
    rows = list(measure(sys.argv[1]))
    for target in TARGETS:
        own = [r for r in rows if r[0] == target]
        times, proxies = np.array([r[3] for r in own]), np.array([r[4]["latency_ms"] for r in own])
        for row in own:
            print(f"{target:<9} {row[1]:<14} {row[2]:<8} {row[3]:9.3f} ms, proxy {row[4]['latency_ms']:9.3f} ms")
        for precision in ["float32", "int8"]:
            these = [r[2] == precision for r in own]
            print(f"{target} {precision}: Spearman {spearmanr(times[these], proxies[these]).statistic:.3f} of {sum(these)}")
        off = np.exp(np.median(np.abs(np.log(proxies / times))))
        print(f"{target} all: Spearman {spearmanr(times, proxies).statistic:.3f} of {len(own)}, off by a factor of {off:.2f} (median)")
        if "--fit" in sys.argv:
            matrix = np.array([features(r[4]) for r in own], float) * 1e-6 / times[:, None]
            scale = matrix.max(0) + 1e-30
            constants, _ = nnls(matrix / scale, np.ones(len(own)))
            fitted = matrix @ (constants / scale) * times
            print(f"{target} fitted: Spearman {spearmanr(times, fitted).statistic:.3f}")
            print(target, ", ".join(f"{n}: {c:.3g}" for n, c in zip(NAMES, constants / scale)))


main()
