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
    parser.add_argument("run", type=Path, help="folder of a run, or a packed one, which is unpacked")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to unpack to (default: NAME beside NAME.zip)")


def main(arguments: argparse.Namespace) -> int:
    """Write tables and plots of a run again, from what is stored."""
    from anoseg_bench.store.cells import Run
    from anoseg_bench.store.folders import working_at

    out = console_of(arguments)
    folder = folder_of(arguments.run, arguments.out)
    if not Run.asked(folder).info.pictures:
        out.error("note: no pictures: the run was packed without them")
    with working_at(folder, arguments.command_line, tell=out.error):
        return finish(Run.load(folder), arguments, out, anew=True)


def folder_of(run: Path, out: Path | None) -> Path:
    """Return the folder of a run, into which a packed one is unpacked."""
    from anoseg_bench.errors import UsageError
    from anoseg_bench.store.pack import unpack

    if not run.is_file():
        if out is not None:
            raise UsageError(f"--out is where to unpack a packed run, but '{run}' is none; its report is written into its folder.")
        return run
    if out is None and not run.suffix:
        raise UsageError(f"'{run}' has no extension to leave out for the folder's name; give --out DIR.")
    folder = out or run.with_suffix("")
    unpack(run, folder)
    return folder
