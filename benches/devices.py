"""Models on devices: `.venv/bin/python benches/devices.py FOLDER [PATTERN..] [--vela PYTHON]`.

Compiles each NAME.onnx or NAME.tflite of a folder for every device of TFLite, to int8 on NAME.calib.npz, or as it is where there is
no such file, with integer inputs and outputs. Prints for each model a table of its devices:
- tflm: the largest difference of the outputs in TensorFlow Lite for Microcontrollers, in steps of the grid, from those in LiteRT
  with its own kernels, in LiteRT with XNNPACK, and from those of a quantized source in TensorFlow Lite for Microcontrollers.
  The kernels of the three round differently (twice, twice or once), so each operator may differ by one step, which later
  operators amplify. The arena as the header of the C++ sources gives it, and as the runtime takes it. Samples are those of
  NAME.eval.npz, or random ones.
- the others: operators that qcc says run on the CPU, of all, and for Ethos-U those that Vela leaves there (--vela: the
  interpreter of an environment with tests/oracle/vela.txt).
QCC names the binary, target/release/qcc otherwise."""
import argparse, fnmatch, os, re, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "oracle"))
import arena

QCC = os.environ.get("QCC", "target/release/qcc")
VELA = Path(__file__).resolve().parent.parent / "tests" / "oracle" / "vela.py"
ETHOS = ["ethos-u55", "ethos-u65", "ethos-u85"]
OTHERS = ["edgetpu", "xnnpack", "esp32s3", "cmsis-nn"]
MOST_SAMPLES = 100


def calibration(model):
    return model.with_suffix("").with_suffix(".calib.npz")


def compiled(model, device, output):
    """What the run says, or `None` with its error where it is refused."""
    data = calibration(model)
    precision = ["--int8", "--static", "--data", data, "--io", "int8"] if data.exists() else []
    done = subprocess.run([QCC, model, "--device", device, "-v", "-o", output, *precision], capture_output=True, text=True)
    return done.stderr if done.returncode == 0 else None, done.stderr.split("\n")[0]


def samples(model, interpreter):
    """Integer inputs of the interpreter, in the order of its inputs."""
    data, details = model.with_suffix("").with_suffix(".eval.npz"), interpreter.get_input_details()
    random = np.random.default_rng(0)
    arrays = list(np.load(data).values()) if data.exists() else []
    for i in range(MOST_SAMPLES):
        sample = []
        for detail, array in zip(details, arrays or [None] * len(details), strict=True):
            scale, zero = detail["quantization"]
            if array is None or array[0].size != np.prod(detail["shape"]):
                value = random.integers(-128, 128, detail["shape"])
            else:
                value = array[i % len(array)].reshape(detail["shape"])
                value = np.clip(np.round(value / scale) + zero, -128, 127) if scale else value
            sample.append(value.astype(detail["dtype"]))
        yield sample


class Micro:
    """TensorFlow Lite for Microcontrollers."""

    def __init__(self, content, outputs):
        from tflite_micro import runtime

        self.interpreter, self.outputs = runtime.Interpreter.from_bytes(content, arena_size=1 << 24), outputs

    def run(self, sample):
        for i, value in enumerate(sample):
            self.interpreter.set_input(value, i)
        self.interpreter.invoke()
        return [self.interpreter.get_output(i).astype(float) for i in range(self.outputs)]


class LiteRt:
    def __init__(self, content, resolver):
        self.interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)
        self.interpreter.allocate_tensors()

    def run(self, sample):
        for detail, value in zip(self.interpreter.get_input_details(), sample, strict=True):
            self.interpreter.set_tensor(detail["index"], value)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(d["index"]).astype(float) for d in self.interpreter.get_output_details()]


def micro_row(model, folder):
    file = folder / "micro.tflite"
    said, error = compiled(model, "tflm", file)
    if said is None:
        return f"refused: {error}"
    compiled(model, "tflm", folder / "micro.cc")
    told = re.search(r"kArenaSize\s*=\s*(\d+)", (folder / "micro.h").read_text())
    content = file.read_bytes()
    others = {
        "LiteRT": LiteRt(content, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES),
        "XNNPACK": LiteRt(content, OpResolverType.AUTO),
    }
    outputs = len(others["LiteRT"].interpreter.get_output_details())
    if not calibration(model).exists():
        others["the source"] = Micro(model.read_bytes(), outputs)
    micro, most = Micro(content, outputs), dict.fromkeys(others, 0.0)
    for sample in samples(model, others["LiteRT"].interpreter):
        found = micro.run(sample)
        for name, other in others.items():
            most[name] = max([most[name], *(np.abs(a - b).max() for a, b in zip(found, other.run(sample), strict=True))])
    steps = ", ".join(f"{n:g} from {name}" for name, n in most.items())
    return f"steps: {steps}; arena {told[1]}, taken {arena.bytes_of(str(file), 'Arena allocation total')}"


def device_row(model, device, folder):
    said, error = compiled(model, device, folder / f"{model.stem}.{device}.tflite")
    if said is None:
        return f"refused: {error}"
    found = re.search(r"placement\].*?: (?:all (\d+) operators|(\d+) of (\d+) operators)", said)
    return f"{found[2] or 0} of {found[1] or found[3]} operators on the CPU" if found else "runs"


def vela(python, folder):
    """Operators that Vela leaves to the CPU, by NAME.ACCELERATOR."""
    done = subprocess.run([python, VELA, folder], capture_output=True, text=True, check=True)
    found = {}
    for line in done.stdout.splitlines():
        found.setdefault(line.split()[0], []).append(line)
    return found


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("patterns", nargs="*", default=["*"])
    options.add_argument("--vela")
    options = options.parse_args()
    models = sorted(f for f in options.folder.iterdir() if f.suffix in (".onnx", ".tflite"))
    for model in (m for m in models if any(fnmatch.fnmatch(m.stem, p) for p in options.patterns)):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as accelerators:
            rows = {"tflm": micro_row(model, Path(folder))}
            rows |= {device: device_row(model, device, Path(accelerators)) for device in ETHOS}
            if options.vela:
                left = vela(options.vela, accelerators)
                for device in ETHOS:
                    rows[device] += f", Vela: {len(left.get(f'{model.stem}.{device}', []))}"
            rows |= {device: device_row(model, device, Path(folder)) for device in OTHERS}
        print(model.stem)
        for device, row in rows.items():
            print(f"  {device:10} {row}", flush=True)


if __name__ == "__main__":
    main()
