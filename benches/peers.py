"""How other tools quantize a model, for the scripts beside this one: each command gets the model, the calibration samples, each
with a batch of one, and a folder for the artefact. Their environment has `onnxruntime onnx nncf openvino`, or `onnx2tf` and what
that needs."""

COMMON = '''
import os, sys
import numpy as np, onnx
source, data, folder = map(os.path.abspath, sys.argv[1:])
# Tools leave files in the current folder.
os.chdir(folder)
arrays = dict(np.load(data))
samples = [{name: array[i] for name, array in arrays.items()} for i in range(len(next(iter(arrays.values()))))]
'''
ORT = COMMON + '''
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

class Reader(CalibrationDataReader):
    left = iter(samples)
    def get_next(self):
        return next(self.left, None)

prepared, model = folder + "/prepared.tmp", onnx.load(source)
if max(i.version for i in model.opset_import if not i.domain) < 13:
    model = onnx.version_converter.convert_version(model, 13)
onnx.save(model, folder + "/source.tmp")
for skipped in [], ["skip_symbolic_shape"], ["skip_symbolic_shape", "skip_optimization"]:
    try:
        quant_pre_process(folder + "/source.tmp", prepared, **dict.fromkeys(skipped, True))
        break
    except Exception:
        pass
'''
STATIC = ORT + '''
quantize_static(prepared, folder + "/model.onnx", Reader(), **(OPTIONS))
'''
DYNAMIC = ORT + '''
quantize_dynamic(prepared, folder + "/model.onnx", per_channel=True, weight_type=QuantType.QInt8)
'''
PRODUCTS = '{"op_types_to_quantize": ["Conv", "MatMul", "Gemm"], "per_channel": True, "activation_type": QuantType.QUInt8}'
# With a calibration method, and few intermediate results at a time, which otherwise fill the memory.
CALIBRATED = '{**(OPTIONS), "calibrate_method": CalibrationMethod.METHOD, "extra_options": {"CalibMaxIntermediateOutputs": 2}}'
NNCF = COMMON + '''
import nncf, openvino
model = openvino.convert_model(source)
options = {"subset_size": len(samples)}
if IS_TRANSFORMER or IS_TRANSFORMER is None and all(array.dtype.kind == "i" for array in arrays.values()):
    options["model_type"] = nncf.ModelType.TRANSFORMER
if IS_MIXED:
    options["preset"] = nncf.QuantizationPreset.MIXED
if HAS_HEAD:
    operations = {o.get_friendly_name(): o.get_type_name() for o in model.get_ordered_ops()}
    sigmoids = [name for name, kind in operations.items() if kind == "Sigmoid"]
    head = [name for name in operations if name.rpartition("/")[0] == sigmoids[-1].rpartition("/")[0]]
    options |= {"preset": nncf.QuantizationPreset.MIXED, "ignored_scope": nncf.IgnoredScope(names=sorted({*sigmoids, *head}))}
openvino.save_model(nncf.quantize(model, nncf.Dataset(samples), **options), folder + "/model.xml")
'''

# Calls onnx2tf, which wants pictures as N,H,W,C, its test pictures in the current folder, and its tools in the path, and
# simplifies the model in place.
ONNX2TF = COMMON + '''
import shutil
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
np.save("calibration_image_sample_data_20x128x128x3_float32.npy", np.zeros((20, 128, 128, 3), np.float32))
copy = shutil.copy(source, folder)
sys.argv = ["onnx2tf", "-i", copy, "-oiqt", "-o", "made"]
for name, array in arrays.items():
    joined = np.concatenate(array)
    joined = joined.transpose(0, 2, 3, 1) if joined.ndim == 4 else joined
    np.save(name + ".npy", joined)
    mean = np.zeros([1] * (joined.ndim - 1) + [joined.shape[-1]])
    sys.argv += ["-cind", name, name + ".npy", str(mean.tolist()), str((mean + 1).tolist())]
import onnx2tf
onnx2tf.main()
os.rename("made/" + os.path.basename(copy)[:-5] + "_integer_quant.tflite", "model.tflite")
shutil.rmtree("made")
'''


def called(python, text):
    """The command of a script, for a model, its samples and a folder."""
    return lambda *paths: [python, "-c", text, *map(str, paths)]


def static(options="{}", method=None):
    """ONNX Runtime's static quantization."""
    return STATIC.replace("OPTIONS", CALIBRATED.replace("OPTIONS", options).replace("METHOD", method) if method else options)


def nncf(head=False, mixed=False, transformer=None):
    """NNCF; by default, models of tokens are transformers. `head` is for detectors: see picture.py."""
    return NNCF.replace("HAS_HEAD", str(head)).replace("IS_MIXED", str(mixed)).replace("IS_TRANSFORMER", str(transformer))


def variants(python):
    """Every variant of the peers by target and name."""
    methods = [(None, "min-max"), ("Percentile", "percentile"), ("Entropy", "entropy")]
    for options, which in [("{}", "all"), (PRODUCTS, "products")]:
        for method, name in methods:
            yield ("onnx", f"{name}, {which}"), called(python, static(options, method))
    yield ("onnx", "dynamic"), called(python, DYNAMIC)
    for mixed in (False, True):
        for transformer in (False, True):
            name = " ".join(["mixed"] * mixed + ["transformer"] * transformer) or "default"
            yield ("openvino", name), called(python, nncf(mixed=mixed, transformer=transformer))
