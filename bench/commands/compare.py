"""`compare`: what changed between runs of the same cells; for CI, whether something fell."""

from __future__ import annotations

import argparse
import math
import shutil
import textwrap
from pathlib import Path

from anoseg_bench.commands.common import add_verbosity, console_of

USAGE, HELP = "RUN RUN [RUN...]", "what changed between runs of the same cells, with intervals"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_verbosity(parser)
    parser.add_argument("first", type=Path, metavar="RUN", help="folder of the run to compare with, or a packed one")
    parser.add_argument("others", type=Path, metavar="RUN", nargs="+", help="the others, each compared with the first")
    parser.add_argument(
        "--metrics",
        metavar="NAMES",
        help="e.g. pixel_auroc,image_fpr_deployable: metrics of results.csv but thresholds (default: the main ones)",
    )
    parser.add_argument(
        "--fail-below",
        type=float,
        metavar="POINTS",
        help="exit 1 where a number is measurably worse by more than so many percentage points (its whole 95 %% interval lies "
        "beyond), or a cell or number of the first run is missing (default: exit 0 whatever changed)",
    )
    parser.add_argument("--all", action="store_true", help="show every category, also those without a measurable change")
    for kind, what in (("json", "all that is known as JSON"), ("csv", "all numbers, in 0..1"), ("markdown", "what is shown")):
        parser.add_argument(f"--{kind}", metavar="FILE", help=f"write {what}; - for the terminal, in place of the tables")


def main(arguments: argparse.Namespace) -> int:
    """Compare runs."""
    import pandas as pd

    from anoseg_bench.api import compare_runs
    from anoseg_bench.errors import UsageError
    from anoseg_bench.report.render import console, markdown
    from anoseg_bench.store.cells import to_json
    from anoseg_bench.store.files import write_atomically
    from anoseg_bench.variants import split_list

    out, points = console_of(arguments), arguments.fail_below
    if points is not None and not 0 <= points < math.inf:
        raise UsageError(f"Expected percentage points of 0 or more in --fail-below, but got {points}.")
    metrics = None if arguments.metrics is None else split_list(arguments.metrics)
    compared = compare_runs(arguments.first, *arguments.others, metrics=metrics)
    tables = [comparison.table(arguments.all) for comparison in compared]
    frames = [comparison.frame.assign(runs=f"{comparison.other} against {comparison.first}") for comparison in compared]
    written = {
        "json": to_json([comparison.as_dict() for comparison in compared]),
        "csv": pd.concat(frames).to_csv(index=False, lineterminator="\n"),
        "markdown": "\n".join(map(markdown, tables)),
    }
    asked = {kind: getattr(arguments, kind) for kind in written if getattr(arguments, kind)}
    for kind, place in asked.items():
        if place == "-":
            out.result(written[kind].rstrip("\n"))
        else:
            write_atomically(Path(place), written[kind])
    room = shutil.get_terminal_size((120, 24)).columns
    for table in tables if "-" not in asked.values() else []:
        notes = [textwrap.fill(f"* {note}", room, subsequent_indent="  ") for note in table.notes]
        out.result("\n".join([textwrap.fill(table.title, room), "", console(table), "", *notes, ""]))
    if points is None:
        return 0
    failed = False
    for comparison in compared:
        for change in comparison.fallen(points):
            out.error(f"worse by more than --fail-below {points:g}: {change}" if change.verdict == "worse" else f"lost: {change}")
            failed = True
        for reason, rows in comparison.missing.items():
            out.error(f"missing: {', '.join(row.title for row in rows)}: {reason}")
            failed = True
    return int(failed)
