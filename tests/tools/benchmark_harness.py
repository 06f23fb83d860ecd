"""What the harness itself costs: per cell, for a run that is stored, for recognising 1,000 stored cells; and with Ray.

python -m tests.tools.benchmark_harness [--ray]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from anoseg_bench.cli import main as run_bench
from anoseg_bench.console import Console
from anoseg_bench.execution.engines import Engine, Setup, make_engine
from anoseg_bench.execution.run import decide, new_run, rows_of
from anoseg_bench.execution.schedule import job_of
from anoseg_bench.execution.worker import Job
from anoseg_bench.plan import Plan
from anoseg_bench.store.cells import Run
from anoseg_bench.validation import make_folder
from tests.helpers import ROOT, make_category

CELLS = 12


def command(data: Path, out: Path, *more: str) -> list[str]:
    """Return the arguments of a run of `random` on the small data."""
    return [
        *("--dataset", "mvtec_layout", "--data-root", str(data)),
        *("--methods", "random", "--profile", "demo"),
        "--out",
        str(out),
        *more,
    ]


def timed(arguments: list[str]) -> float:
    """Return the seconds of a command in a process of its own."""
    began = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / "run_bench.py"), *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def jobs_of(seeds: range, data: Path, out: Path) -> tuple[Run, list[Job]]:
    """Return a run and its jobs as the command would plan them."""
    plan = Plan.of("random", dataset="mvtec_layout", data_root=data, seeds=seeds, profile="demo", out=out)
    make_folder(plan.out)
    run = new_run(plan)
    rows = rows_of(plan, decide(plan, run, Console(-1)))
    run.rows = [row for row, _ in rows]
    return run, [job_of(plan, run, row, decision, 1) for row, decision in rows if decision.action == "run"]


def through(engine: Engine, jobs: list[Job]) -> list[float]:
    """Return the seconds of jobs, one after the other."""
    seconds = []
    for job in jobs:
        began = time.perf_counter()
        task = engine.start(job)
        while task.outcome() is None:
            engine.wait([task], 1.0)
        seconds.append(time.perf_counter() - began)
        assert task.outcome().status in ("done", "cached"), task.outcome()
    return seconds


def fabricate(run: Run, template: Path) -> None:
    """Copy a stored cell for every row of a run."""
    for row in run.rows:
        target = run.store.folder(row.method, row.key)
        if not target.exists():
            shutil.copytree(template, target)
            record = json.loads((target / "cell.json").read_text())
            record["seed"] = record["identity"]["trained"]["seed"] = row.seed
            (target / "cell.json").write_text(json.dumps(record))


def main() -> None:
    """Print the table."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--ray", action="store_true", help="also what Ray adds")
    arguments = parse.parse_args()
    lines = ["| what | seconds |", "|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "results" / "r"
        make_category(data)
        out.mkdir(parents=True)
        seeds = ",".join(map(str, range(CELLS)))
        run, jobs = jobs_of(range(CELLS), data, out)
        engines = {"local": Setup(1)} | ({"ray": Setup(1)} if arguments.ray else {})
        for name, setup in engines.items():
            began = time.perf_counter()
            engine = make_engine(name, setup)
            first = through(engine, [jobs[0]])[0]
            ready = time.perf_counter() - began
            again = [replace(job, replace=True) for job in jobs]
            cells = sorted(through(engine, again))
            starts = sorted(through(engine, [job for job in jobs]))
            engine.close()
            records = [json.loads(p.read_text()) for p in run.store.root.glob("random-*/cell.json")]
            own = sum(r["timing"]["train_s"] + r["timing"]["predict_s"] for r in records) / len(records)
            middle = len(cells) // 2
            lines += [
                f"| {name}: until the first cell has run (imports, start of the engine) | {ready:.2f} |",
                f"| {name}: a cell, median of {len(cells)} | {cells[middle]:.2f} |",
                f"| {name}: of that, the method's own training and prediction | {own:.3f} |",
                f"| {name}: of that, start of its process, claim and release | {starts[middle]:.2f} |",
                f"| **{name}: the harness beyond these** | **{cells[middle] - own - starts[middle]:.2f}** |",
            ]
            del first
        with contextlib.redirect_stdout(io.StringIO()):
            run_bench(["run", *command(data, out, "--seeds", seeds)])
        lines.append(
            f"| **a run of {CELLS} cells that is stored, whole command** | **{timed(command(data, out, '--seeds', seeds)):.2f}** |"
        )
        many = command(data, out.parent / "many", "--seeds", ",".join(map(str, range(1000))), "--threads", "1")
        thousand, _ = jobs_of(range(1000), data, out.parent / "many")
        fabricate(thousand, next(run.store.root.glob("random-*")))
        began = time.perf_counter()
        _, left = jobs_of(range(1000), data, out.parent / "many")
        lines.append(f"| **recognising 1,000 stored cells, {len(left)} left to run** | **{time.perf_counter() - began:.2f}** |")
        lines.append(f"| the same as a whole command, `--dry-run` | {timed([*many, '--dry-run']):.2f} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
