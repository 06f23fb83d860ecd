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
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from anoseg_bench.cli import main as run_bench
from anoseg_bench.cli import parser
from anoseg_bench.console import Console
from anoseg_bench.evaluation.inspection import inspect
from anoseg_bench.execution.engines import Engine, Setup, make_engine
from anoseg_bench.execution.schedule import settle_stored
from anoseg_bench.execution.worker import Job
from anoseg_bench.plan import parse_methods
from anoseg_bench.store.cells import Row, Run
from anoseg_bench.validation import open_dataset
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


def jobs_of(arguments: list[str]) -> tuple[Run, list[tuple[Row, Job]]]:
    """Return a run and its jobs as the command would plan them."""
    parsed: Namespace = parser().parse_args(["run", *arguments])
    _, dataset, settings = open_dataset(parsed)
    variants = parse_methods(parsed.methods, parsed.profile, settings)
    seeds = [int(s) for s in parsed.seeds.split(",")]
    run = Run(parsed.out, {"holdout": parsed.holdout, "device": "cpu", "seeds": seeds})
    run.rows = [Row(v.label, v.method, dataset.label, "widget", seed) for v in variants for seed in seeds]
    found = inspect(dataset, "widget", run.store.root / "content", [])
    return run, settle_stored(run, {v.label: v for v in variants}, dataset, {"widget": found}, parsed, Console(-1))


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
        run, jobs = jobs_of(command(data, out, "--seeds", seeds, "--threads", "1"))
        engines = {"local": Setup(1)} | ({"ray": Setup(1)} if arguments.ray else {})
        for name, setup in engines.items():
            began = time.perf_counter()
            engine = make_engine(name, setup)
            first = through(engine, [jobs[0][1]])[0]
            ready = time.perf_counter() - began
            again = [replace(job, replace=True) for _, job in jobs]
            cells = sorted(through(engine, again))
            starts = sorted(through(engine, [job for _, job in jobs]))
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
        (out.parent / "many").mkdir()
        thousand, _ = jobs_of(many)
        fabricate(thousand, next(run.store.root.glob("random-*")))
        began = time.perf_counter()
        _, left = jobs_of(many)
        lines.append(f"| **recognising 1,000 stored cells, {len(left)} left to run** | **{time.perf_counter() - began:.2f}** |")
        lines.append(f"| the same as a whole command, `--dry-run` | {timed([*many, '--dry-run']):.2f} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
