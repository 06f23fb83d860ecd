"""`status`: where the cells of a run stand, from its manifest and the store alone, also while commands work at it."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anoseg_bench.commands.common import add_verbosity, console_of
from anoseg_bench.formatting import duration

if TYPE_CHECKING:
    from anoseg_bench.store.cells import Row, Run
    from anoseg_bench.store.claims import Holder, Watch

USAGE, HELP = "results/NAME", "state of its cells (method, category, seed), also during a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_verbosity(parser)
    parser.add_argument("run", type=Path, help="folder of a run")


def main(arguments: argparse.Namespace) -> int:
    """Print where the cells of a run stand, also while another command works at it."""
    from anoseg_bench.store.pack import open_run

    console_of(arguments).result(table(open_run(arguments.run)))
    return 0


@dataclass(frozen=True)
class State:
    """Where a row stands.

    Attributes
    ----------
    name : {"waiting", "running", "done", "cached", "skipped", "failed"}
    detail : str
        Progress and time left, or the reason.
    """

    name: str
    detail: str = ""


def state_of(run: Run, row: Row, watch: Watch) -> State:
    """Return where a row stands; "running" also where the command that ran it may have died elsewhere a moment ago."""
    cell = run.store.name(row.method, row.key)
    holder = watch.holder(cell) if row.key and watch.is_claimed(cell) else None
    if holder is not None:
        return State("running", progress(holder))
    if row.result is not None or row.status in ("failed", "skipped"):
        return State(row.status, row.error)
    return State("waiting", "its command was stopped" if row.status == "running" else "")


def progress(holder: Holder) -> str:
    """Return in words how far a holder is, and where it works."""
    where = f"process {holder.pid} on {holder.host.split()[0]}"
    if not holder.total:
        return f"{holder.stage}, {where}"
    loss = "" if holder.loss is None else f", loss {holder.loss:.4f}"
    left = ""
    if holder.stage == "train" and holder.done and (spent := time.time() - holder.since) > 0:
        left = f", about {duration(spent / holder.done * (holder.total - holder.done))} left"
    return f"{holder.stage} {holder.done}/{holder.total}{loss}{left}, {where}"


def table(run: Run) -> str:
    """Return the states of all cells as lines, and their counts."""
    from anoseg_bench.store.claims import Watch

    watch = Watch(run.store.claims)
    states = [(row, state_of(run, row, watch)) for row in run.rows]
    lines = [f"{row.title:<50} {state.name:<8} {state.detail}".rstrip() for row, state in states]
    names = [state.name for _, state in states]
    counts = ", ".join(f"{names.count(n)} {n}" for n in ("done", "cached", "running", "waiting", "failed", "skipped") if n in names)
    return "\n".join([*lines, f"{len(states)} cells: {counts}"])
