"""`list`: methods, datasets, conditions, the categories found, experiments, profiles."""

from __future__ import annotations

import argparse

from anoseg_bench.commands.common import add_data, add_verbosity, console_of

USAGE, HELP = "", "methods, datasets, categories found, profiles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_data(parser)
    add_verbosity(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print methods, datasets, the categories found, and profiles."""
    from anoseg_bench.conditions import Conditions
    from anoseg_bench.datasets import DATASETS
    from anoseg_bench.errors import BenchError
    from anoseg_bench.experiments import EXPERIMENTS
    from anoseg_bench.methods import METHODS
    from anoseg_bench.options import PROFILES
    from anoseg_bench.plugins import somebodys_code
    from anoseg_bench.validation import open_dataset
    from anoseg_bench.variants import read_settings

    out = console_of(arguments)
    for title, registry in (("Methods", METHODS), ("Datasets", DATASETS)):
        out.result(f"{title}:")
        for name in registry.names():
            entry = registry[name]
            aliases = f" (also: {', '.join(entry.aliases)})" if entry.aliases else ""
            out.result(f"  {name:<14}{entry.summary}{aliases}")
        out.result(f"  more: file.py:Class or module:Class on the command line, entry points of the group '{registry.group}'")
    out.result("Conditions of a variant, in its brackets beside its method's settings:")
    for condition, about in Conditions.model_fields.items():
        out.result(f"  {condition:<14}{about.description}")
    name = DATASETS.one(arguments.dataset)
    dataset = open_dataset(name, arguments.data_root, read_settings(arguments.config, arguments.set, name, METHODS))
    out.result(f"Categories of {name}{f' in {dataset.root}' if dataset.root else ''}:")
    for category in dataset.categories():
        try:
            with somebodys_code(f"The dataset '{name}'"):
                items = dataset.load(category)
        except BenchError as error:
            out.result(f"  {category:<14}{error}")
            continue
        good = sum(item.is_good for item in items.test)
        kinds = sorted({item.defect for item in items.test if not item.is_good})
        counts = f"{len(items.train)} training, {good} normal and {len(items.test) - good} defective test images"
        out.result(f"  {category:<14}{counts}: {', '.join(kinds)}")
    out.result("Experiments:")
    for experiment, what in EXPERIMENTS.items():
        out.result(f"  {experiment:<14}{what.summary}")
    out.result("Profiles:")
    for profile, summary in PROFILES.items():
        out.result(f"  {profile:<14}{summary}")
    return 0
