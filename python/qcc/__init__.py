"""Compiles trained neural networks to small, quantized TFLite, ONNX and OpenVINO models.

>>> import qcc
>>> report = qcc.compile("model.onnx", to="tflite", int8=True, data="pictures/")
>>> print(report.artefacts[0].output, report.worst_sqnr)

Options have the names that they have on the command line (``qcc --help``), with ``_`` for ``-``; ``qcc.options()``
lists them. Errors are exceptions: :class:`Error` and its subclasses.
"""

from ._api import Comparison, Contents, Difference, compare, compile, diff, inspect, options, report
from ._errors import CompileWarning, Diagnostic, Error, GateError, UsageError
from ._options import Option
from ._qcc import __version__
from ._report import Artefact, Record, Report

__all__ = [
    "Artefact",
    "Comparison",
    "CompileWarning",
    "Contents",
    "Diagnostic",
    "Difference",
    "Error",
    "GateError",
    "Option",
    "Record",
    "Report",
    "UsageError",
    "__version__",
    "compare",
    "compile",
    "diff",
    "inspect",
    "options",
    "report",
]
