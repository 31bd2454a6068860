"""Compiles ONNX models for Qualcomm's HTP and prints the operators that ONNX Runtime's QNN execution provider leaves to the
CPU: python qnn.py FOLDER, which has files NAME.onnx; prints lines `NAME OPERATOR RESULT`. Conversions, copies, and what
ONNX Runtime inserts are left out."""

import pathlib
import sys
import tempfile

import onnx
import onnxruntime
import onnxruntime_qnn

# HTP of the Snapdragon 8 Gen 2 (SM8550).
OPTIONS = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "htp_arch": "73", "soc_model": "43"}

MOVES = ["DequantizeLinear", "Identity", "QuantizeLinear"]


def left_to_cpu(file, devices):
    model = onnx.load(file)
    results = {node.name: node.output[0] for node in model.graph.node}
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        options.add_session_config_entry("ep.context_enable", "1")
        options.add_session_config_entry("ep.context_file_path", f"{folder}/context.onnx")
        options.add_provider_for_devices(devices, OPTIONS)
        try:
            session = onnxruntime.InferenceSession(str(file), options)
        except Exception as why:
            return [f"{file.stem} fails: {' '.join(str(why).split())[-300:]}"]
        parts = [p for p in session.get_provider_graph_assignment_info() if p.ep_name == "CPUExecutionProvider"]
    nodes = [node for part in parts for node in part.get_nodes()]
    said = [node for node in nodes if node.name in results and node.op_type not in MOVES]
    return [f"{file.stem} {node.op_type} {results[node.name]}" for node in said]


onnxruntime.set_default_logger_severity(4)
onnxruntime.register_execution_provider_library("QNN", onnxruntime_qnn.get_library_path())
found = [device for device in onnxruntime.get_ep_devices() if device.ep_name == "QNN"][:1]
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    for line in left_to_cpu(path, found):
        print(line, flush=True)
