"""As litert.py, with one run: for models that keep values from run to run."""

import cases
from litert import run

cases.main(lambda model, inputs, optimized: run(model, inputs, optimized, runs=1))
