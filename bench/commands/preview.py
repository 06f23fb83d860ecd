"""`preview`: the synthetic anomalies that a method learns from, as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from anoseg_bench.commands.common import add_data, add_images, add_verbosity, console_of

USAGE, HELP = "METHOD", "a gallery of the synthetic anomalies that a method learns from"
#: What the pictures of `preview` show.
LEARNED = "synthetic anomalies to learn from. Below each image its mask"
FOREGROUND = "normal images. Below each what is taken for its foreground, in white"


def fact_text(value: Any) -> str:
    """Return a fact of a method's findings for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " to ".join(fact_text(part) for part in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    for add in (add_data, add_verbosity, add_images):
        add(parser)
    parser.add_argument("method", help="a method of `list`")
    parser.add_argument("--profile", default="quick", help="demo, quick (default) or full")
    parser.add_argument("--number", type=int, default=24, help="how many (default: 24)")
    parser.add_argument("--seed", type=int, default=0, help="which (default: 0)")
    parser.add_argument("--out", type=Path, help="folder (default: results/preview-<method>)")


def main(arguments: argparse.Namespace) -> int:
    """Write a gallery of the synthetic anomalies that a method learns from, for each category."""
    from anoseg_bench.datasets import DATASETS
    from anoseg_bench.errors import UsageError
    from anoseg_bench.evaluation.cell import training_images
    from anoseg_bench.evaluation.inspection import check_used, leave_out
    from anoseg_bench.evaluation.tiles import Tiling
    from anoseg_bench.methods import METHODS
    from anoseg_bench.report.frame import FileNames
    from anoseg_bench.report.gallery import write_examples
    from anoseg_bench.store.cells import slug
    from anoseg_bench.store.folders import working_at
    from anoseg_bench.validation import choose_categories, choose_profile, open_dataset
    from anoseg_bench.variants import match_methods, parse_methods, read_settings

    out = console_of(arguments)
    choose_profile(arguments.profile)
    if arguments.number < 1:
        raise UsageError(f"Expected at least 1 in --number, but got {arguments.number}.")
    match_methods(arguments.method)
    name = DATASETS.one(arguments.dataset)
    settings = read_settings(arguments.config, arguments.set, name, METHODS)
    dataset = open_dataset(name, arguments.data_root, settings)
    variants = parse_methods(arguments.method, arguments.profile, settings)
    if len(variants) > 1:
        raise UsageError(f"Expected one method, but '{arguments.method}' names {', '.join(v.label for v in variants)}.")
    variant = variants[0]
    folder = arguments.out or Path("results") / slug(f"preview-{variant.label}")
    inspected = [
        leave_out(dataset.load(category), arguments.exclude) for category in choose_categories(dataset, arguments.category)
    ]
    check_used(arguments.exclude, [pattern for _, excluded in inspected for pattern in excluded.values()])
    names, tiling = FileNames(), Tiling.of(variant.conditions.changed)
    with working_at(folder, arguments.command_line, tell=out.error):
        for category, items in [(category.name, category.train) for category, _ in inspected]:
            images, _ = training_images(items, tiling, variant.config.input_size, arguments.seed)
            method = METHODS[variant.method].load()(variant.config, seed=arguments.seed, device="cpu")
            made = method.examples(images, arguments.number)
            path = folder / f"{names(category)}.png"
            title = f"{variant.label} on {category}"
            write_examples(made.images.permute(0, 2, 3, 1).numpy(), made.masks.numpy(), f"{title}: {LEARNED}: {made.legend}", path)
            out.result(f"{category}: {path}")
            if made.normals is not None and made.foregrounds is not None:
                path = folder / f"{names(f'{category}_foreground')}.png"
                masks = made.foregrounds.float().numpy()
                write_examples(made.normals.permute(0, 2, 3, 1).numpy(), masks, f"{title}: {FOREGROUND}", path)
                out.result(f"  foreground: {path}")
            for what, facts in made.findings.items():
                out.result(
                    f"  {what}: " + ", ".join(f"{name.replace('_', ' ')} {fact_text(value)}" for name, value in facts.items())
                )
    return 0
