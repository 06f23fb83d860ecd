"""`export`: a kept model as a file for a runtime, checked against the harness."""

from __future__ import annotations

import argparse
from pathlib import Path

from anoseg_bench.commands.common import add_model, add_run_data, add_verbosity, console_of

USAGE = "--run results/NAME --method METHOD --category NAME --format onnx --out DIR"
HELP = "a kept model as one file from image to decision, checked against the harness"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_verbosity(parser)
    add_model(parser)
    add_run_data(parser)
    parser.add_argument("--method", required=True, help="its name in the run's tables")
    parser.add_argument("--format", default="onnx", metavar="FORMAT", help="onnx (default), openvino or torch-export")
    parser.add_argument(
        "--images", type=Path, nargs="+", metavar="PATH", help="images to check it on instead of the run's test images"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the model, model.json and MODEL_CARD.md")


def main(arguments: argparse.Namespace) -> int:
    """Write a stored model in a format, and check it by its runtime; nothing is left where it differs from the harness."""
    from anoseg_bench.commands.common import images_of
    from anoseg_bench.evaluation.predict import choose_row, load_method
    from anoseg_bench.export.formats import choose_format
    from anoseg_bench.export.write import check_place, write_model
    from anoseg_bench.formatting import counted, shown_path
    from anoseg_bench.methods import METHODS
    from anoseg_bench.store.folders import working_at
    from anoseg_bench.store.pack import open_run
    from anoseg_bench.variants import is_stale

    out = console_of(arguments)
    choose_format(arguments.format)
    earlier = check_place(arguments.out)
    for plugin in arguments.plugin:
        METHODS.match(plugin)
    run = open_run(arguments.run)
    row = choose_row(run, arguments.method, arguments.category, arguments.seed)
    method, result = load_method(run, row, "cpu")
    images = images_of(run, row, result, arguments)
    if is_stale(row.method, result.record.source):
        out.error(f"note: the code of {row.variant} has changed since it was trained; its maps may not fit the thresholds")
    with working_at(arguments.out, arguments.command_line, tell=out.error):
        about = write_model(run, row, method, result, arguments.format, images, arguments.out, out.line)
    if earlier:
        out.error(f"note: {earlier} was in '{shown_path(arguments.out)}' before and gave way")
    for name, threshold in about["thresholds"].items():
        if threshold["value"] is None:
            out.error(f"note: it has no output '{name}': {threshold['reason']}")
    checked = about["check"]
    out.result(
        f"{row.title} as {arguments.format}: maps differ by {checked['largest_map_difference']:.2g} at most on "
        f"{counted(checked['images'], 'image')} ({checked['tolerance']:.2g} is allowed), "
        + (f"{checked['decisions']} decisions are the same" if checked["decisions"] else "no decision to compare")
    )
    out.result(f"Written to {shown_path(arguments.out)}: {', '.join([*about['files'], 'model.json', 'MODEL_CARD.md'])}")
    return 0
