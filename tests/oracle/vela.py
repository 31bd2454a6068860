"""Compiles TensorFlow Lite models for Arm Ethos-U and prints the operators that Vela leaves to the CPU: python vela.py
FOLDER, which has files NAME.ACCELERATOR.tflite; prints lines `NAME.ACCELERATOR OPERATOR RESULT`"""

import concurrent.futures
import pathlib
import re
import subprocess
import sys
import tempfile

CONFIGURATIONS = {"ethos-u55": "ethos-u55-128", "ethos-u65": "ethos-u65-256", "ethos-u85": "ethos-u85-256"}



def left_to_cpu(file):
    accelerator = file.stem.rsplit(".", 1)[1]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                sys.executable, "-m", "ethosu.vela", file, "--accelerator-config", CONFIGURATIONS[accelerator],
                "--output-dir", folder,
            ],
            capture_output=True, text=True,
        )
    said = done.stdout + done.stderr
    lines = [f"{file.stem} fails: {' '.join(said.split())[-300:]}"] if done.returncode != 0 else []
    found = re.findall(r"\(supported operators\) operator: (\S+), ofm: '(.*)'", said)
    return lines + [f"{file.stem} {operator} {result}" for operator, result in found]


with concurrent.futures.ThreadPoolExecutor() as pool:
    for lines in pool.map(left_to_cpu, sorted(pathlib.Path(sys.argv[1]).glob("*.tflite"))):
        for line in lines:
            print(line)
