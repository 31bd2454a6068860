"""Calibrates a model on Ray Data: `python on_ray.py MODEL OUTPUT.qstats SHARD.. [-- OPTIONS]`, with options of
`qcc calibrate` such as `--scale 1/255`. QCC is the program, `qcc` if it is not set.

A shard is anything that `qcc calibrate --data` reads, at a path that all workers see. If a worker dies, Ray runs its
shard again on another one. Statistics of a shard are the same bytes wherever they are made.
"""

import os
import sys
from functools import reduce
from pathlib import Path

import ray
import ray.data

from statistics_of_shards import calibrate, merge


class Calibrate:
    """A worker: calibrates one shard after another."""

    def __init__(self, model, options):
        self.model, self.options = model, options

    def __call__(self, row):
        statistics = calibrate(self.model, row["item"], *self.options)
        return {"worker": os.getpid(), "statistics": statistics}


def statistics(model, shards, options=(), workers=2):
    """The merged statistics of a model on all shards, as bytes, and the processes that made them."""
    data = ray.data.from_items(list(shards), override_num_blocks=len(shards))
    pool = ray.data.ActorPoolStrategy(size=workers)
    rows = data.map(Calibrate, fn_constructor_args=(model, options), compute=pool).take_all()
    return reduce(merge, [row["statistics"] for row in rows]), {row["worker"] for row in rows}


if __name__ == "__main__":
    arguments = [*sys.argv[1:], "--"]
    cut = arguments.index("--")
    (model, output, *shards), options = arguments[:cut], arguments[cut + 1 : -1]
    ray.init()
    made, _ = statistics(os.path.abspath(model), [os.path.abspath(shard) for shard in shards], options)
    Path(output).write_bytes(made)
