"""Imported once by the server from which workers are forked, so that they need not: what every cell needs."""

import threadpoolctl  # noqa: F401

import bench.cell
import bench.worker  # noqa: F401
from datasets import DATASETS
from methods import METHODS

METHODS.names()
DATASETS.names()
