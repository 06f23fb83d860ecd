"""What notebooks and scripts call: run a plan, load a run."""

from __future__ import annotations

from pathlib import Path

from anoseg_bench.console import Console
from anoseg_bench.execution.run import run_plan
from anoseg_bench.plan import Plan
from anoseg_bench.report.results import Results
from anoseg_bench.store.cells import Run


def run(plan: Plan, *, quiet: bool = False) -> Results:
    """Run the cells of a plan that are not stored yet, and return the results of all.

    Parameters
    ----------
    plan : Plan
        What to run.
    quiet : bool
        Whether only errors are printed.

    Returns
    -------
    Results
        As `load_run` gives them. Cells that failed are rows with a reason.

    Raises
    ------
    UsageError
        If the folder cannot be written, or what is to be left out does not exist.
    """
    return Results(run_plan(plan, Console(-1 if quiet else 0)))


def load_run(path: str | Path, *, allow_partial: bool = False) -> Results:
    """Return the results of a run that is stored.

    Parameters
    ----------
    path : path
        The folder of the run.
    allow_partial : bool
        Whether means over some of the cells asked for are shown.

    Raises
    ------
    UsageError
        If the folder holds no run.
    """
    return Results(Run.load(Path(path)), allow_partial)
