"""Reports, contents, comparisons."""

import copy
import json
import pathlib

import numpy as np
import pytest
from conftest import DIGITS, LENET, MODELS, Folder

import qcc

SCHEMA = json.loads((MODELS.parents[1] / "docs" / "report.schema.json").read_text())


@pytest.fixture
def report(images: np.ndarray) -> qcc.Report:
    return qcc.compile(LENET, "tflite", int8=True, data=images)


def test_all_fields_are_attributes(report: qcc.Report) -> None:
    for name in SCHEMA["properties"]:
        getattr(report, name)
    [artefact] = report.artefacts
    for name in SCHEMA["$defs"]["artefact"]["properties"]:
        getattr(artefact, name)
    output = artefact.quality.outputs[0]
    assert output.sqnr == report.worst_sqnr > 10 and output.name == artefact.outputs[0].name
    assert artefact.output.stat().st_size == artefact.output_bytes < report.model_bytes == LENET.stat().st_size
    assert artefact.costs.after.weight_bytes < artefact.costs.before.weight_bytes
    assert report["precision"] == "int8" and "precision" in list(report) and "stages" in dir(report)
    assert report.dict() == json.loads(report.json())
    assert copy.copy(artefact) == artefact and copy.copy(report).precision == "int8"
    with pytest.raises(AttributeError, match="Report has no field 'artifacts'; it has schema, "):
        report.artifacts


def test_reports_are_shown(report: qcc.Report) -> None:
    assert repr(report).startswith("<qcc.Report tflite int8 ") and "mnist_lenet_int8.tflite, SQNR " in repr(report)
    assert str(report).startswith("target       tflite int8\nwritten      mnist_lenet_int8.tflite\n")
    page = report._repr_html_()
    assert page.startswith("<table>") and "mnist_lenet_int8.tflite" in page and f"{report.worst_sqnr:.1f} dB" in page
    assert report.html().startswith("<!doctype html>")


def test_report_files_are_those_of_the_command_line(images: np.ndarray, binary: Folder) -> None:
    data = binary.path / "d.npy"
    np.save(data, images)
    names = ["r.html", "r.json", "r.overlay.json"]
    report = qcc.compile(LENET, "tflite", int8=True, data=data, report=names)
    for name in names:
        written = pathlib.Path(name).read_bytes()
        report.save("again" + name)
        assert pathlib.Path("again" + name).read_bytes() == written, name
    reports = " ".join(f"--report={name}" for name in names)
    assert report.command == f"qcc --to=tflite --int8 {reports} --data={data} -- {LENET}"
    assert report.model_digest.startswith("sha256:")
    again = binary.run(*report.command.split()[1:])
    assert again.returncode == 0, again.stderr
    fields = json.loads((binary.path / "r.json").read_text())
    assert {**fields, "stages": 0} == {**report.dict(), "stages": 0}


def test_contents(binary: Folder) -> None:
    contents = qcc.inspect(LENET)
    assert str(contents) == binary.run("inspect", LENET).stdout
    assert contents.json() == binary.run("inspect", LENET, "--json").stdout
    assert contents.format == "onnx"
    assert str(qcc.inspect(LENET.read_bytes(), graph=True)) == binary.run("inspect", LENET, "--graph").stdout


def test_differences() -> None:
    qcc.compile(LENET, "onnx", output="a.onnx")
    qcc.compile(LENET, "onnx", fp16=True, output="b.onnx")
    same, other = qcc.diff("a.onnx", pathlib.Path("a.onnx").read_bytes()), qcc.diff("a.onnx", "b.onnx")
    assert same.equal and not same and other and not other.equal
    assert len(str(other)) > len(str(same))
    qcc.compile(LENET, "tflite", output="a.tflite")
    with pytest.raises(qcc.UsageError, match="only files of one format"):
        qcc.diff("a.onnx", "a.tflite")


def test_comparisons(images: np.ndarray, report: qcc.Report, binary: Folder) -> None:
    here = pathlib.Path.cwd()
    np.save("d.npy", images)
    compared = qcc.compare(LENET, report.output, images)
    table = binary.run("compare", LENET, here / report.output, "--data", here / "d.npy").stdout
    assert str(compared).splitlines()[1:] == table.splitlines()[1:]
    assert compared.samples == 12 and compared.worst_sqnr > 10
    same = qcc.compare(LENET, LENET.read_bytes(), (image for image in images), samples=5)
    assert same.samples == 5 and (same.truth, same.other) == (str(LENET), "<model>") and same.worst_sqnr is None
    with pytest.raises(qcc.GateError, match="SQNR") as error:
        qcc.compare(LENET, report.output, images, min_sqnr=200)
    assert error.value.code == "gate"
    seen = []
    qcc.compare(LENET, report.output, images, progress=lambda *now: seen.append(now))
    assert seen[0] == ("compare", 0, 0) and seen[-1] == ("compare", 12, 12)


def test_reports_on_artefacts(images: np.ndarray, report: qcc.Report) -> None:
    alone = qcc.report(report.output)
    assert alone.artefacts[0].quality is None or alone.worst_sqnr is None
    against = qcc.report(report.output, LENET, images, report="x.html")
    assert against.worst_sqnr > 10 and against.artefacts[0].matching.values_by_name > 0
    assert pathlib.Path("x.html").read_text().startswith("<!doctype html>")


def test_a_gate_that_is_not_met(images: np.ndarray) -> None:
    with pytest.raises(qcc.GateError) as error:
        qcc.compile(LENET, "tflite", int8=True, data=DIGITS, scale="1/255", min_sqnr=200, effort="fast")
    assert error.value.report.worst_sqnr < 200
    assert list(pathlib.Path.cwd().iterdir()) == []
