"""`predict`: a kept model on images, without labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from anoseg_bench.commands.common import add_model, add_verbosity, console_of

USAGE = "--run results/NAME --method METHOD --category NAME IMAGES... --out DIR"
HELP = "maps, overlays and decisions of a model that --keep-models kept"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_verbosity(parser)
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    add_model(parser)
    parser.add_argument("--method", required=True, help="its name in the run's tables")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for maps/, overlays/ and predictions.csv")


def main(arguments: argparse.Namespace) -> int:
    """Use a stored model on images: maps, overlays and a table of scores and decisions."""
    from anoseg_bench.evaluation.predict import (
        choose_row,
        earlier_predictions,
        find_images,
        load_method,
        predict_images,
        reading_of,
        tiling_of,
        write_predictions,
    )
    from anoseg_bench.formatting import counted, some
    from anoseg_bench.methods import METHODS
    from anoseg_bench.store.folders import working_at
    from anoseg_bench.store.pack import open_run
    from anoseg_bench.validation import choose_device
    from anoseg_bench.variants import is_stale

    out = console_of(arguments)
    for plugin in arguments.plugin:
        METHODS.match(plugin)
    run = open_run(arguments.run)
    row = choose_row(run, arguments.method, arguments.category, arguments.seed)
    files, others = find_images(arguments.images)
    if others:
        out.error(f"note: {counted(len(others), 'file')} left out, no image that is read: {some([str(path) for path in others])}")
    earlier_predictions(arguments.out)
    method, result = load_method(run, row, choose_device(arguments.device))
    if is_stale(row.method, result.record.source):
        out.error(f"note: the code of {row.variant} has changed since it was trained; its maps may not fit the thresholds")
    predicted, problems = predict_images(method, files, reading_of(result), tiling_of(result))
    doubtful = [d for d in predicted if d.doubt]
    if doubtful:
        more = f"; {len(doubtful) - 1} more like it" if len(doubtful) > 1 else ""
        out.error(f"note: '{doubtful[0].path}' {doubtful[0].doubt}{more}")
    for problem in problems:
        out.error(f"error: {problem}")
    if predicted:
        with working_at(arguments.out, arguments.command_line, tell=out.error):
            earlier = earlier_predictions(arguments.out)
            path = write_predictions(predicted, method, result, arguments.out, row.title, earlier)
        if earlier.summary:
            out.error(f"note: '{arguments.out}' held {earlier.summary}; that gave way to these")
        reason = result.record.reasons.get("image_threshold_deployable")
        threshold = result.value("image_threshold_deployable")
        if reason:
            out.error(f"note: no image is decided on: {reason}; train with a larger --holdout, or more normal images")
        else:
            defective = sum(d.score >= threshold for d in predicted)
            out.result(f"{defective} of {len(predicted)} images reach the deployable threshold {threshold:.4g} of {row.title}")
        out.result(f"Written to {arguments.out}: {path.name}, maps, overlays")
    return 1 if problems else 0
