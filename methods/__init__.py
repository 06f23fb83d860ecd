"""Methods, each a module or a package of this package; imported from the repository root and never installed."""

from bench.registry import Registry

METHODS: Registry = Registry(kind="method", package="methods", group="anoseg_bench.methods")
