"""`run`, the default: run methods on a dataset and report."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from anoseg_bench.commands.common import (
    add_data,
    add_images,
    add_note,
    add_report,
    add_verbosity,
    console_of,
    finish,
    name_missing,
    program,
    report_options,
)
from anoseg_bench.experiments import EXPERIMENTS
from anoseg_bench.options import RERUN
from anoseg_bench.store.claims import BEAT

USAGE, HELP = "[options]", "run methods on a dataset and report (the default)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    for add in (add_data, add_verbosity, add_report, add_images):
        add(parser)
    parser.add_argument(
        "--methods",
        help="names, wildcards (ae_*), file.py:Class, variants 'anoseg[coord=false,label=no-coord]', separated by commas "
        "(default: anoseg, the autoencoders, gradcam and the floors)",
    )
    crossed = ", ".join(name for name, experiment in EXPERIMENTS.items() if experiment.any_methods)
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        help=f"a question, with variants, table and figure: {', '.join(EXPERIMENTS)} ({crossed}: also of --methods)",
    )
    parser.add_argument("--seeds", default="0", help="separated by commas (default: 0)")
    parser.add_argument("--profile", default="quick", help="demo, quick (default) or full; see `list`")
    parser.add_argument(
        "--holdout", type=float, default=0.1, help="share of the training images held out for thresholds (default: 0.1)"
    )
    parser.add_argument(
        "--tile",
        type=int,
        metavar="PX",
        help="cut images into squares of so many of their px, learn from these, join their maps ([tile=0]: not for this variant)",
    )
    parser.add_argument("--overlap", type=int, metavar="PX", help="what neighbouring tiles share (default: an eighth of a tile)")
    add_note(parser)
    _add_how(parser.add_argument_group("how it runs"))
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--out", type=Path, help="folder of the run (default: results/<dataset>-<profile>[-<experiment>])")
    parser.add_argument(
        "--save-maps",
        action="store_true",
        help="keep all maps as float32 TIFF; a cell stored without them or its model runs again",
    )


def _add_how(how: argparse._ArgumentGroup) -> None:
    how.add_argument("--workers", type=int, metavar="N", help="cells at once, each in a process of its own (default: on this "
                     "machine's CPU as many as it has cores, at most 4; on a GPU or a cluster 1; 0: one by one in this process, "
                     "for a debugger)")  # fmt: skip
    how.add_argument("--threads", type=int, metavar="N", help="threads of each cell (default: the cores divided among the workers)")
    how.add_argument("--timeout", metavar="TIME", help="end a cell that takes longer: seconds, or like 90s, 30m, 2h")
    how.add_argument("--memory", type=float, metavar="GIB", help="limit of the address space of each cell")
    how.add_argument("--rerun", default="missing", metavar="WHAT", help="; ".join(f"{k}: {v}" for k, v in RERUN.items()))
    how.add_argument("--shard", metavar="I/N", help="run every N-th cell only, from the I-th: for job arrays on a shared folder")
    how.add_argument("--dry-run", action="store_true", help="show the cells, which are stored, and how long the rest should take")
    how.add_argument("--keep-models", action="store_true", help="keep what methods learned, for `predict`; a cell stored without "
                     "it runs again")  # fmt: skip
    how.add_argument("--engine", default="local", help="local (default) or ray")
    how.add_argument(
        "--ray-address", metavar="ADDRESS", help="a running Ray cluster: auto, or its address (default: start one here)"
    )
    how.add_argument("--gpus-per-cell", type=float, default=1.0, metavar="SHARE", help="GPUs per cell, ray on cuda (default: 1)")
    how.add_argument("--heartbeat", type=float, default=BEAT, metavar="SECONDS", help="time between two heartbeats of a cell "
                     "(default: %(default)s); a cell silent for 60 of these is taken over")  # fmt: skip


def main(arguments: argparse.Namespace) -> int:
    """Run a grid of methods, categories and seeds, and report."""
    from anoseg_bench.execution.run import carried_out, describe_plan, show_plan
    from anoseg_bench.formatting import shown_path
    from anoseg_bench.plan import Plan

    out = console_of(arguments)
    report_options(arguments)  # what is wrong is told before anything runs
    plan = Plan.of(
        arguments.methods,
        experiment=arguments.experiment,
        dataset=arguments.dataset,
        data_root=arguments.data_root,
        category=arguments.category,
        exclude=arguments.exclude,
        seeds=arguments.seeds,
        profile=arguments.profile,
        config=arguments.config,
        settings=arguments.set,
        holdout=arguments.holdout,
        tile=arguments.tile,
        overlap=arguments.overlap,
        device=arguments.device,
        out=arguments.out,
        save_maps=arguments.save_maps,
        keep_models=arguments.keep_models,
        rerun=arguments.rerun,
        shard=arguments.shard,
        engine=arguments.engine,
        workers=arguments.workers,
        threads=arguments.threads,
        timeout=arguments.timeout,
        memory=arguments.memory,
        heartbeat=arguments.heartbeat,
        ray_address=arguments.ray_address,
        gpus_per_cell=arguments.gpus_per_cell,
        data_note=arguments.data_note,
        command=arguments.command_line,
    )
    for note in plan.notes:
        out.error(f"note: {note}")
    out.line(describe_plan(plan))
    if arguments.dry_run:
        return show_plan(plan, out)
    with carried_out(plan, out) as run:
        if arguments.shard:
            done = sum(row.result is not None for row in run.rows)
            report = f"{program()} report {shlex.quote(shown_path(run.path))}"
            out.result(f"{done} of {len(run.rows)} cells are stored. When all shards are done: {report}")
            return name_missing(run, out)
        return finish(run, arguments, out)
