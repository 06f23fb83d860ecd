"""Methods, each a module or a package of this package; imported from the repository root and never installed."""

from anoseg_bench.registry import Registry

METHODS: Registry = Registry(kind="method", package="anoseg_bench.methods", group="anoseg_bench.methods")
