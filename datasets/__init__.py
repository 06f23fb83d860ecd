"""Dataset adapters, each a module of this package; imported from the repository root and never installed."""

from bench.registry import Registry

DATASETS: Registry = Registry(kind="dataset", package="datasets", group="anoseg_bench.datasets")
