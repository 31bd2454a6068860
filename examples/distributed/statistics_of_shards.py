"""Calibration statistics of shards as values: what a distributed engine maps and reduces."""

import os
import subprocess
import tempfile
from pathlib import Path

QCC = os.environ.get("QCC", "qcc")


def calibrate(model, shard, *options):
    """The statistics of a model on one shard of the data, as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "shard.qstats")
        run("calibrate", model, "--data", shard, "-o", output, *options)
        return output.read_bytes()


def merge(first, second):
    """The statistics of both. Neither order nor grouping of merges affects the result."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("first.qstats", "second.qstats", "merged.qstats")]
        files[0].write_bytes(first)
        files[1].write_bytes(second)
        run("merge", *files[:2], "-o", files[2])
        return files[2].read_bytes()


def run(*arguments):
    done = subprocess.run([QCC, *map(str, arguments), "-q"], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
