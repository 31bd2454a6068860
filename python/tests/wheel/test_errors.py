"""Errors, and what ends a compilation."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import onnx
import pytest
from conftest import LENET, Folder
from onnx import TensorProto, helper

import qcc


def unknown(path: pathlib.Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Fancy", ["x"], ["y"], name="/head/fancy")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def test_errors_have_the_text_of_the_command_line(binary: Folder) -> None:
    unknown(binary.path / "m.onnx")
    missing = binary.path / "missing.onnx"
    (binary.path / "bad.npy").write_text("no array")
    model, data = binary.path / "m.onnx", binary.path / "bad.npy"
    for args, options in [
        ([model, "--to", "tflite"], dict(to="tflite")),
        ([missing, "--to", "tflite"], dict(to="tflite")),
        ([LENET, "--to", "tflite", "--int8", "--data", data], dict(to="tflite", int8=True, data=data)),
        ([LENET, "--to", "tflite", "--int8", "--exclude", "no*"], dict(to="tflite", int8=True, exclude="no*")),
        ([LENET, "--to", "tflite", "--effort", "high"], dict(to="tflite", effort="high")),
        ([LENET, "--to", "tflite", "--print-after", "x"], dict(to="tflite", print_after=["x"])),
    ]:
        with pytest.raises(qcc.Error) as error:
            qcc.compile(args[0], **options)
        done = binary.run(*args)
        assert done.returncode == (2 if isinstance(error.value, qcc.UsageError) else 1)
        assert str(error.value) + "\n" == done.stderr
        assert error.value.code in done.stderr.splitlines()[0]
        assert error.value.help is None or error.value.help in done.stderr


def test_an_error_says_where() -> None:
    unknown(pathlib.Path("m.onnx"))
    with pytest.raises(qcc.Error) as error:
        qcc.compile("m.onnx", "tflite")
    assert error.value.where is not None and "/head/fancy" in error.value.where
    assert [d.severity for d in error.value.diagnostics] == ["error"]
    assert os.listdir() == ["m.onnx"]


def test_models_in_memory_are_named() -> None:
    unknown(pathlib.Path("m.onnx"))
    with pytest.raises(qcc.Error) as error:
        qcc.compile(onnx.load("m.onnx"), "tflite")
    assert "--> <model.onnx>" in str(error.value) and "/tmp" not in str(error.value)


@pytest.mark.parametrize("name, close", [("int9", "int8"), ("half_value", "half_values"), ("min_sqrn", "min_sqnr")])
def test_unknown_options_are_refused_with_a_close_one(name: str, close: str) -> None:
    with pytest.raises(qcc.UsageError, match=f"qcc.compile has no option '{name}'") as error:
        qcc.compile(LENET, "tflite", **{name: True})
    assert error.value.help == f"did you mean '{close}'?" and isinstance(error.value, TypeError)


def test_wrong_values_are_refused() -> None:
    for options, message in [
        (dict(effort="hihg"), "did you mean high?"),
        (dict(to="tflight"), "did you mean tflite?"),
        (dict(int8="yes"), "unexpected value 'yes' for '--int8'"),
        (dict(int8=True, fp16=True), "cannot be used with"),
        (dict(samples=5), "the following required arguments were not provided"),
        (dict(min_sqnr="much"), "`much` is not a number"),
        (dict(zzz=1), "qcc.options() lists the options"),
    ]:
        with pytest.raises(qcc.UsageError) as error:
            qcc.compile(LENET, **{"to": "tflite", **options})
        assert message in str(error.value)
    with pytest.raises(qcc.UsageError, match=r"qcc.compare has no option 'min_sqn'"):
        qcc.compare(LENET, LENET, "random", min_sqn=3)


def test_options_are_those_of_the_help(binary: Folder) -> None:
    listed = {"--" + option.name.replace("_", "-"): option for option in qcc.options()}
    for word in binary.run("--help").stdout.split():
        name = word.split("[")[0].split("=")[0].rstrip(",.;:)`")
        if name.startswith("--") and name not in ("--help", "--version"):
            assert name in listed, name
    assert listed["--int8"].value is None and listed["--effort"].value == "EFFORT" and listed["--exclude"].repeats
    assert all(option.help for option in qcc.options()) and qcc.options("compare")


def test_progress_is_told() -> None:
    seen: list[tuple[str, int, int]] = []
    qcc.compile(LENET, "tflite", int8=True, data="random", progress=lambda *now: seen.append(now))
    assert ("import", 0, 0) in seen and ("write", 0, 0) in seen
    assert any(done == all > 0 for _, done, all in seen)


def test_progress_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    qcc.compile(LENET, "tflite", int8=True, data="random", progress=True)
    shown = capsys.readouterr().err
    assert "samples" in shown and shown.endswith("\r\033[K")
    qcc.compile(LENET, "tflite", int8=True, data="random")
    assert capsys.readouterr().err == ""


def test_progress_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    handle = types.SimpleNamespace(update=shown.append)
    notebook = types.ModuleType("IPython")
    notebook.get_ipython = lambda: types.SimpleNamespace(kernel=None)
    display = types.ModuleType("IPython.display")
    display.HTML = str
    display.display = lambda html, display_id: shown.append(html) or handle
    notebook.display = display
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    qcc.compile(LENET, "tflite", int8=True, data="random")
    assert any("<progress value='6' max='6'></progress>" in html for html in shown) and shown[-1] == ""


def test_an_exception_of_the_progress_function_cancels() -> None:
    def stop(stage: str, done: int, all: int) -> None:
        if done:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        qcc.compile(LENET, "tflite", int8=True, data="random", progress=stop)
    assert os.listdir() == []


@pytest.fixture
def many() -> np.ndarray:
    """Data for some seconds of work."""
    return np.random.default_rng(0).random((20_000, 1, 28, 28), dtype=np.float32)


def interrupt_soon() -> threading.Timer:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def test_interrupts_end_a_compilation(many: np.ndarray) -> None:
    started = []

    def begin(stage: str, done: int, all: int) -> None:
        if done and not started:
            started.append(interrupt_soon())

    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        qcc.compile(LENET, "tflite", int8=True, data=many, progress=begin)
        pytest.fail(f"not interrupted in {time.monotonic() - before:.1f} s")
    assert os.listdir() == []


def test_interrupts_end_a_comparison(many: np.ndarray) -> None:
    timer = interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        qcc.compare(LENET, LENET, np.concatenate([many] * 3), progress=False)
        timer.join()
        pytest.fail("not interrupted")


def test_other_threads_run_during_a_compilation(many: np.ndarray) -> None:
    beats = []
    done = threading.Event()

    def beat() -> None:
        while not done.wait(0.01):
            beats.append(time.monotonic())

    thread = threading.Thread(target=beat)
    thread.start()
    start = time.monotonic()
    qcc.compile(LENET, "tflite", int8=True, data=many[:4000])
    seconds = time.monotonic() - start
    done.set()
    thread.join()
    gaps = np.diff([start, *[b for b in beats if b > start], start + seconds])
    assert gaps.max() < max(0.5 * seconds, 0.3), (gaps.max(), seconds)


def test_a_new_process_is_interrupted_too(many: np.ndarray) -> None:
    np.save("many.npy", many)
    code = f"import qcc; print('ready', flush=True); qcc.compile({str(LENET)!r}, 'tflite', int8=True, data='many.npy')"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and errors.rstrip().endswith("KeyboardInterrupt")
    assert os.listdir() == ["many.npy"]
