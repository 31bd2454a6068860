"""`examples/distributed/on_ray.py` on a local cluster of two workers, one of which is killed in the middle: statistics and
artefacts are those of one run over all data. QCC is the program."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/models/mnist_lenet.onnx"
PREPARE = ["--scale", "1/255"]
QCC = str(Path(os.environ["QCC"]).absolute())

# Kills the process that starts it, once, when it is asked for the fourth shard; else it is qcc.
WRAPPER = f"""#!/bin/sh
case "$*" in *shard3.txt*) if mkdir {{killed}} 2>/dev/null; then kill -9 $PPID; exit 1; fi;; esac
exec {QCC} "$@"
"""


def qcc(folder, *arguments):
    subprocess.run([QCC, *map(str, arguments), "-q"], cwd=folder, check=True)


def artefacts(folder, *arguments):
    qcc(folder, MODEL, "--to", "tflite,onnx,openvino", "--int8", "-o", "out/", *arguments)
    return {path.name: path.read_bytes() for path in Path(folder, "out").iterdir()}


def main(folder):
    pictures = sorted(str(path) for path in (ROOT / "tests/models/digits").glob("*.png"))
    shards = []
    for i in range(7):
        shards.append(folder / f"shard{i}.txt")
        shards[-1].write_text("\n".join(pictures[i::7]) + "\n")
    (folder / "all.txt").write_text("\n".join(pictures) + "\n")

    killed, wrapper = folder / "killed", folder / "wrapper"
    wrapper.write_text(WRAPPER.format(killed=killed))
    wrapper.chmod(0o755)
    os.environ["QCC"] = str(wrapper)
    sys.path.insert(0, str(ROOT / "examples/distributed"))
    os.environ["PYTHONPATH"] = str(ROOT / "examples/distributed")
    import on_ray
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    merged, workers = on_ray.statistics(str(MODEL), [str(shard) for shard in shards], PREPARE)
    ray.shutdown()
    assert killed.is_dir(), "no worker was killed"
    (folder / "merged.qstats").write_bytes(merged)

    # The same shards without a cluster, merged in another order.
    for shard in shards:
        qcc(folder, "calibrate", MODEL, "--data", shard, *PREPARE, "-o", shard.with_suffix(".qstats"))
    qcc(folder, "merge", *[shard.with_suffix(".qstats") for shard in reversed(shards)], "-o", "alone.qstats")
    assert (folder / "alone.qstats").read_bytes() == merged, "the statistics differ"

    plain = artefacts(folder, "--data", "all.txt", *PREPARE, "--validate", "none")
    assert len(plain) == 4 and artefacts(folder, "--stats", "merged.qstats") == plain, "the artefacts differ"
    print(f"{len(shards)} shards, {len(workers)} workers that were not killed, {len(plain)} equal files")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
