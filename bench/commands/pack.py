"""`pack`: a run with its cells in one file, to take elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from anoseg_bench.commands.common import add_verbosity, console_of, name_missing

USAGE, HELP = "results/NAME", "one file of it with its cells, which every command reads elsewhere"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_verbosity(parser)
    parser.add_argument("run", type=Path, help="folder of a run, or a packed one")
    parser.add_argument("--out", type=Path, metavar="FILE.zip", help="the file (default: RUN.zip beside the folder)")
    parser.add_argument("--models", action="store_true", help="with the models that --keep-models kept, for `predict`")
    parser.add_argument("--maps", action="store_true", help="with the maps that --save-maps kept, at the images' size")
    parser.add_argument(
        "--no-pictures",
        dest="pictures",
        action="store_false",
        help="without reduced images, masks and maps: reports of it have no pictures; names of images stay",
    )


def main(arguments: argparse.Namespace) -> int:
    """Write a run into one file."""
    from anoseg_bench.errors import UsageError
    from anoseg_bench.formatting import counted, shown_path
    from anoseg_bench.store.cells import MODEL
    from anoseg_bench.store.pack import is_packed, open_run, pack

    out = console_of(arguments)
    if arguments.maps and not arguments.pictures:
        raise UsageError("Maps show what is in the images: give --maps or --no-pictures.")
    if arguments.out is None and arguments.run.is_file() and is_packed(arguments.run):
        raise UsageError(f"'{arguments.run}' is packed already; give --out FILE.zip to pack it otherwise.")
    folder = arguments.run.absolute()
    path = arguments.out or folder.with_name(f"{folder.name}.zip")
    if path.is_dir() or (path.exists() and not is_packed(path)):
        raise UsageError(
            f"Expected a new file to pack the run into, or one packed before, but '{path}' is something else; give --out."
        )
    run = open_run(arguments.run)
    cells = [row.result for row in run.rows if row.result]
    if not cells:
        raise UsageError(f"No cell of '{run.path}' has a result, so there is nothing to pack.")
    earlier = path.exists()
    pack(run, path, models=arguments.models, maps=arguments.maps, pictures=arguments.pictures)
    for what, name, option in (("models", MODEL, "--keep-models"), ("maps", "maps", "--save-maps")):
        without = sum(not (cell.folder / name).exists() for cell in cells)
        if getattr(arguments, what) and without:
            out.error(f"note: {without} of {counted(len(cells), 'cell')} had no {what} to pack; run with {option} to keep them")
    if earlier:
        out.error(f"note: the run packed in '{shown_path(path)}' before gave way to this one")
    parts = [counted(len(cells), "cell"), *(["no pictures"] if not arguments.pictures else [])]
    out.result(f"Written to {shown_path(path)}: {', '.join(parts)}, {path.stat().st_size / 2**20:.1f} MiB")
    return name_missing(run, out)
