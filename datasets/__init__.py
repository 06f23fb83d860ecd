"""Dataset adapters, each a module of this package; imported from the repository root and never installed."""

from anoseg_bench.registry import Registry

DATASETS: Registry = Registry(kind="dataset", package="anoseg_bench.datasets", group="anoseg_bench.datasets")
