"""Dataset adapters, each a module of this package."""

from anoseg_bench.registry import Registry

DATASETS: Registry = Registry("dataset", "anoseg_bench.datasets", "anoseg_bench.datasets", "anoseg_bench.datasets.base:Dataset")
