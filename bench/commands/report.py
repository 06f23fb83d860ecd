"""`report`: tables, plots and the page of a run again, from what is stored."""

from __future__ import annotations

import argparse
from pathlib import Path

from anoseg_bench.commands.common import add_report, add_verbosity, console_of, finish

USAGE, HELP = "results/NAME", "tables and plots again from what is stored, nothing trained"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_verbosity(parser)
    add_report(parser)
    parser.add_argument("run", type=Path, help="folder of a run")


def main(arguments: argparse.Namespace) -> int:
    """Write tables and plots of a run again, from what is stored."""
    from anoseg_bench.store.cells import Run
    from anoseg_bench.store.folders import working_at

    out = console_of(arguments)
    Run.asked(arguments.run)
    with working_at(arguments.run, arguments.command_line, tell=out.error):
        return finish(Run.load(arguments.run), arguments, out, anew=True)
