"""Imported once by the server from which workers are forked, so that they need not: what every cell needs."""

import atexit
import contextlib
import functools
import importlib
import os

import threadpoolctl  # noqa: F401
import torch._dynamo  # noqa: F401  torch imports it late, when a seed is set or operations are counted: 0.8 s in each cell

import anoseg_bench.evaluation.cell
import anoseg_bench.execution.worker  # noqa: F401
from anoseg_bench.datasets import DATASETS
from anoseg_bench.execution.engines import MODULES
from anoseg_bench.methods import METHODS

METHODS.names()
DATASETS.names()
for module in os.environ.get(MODULES, "").split():
    with contextlib.suppress(Exception):  # what a broken method raises is its own cells' business, where it is told
        importlib.import_module(module)

atexit.register(os._exit, 0)  # of the server alone: to take torch apart would keep its output open for two more seconds
os.register_at_fork(after_in_child=functools.partial(atexit.unregister, os._exit))
