"""Imported once by the server from which workers are forked, so that they need not: what every cell needs."""

import atexit
import contextlib
import functools
import gc
import importlib
import os

from anoseg_bench.datasets import DATASETS
from anoseg_bench.execution.engines import MODULES
from anoseg_bench.methods import METHODS

#: What every cell imports, `torch._dynamo` late, when a seed is set or operations are counted: 0.8 s each time.
NEEDED = ("threadpoolctl", "anoseg_bench.evaluation.cell", "anoseg_bench.execution.worker", "torch._dynamo")

gc.disable()  # all that is imported stays: to look through it again and again takes a fifth of the time
for module in NEEDED:
    importlib.import_module(module)
METHODS.names()
DATASETS.names()
for module in os.environ.get(MODULES, "").split():
    with contextlib.suppress(Exception):  # what a broken method raises is its own cells' business, where it is told
        importlib.import_module(module)
gc.freeze()  # workers do not look through it either, which would copy the memory that they share
gc.enable()

atexit.register(os._exit, 0)  # of the server alone: to take torch apart would keep its output open for two more seconds
os.register_at_fork(after_in_child=functools.partial(atexit.unregister, os._exit))
