"""`latency`: time from a picture to a decision, by the harness and by exported models."""

from __future__ import annotations

import argparse
from pathlib import Path

from anoseg_bench.commands.common import add_model, add_run_data, add_verbosity, console_of

USAGE = "--run results/NAME --category NAME --exported DIR..."
HELP = "milliseconds from a picture to a decision: the harness, and exported models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_verbosity(parser)
    add_model(parser)
    add_run_data(parser)
    parser.add_argument(
        "--method", action="append", metavar="NAME", help="a name in the run's tables; repeatable (default: all kept models)"
    )
    parser.add_argument("--exported", type=Path, nargs="+", default=[], metavar="DIR", help="folders that `export` wrote")
    parser.add_argument("--images", type=Path, nargs=1, metavar="PATH", help="the picture (default: the run's first test image)")
    parser.add_argument("--threads", default="1,all", help="separated by commas (default: 1,all)")
    parser.add_argument("--batch", default="1,8", help="images at once, separated by commas (default: 1,8)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement, at least; and 100 calls (default: 3)")
    files = "latency.csv, .json, .md, .tex, .png, .pdf"
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder for {files} (default: RUN/latency, of a packed run RUN-latency)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure kept models and their exported forms, each in a process of its own."""
    from anoseg_bench.commands.common import images_of
    from anoseg_bench.errors import UsageError
    from anoseg_bench.evaluation.predict import choose_row
    from anoseg_bench.export.latency import (
        cores,
        exported_models,
        machine,
        measure_all,
        parse_numbers,
        write_latency,
    )
    from anoseg_bench.export.write import check_whole
    from anoseg_bench.formatting import shown_path
    from anoseg_bench.methods import METHODS
    from anoseg_bench.report.latency import latency_table
    from anoseg_bench.report.render import console
    from anoseg_bench.report.results import Results
    from anoseg_bench.store.cells import MODEL, Run
    from anoseg_bench.store.latency import NAME, Latencies
    from anoseg_bench.store.pack import open_run

    out = console_of(arguments)
    threads, batch = parse_numbers(arguments.threads, "--threads", {"all": cores()}), parse_numbers(arguments.batch, "--batch", {})
    if not 0 <= arguments.seconds < 3600:
        raise UsageError(f"Expected --seconds from 0 to 3600, but got {arguments.seconds:g}.")
    for plugin in arguments.plugin:
        METHODS.match(plugin)
    run = open_run(arguments.run)
    packed = arguments.run.is_file()  # `report` unpacks it into a new folder of its name
    folder = arguments.out or (arguments.run.with_name(f"{arguments.run.stem}-{NAME}") if packed else arguments.run / NAME)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"Expected a folder for the measurements, but '{folder}' is a file; give another --out.")
    names = arguments.method or list(dict.fromkeys(row.variant for row in run.rows))
    rows = [choose_row(run, name, arguments.category, arguments.seed) for name in names]
    kept = [row for row in rows if row.result and (row.result.folder / MODEL).is_file()]
    if missing := [row.variant for row in rows if row not in kept] if arguments.method or not kept else []:
        raise UsageError(f"'{run.path}' has no model of {', '.join(missing)}; run its command again with --keep-models.")
    for row in kept:
        check_whole(row)
    models = exported_models(run, kept, arguments.exported)
    assert kept[0].result is not None
    name, read = images_of(run, kept[0], kept[0].result, arguments)[0]
    about = machine() | {"image": name}
    found = measure_all(run, kept, models, read(), threads, batch, arguments.seconds, arguments.plugin, out.line)
    measured = Latencies(machine=about, latencies=tuple(found))
    results = Results(Run(run.path, run.info, kept))
    files = write_latency(results, measured, folder)
    out.result(console(latency_table(results, measured)))
    out.result(f"Written to {shown_path(folder)}: {', '.join(sorted(file.name for file in files))}")
    return 0
