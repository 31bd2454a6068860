"""Compares qcc with ONNX Runtime and prints ratios: `.venv/bin/python benches/compare.py [MODEL.onnx [DATA]]`.

Evaluator: one sample, one thread, medians of runs that alternate with ONNX Runtime. Conversion: time and peak memory of
processes of the release binary; with DATA also to int8. `tests/run` creates the environment."""
import os, subprocess, sys, tempfile, time
import numpy as np, onnxruntime

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
MODEL = sys.argv[1] if len(sys.argv) > 1 else "tests/models/mnist_lenet.onnx"
DATA = sys.argv[2] if len(sys.argv) > 2 else None
ROUNDS = 3


def runtime():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    shape = lambda i: [d if isinstance(d, int) and d > 0 else 1 for d in i.shape]
    feeds = {i.name: np.random.RandomState(0).rand(*shape(i)).astype(np.float32) for i in session.get_inputs()}
    session.run(None, feeds)

    def median():
        times = []
        for _ in range(15):
            start = time.perf_counter()
            session.run(None, feeds)
            times.append(time.perf_counter() - start)
        return 1e3 * sorted(times)[len(times) // 2]

    return median


def evaluator():
    command = ["cargo", "bench", "--quiet", "--bench", "evaluate", "--", os.path.abspath(MODEL)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# A small helper process: the peak memory of a child includes that of the process it is forked from.
WATCH = """
import resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.call(sys.argv[1:])
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
sys.exit(status)
"""


def process(*arguments):
    with tempfile.TemporaryDirectory() as folder:
        command = ["target/release/qcc", MODEL, "--to", "tflite", "-q", "-o", os.path.join(folder, "x.tflite"), *arguments]
        watched = [sys.executable, "-S", "-c", WATCH, *command]
        seconds, peak = subprocess.run(watched, check=True, capture_output=True, text=True).stdout.split()
        return float(seconds), float(peak)


def main():
    subprocess.run(["cargo", "build", "--quiet", "--release", "--bin", "qcc"], check=True)
    evaluator()
    session = runtime()
    rounds = [(evaluator(), session()) for _ in range(ROUNDS)]
    ratio = sorted(a / b for a, b in rounds)[ROUNDS // 2]
    print(f"evaluator {rounds[-1][0]:.1f} ms, onnxruntime {rounds[-1][1]:.1f} ms, ratio {ratio:.2f}")
    kinds = [("float32", [])] + ([("int8", ["--int8", "--data", DATA])] if DATA else [])
    for name, arguments in kinds:
        seconds, peak = min(process(*arguments) for _ in range(ROUNDS))
        print(f"{name} conversion {seconds:.3f} s, peak {peak:.0f} MB")


main()
