"""Methods, each a module or a package of this package."""

from anoseg_bench.registry import Registry

METHODS: Registry = Registry("method", "anoseg_bench.methods", "anoseg_bench.methods", "anoseg_bench.methods.base:Method")
