"""Examples in docstrings, and that the package is whole wherever it is imported from."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import anoseg_bench
from tests.helpers import ROOT

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

FOLDERS = {"anoseg_bench": "bench", "anoseg_bench.methods": "methods", "anoseg_bench.datasets": "datasets"}


def modules() -> list[str]:
    """Return the names of all modules of the package."""
    names = []
    for package, folder in FOLDERS.items():
        names += [module.name for module in pkgutil.walk_packages([str(ROOT / folder)], f"{package}.")]
    return sorted(name for name in names if not name.startswith("anoseg_bench.checkout"))


@pytest.mark.parametrize("name", [name for name in modules() if "engines" not in name])
def test_examples(name):
    if name == "anoseg_bench.methods.anomalib.method":
        pytest.importorskip("anomalib", reason="anomalib is not installed: pip install '.[anomalib]'")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_package_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    packages = {name for name in modules() if (ROOT / path_of(name) / "__init__.py").is_file()}
    assert sorted(listed) == sorted(packages | set(FOLDERS)) and anoseg_bench.__version__


def path_of(name: str) -> str:
    """Return where a module of the package lies in the checkout."""
    for package, folder in sorted(FOLDERS.items(), reverse=True):
        if name.startswith(package):
            return folder + name.removeprefix(package).replace(".", "/")
    raise AssertionError(name)
