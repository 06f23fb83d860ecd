"""What statistics and the page cost, on a stored run that is repeated until it has 15 categories, with four of its methods.

    python -m tests.tools.benchmark_report results/reference-run

Nothing is trained; the cells are those of the run, under several names.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from anoseg_bench.report.findings import findings
from anoseg_bench.report.page import write_page
from anoseg_bench.report.results import Results
from anoseg_bench.store.cells import Run

CATEGORIES, METHODS = 15, 4


def repeated(run: Run) -> Run:
    """Return a run of `CATEGORIES` categories and `METHODS` methods, made of the cells of a smaller one."""
    variants = list(dict.fromkeys(row.variant for row in run.rows))[:METHODS]
    categories = list(dict.fromkeys(row.category for row in run.rows))
    names = [f"{c} {n}" for n, c in zip(range(CATEGORIES), itertools.cycle(categories), strict=False)]
    of = {(row.variant, row.category): row for row in run.rows}
    rows = [replace(of[v, name.rpartition(" ")[0]], category=name) for v in variants for name in names]
    return Run(run.path.parent / f"{run.path.name}-repeated", run.info, rows)


def timed(what: str, act: Callable[[], Any]) -> Any:
    """Print a row of the table, and return what was made."""
    began = time.perf_counter()
    made = act()
    print(f"| {what} | {time.perf_counter() - began:.1f} |", flush=True)
    return made


def main() -> None:
    """Print the table."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("run", type=Path)
    results = Results(repeated(Run.load(parse.parse_args().run)))
    results.run.path.mkdir(exist_ok=True)
    size = f"{len(results.categories)} categories x {len(results.variants)} methods"
    print("| what | seconds |\n|---|---|")
    timed(f"2,000 resamples, {size}, all numbers", lambda: results.intervals.of("pixel_auroc", [0]))
    sentences = timed("the same of every defect type, and what is said in words", lambda: findings(results))
    page = timed("the page", lambda: write_page(results, sentences))
    print(f"| size of the page, MB | {page.stat().st_size / 1e6:.1f} |")


if __name__ == "__main__":
    main()
