"""What notebooks and scripts call: run a plan, load a run, compare runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anoseg_bench.console import Console
from anoseg_bench.execution.run import run_plan
from anoseg_bench.plan import Plan
from anoseg_bench.report.changes import RunComparison, compare_results
from anoseg_bench.report.results import Results
from anoseg_bench.store.pack import open_run


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
        The folder of the run, or the file that `pack` wrote.
    allow_partial : bool
        Whether means over some of the cells asked for are shown.

    Raises
    ------
    UsageError
        If it is no run.
    """
    return Results(open_run(Path(path)), allow_partial)


def compare_runs(first: str | Path, *others: str | Path, metrics: Sequence[str] | None = None) -> list[RunComparison]:
    """Return what changed from a run to each of some others, paired by cells and test images.

    Parameters
    ----------
    first, others : path
        Folders of runs, or files that `pack` wrote.
    metrics : sequence of str or None
        Names of metrics, in the catalogue, that have intervals; None for the main ones.

    Raises
    ------
    UsageError
        If one is no run, a metric is unknown, or a run has no cell that can be compared with the first.

    Examples
    --------
    >>> compare_runs("baseline.zip", "results/new")[0].fallen(points=1)  # doctest: +SKIP
    []
    """
    base = load_run(first)
    return [compare_results(base, load_run(other), metrics) for other in others]
