"""The command line of the wheel, and what an import costs."""

import pathlib
import shutil
import subprocess
import sys

from conftest import DIGITS, LENET, Folder

import qcc

SCRIPT = pathlib.Path(sys.executable).parent / "qcc"


def run(*args: object, cwd: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(arg) for arg in args], capture_output=True, text=True, cwd=cwd)


def test_both_commands_are_the_command_line(binary: Folder, here: pathlib.Path) -> None:
    for args in [
        ["--version"],
        ["--help"],
        ["ops", "pt2"],
        ["passes", "--quantize", "int8"],
        [],
        ["inspect", LENET],
        [LENET, "--too", "tflite"],
        [LENET, "--to", "tflite", "--explain", "x"],
        ["missing.onnx", "--to", "tflite"],
    ]:
        expected = binary.run(*args)
        for command in [[sys.executable, "-m", "qcc"], [SCRIPT]]:
            done = run(*command, *args)
            assert (done.returncode, done.stdout, done.stderr) == (
                expected.returncode,
                expected.stdout,
                expected.stderr,
            ), args
    assert qcc.__version__ in binary.run("--version").stdout


def test_the_script_compiles_to_the_same_bytes(binary: Folder, here: pathlib.Path) -> None:
    args = [LENET, "--to", "tflite", "--int8", "--data", DIGITS, "--scale", "1/255"]
    done = run(SCRIPT, *args, "-o", "a.tflite", "--report", "r.json", cwd=here)
    assert done.returncode == 0, done.stderr
    assert (here / "a.tflite").read_bytes() == binary.compiled(*args)
    assert f'"command": "qcc {LENET} --to tflite' in (here / "r.json").read_text()


def test_an_import_loads_no_framework() -> None:
    code = "import sys; known = set(sys.modules); import qcc; print(*sorted(set(sys.modules) - known))"
    loaded = run(sys.executable, "-c", code).stdout.split()
    assert "qcc._qcc" in loaded
    assert not {"numpy", "torch", "onnx", "IPython", "tempfile"} & set(loaded), loaded


def test_the_time_of_an_import_is_printed(capsys) -> None:
    code = "import time; start = time.process_time(); import qcc; print(time.process_time() - start)"
    seconds = min(float(run(sys.executable, "-c", code).stdout) for _ in range(5))
    with capsys.disabled():
        print(f"\nimport qcc: {seconds * 1000:.0f} ms of processor time")


def test_the_package_is_typed() -> None:
    folder = pathlib.Path(qcc.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_qcc.pyi").exists()
    assert shutil.which("qcc", path=str(SCRIPT.parent))
