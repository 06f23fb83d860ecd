"""`check`: whether a method or a dataset adapter keeps its contract."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from anoseg_bench.commands.common import add_verbosity, console_of

USAGE, HELP = "file.py:Class", "check that your method or dataset meets its contract"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_verbosity(parser)
    parser.add_argument("target", help="file.py:Class, module:Class, or a name of `list`")
    parser.add_argument("--data-root", type=Path, help="of a dataset: the folder of its data")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; repeatable")
    parser.add_argument("--floor", action="store_true", help="for a method that detects nothing, like noise: skip that check")


def main(arguments: argparse.Namespace) -> int:
    """Print every check with what came of it; 0 if all were passed, else 1."""
    from anoseg_bench.datasets import DATASETS
    from anoseg_bench.datasets.base import Dataset
    from anoseg_bench.errors import UsageError
    from anoseg_bench.methods import METHODS
    from anoseg_bench.plugins import load_attribute
    from anoseg_bench.settings import parse_value
    from anoseg_bench.testing import check_dataset, check_method

    out = console_of(arguments)
    settings: dict[str, Any] = {}
    for assignment in arguments.set:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise UsageError(f"Expected --set KEY=VALUE, but got '{assignment}'.")
        parsed = parse_value(value, f"--set {assignment}")
        if repr(settings.setdefault(key, parsed)) != repr(parsed):
            raise UsageError(f"'{key}' is given twice by --set, as {settings[key]!r} and as {parsed!r}; keep one.")
    target = load_attribute(arguments.target) if ":" in arguments.target else None
    is_dataset = isinstance(target, type) and issubclass(target, Dataset)
    if target is None:
        is_dataset = arguments.target in DATASETS.names() and arguments.target not in METHODS.names()
    if is_dataset:
        results = check_dataset(arguments.target, arguments.data_root, settings)
    else:
        results = check_method(arguments.target, settings, learns=not arguments.floor)
    for result in results:
        out.result(str(result))
    failed = sum(not result.passed for result in results)
    out.result(f"{len(results) - failed} of {len(results)} checks passed")
    return int(failed > 0)
