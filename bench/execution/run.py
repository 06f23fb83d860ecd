"""A plan carried out: every cell that is not stored runs, and the run's manifest says what became of each."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

from anoseg_bench.console import Console
from anoseg_bench.evaluation.datareport import note_data, read_note
from anoseg_bench.evaluation.inspection import inspect_all
from anoseg_bench.execution.engines import Setup, check_engine, make_engine
from anoseg_bench.execution.loop import Execution
from anoseg_bench.execution.narrator import Narrator
from anoseg_bench.execution.schedule import Decision, forecast, job_of, modules_of, resolve, share_out
from anoseg_bench.formatting import counted
from anoseg_bench.plan import Plan
from anoseg_bench.store.cells import Row, Run, to_json
from anoseg_bench.store.folders import working_at
from anoseg_bench.store.provenance import revision
from anoseg_bench.store.records import RunRecord
from anoseg_bench.validation import make_folder
from anoseg_bench.variants import in_order


def describe_plan(plan: Plan) -> str:
    """Return a plan in one line."""
    where = "the embedded synthetic set" if plan.is_synthetic else f"{plan.dataset.label} in {plan.dataset.root}"
    size = f"{counted(len(plan.variants), 'method')}, {counted(len(plan.categories), 'category', 'categories')}"
    return f"{size} of {where}, profile {plan.profile}, on {plan.device}"


def decide(plan: Plan, run: Run, out: Console) -> list[Decision]:
    """Inspect the images of a plan, and decide about its cells; only hashes and facts of the images are stored.

    Raises
    ------
    UsageError
        If a pattern of what to leave out matches no image, or the note about the data cannot be read.
    """
    note = read_note(plan.data_note, plan.dataset.root, plan.dataset.origin)
    inspected = inspect_all(plan.dataset, plan.categories, run.store.root / "content", plan.exclude, out, plan.rerun == "all")
    note_data(run.info, inspected, plan.holdout, plan.seeds[0], note, out)
    decisions = resolve(plan, inspected, run.store)
    stale = [decision for decision in decisions if decision.stale]
    if stale and plan.rerun not in ("stale", "all"):
        names = ", ".join(sorted({decision.variant.label for decision in stale}))
        out.error(f"note: {len(stale)} stored cells were made with different code of {names}; --rerun stale recomputes them")
    return decisions


def new_run(plan: Plan) -> Run:
    """Return the run of a plan, without rows."""
    info = RunRecord(
        command=plan.command or "a plan made in Python",
        profile=plan.profile,
        dataset=plan.dataset.label,
        synthetic=plan.is_synthetic,
        holdout=plan.holdout,
        seeds=list(plan.seeds),
        device=plan.device,
        commit=revision(),
        experiment=plan.experiment,
    )
    return Run(plan.out, info)


def rows_of(plan: Plan, decisions: Sequence[Decision]) -> list[tuple[Row, Decision]]:
    """Return the row of each decision, settled where nothing is to run, in the order of methods, categories, seeds."""
    rows = []
    for decision in decisions:
        key = decision.cell.key if decision.cell else ""
        row = Row(decision.variant.label, decision.variant.method, plan.dataset.label, decision.category, decision.seed, key)
        if decision.action == "take":
            row.settle("cached", "", decision.result)
        elif decision.action in ("leave", "fail"):
            row.settle({"leave": "skipped", "fail": "failed"}[decision.action], decision.reason)
        rows.append((row, decision))
    order = [variant.label for variant in plan.variants]
    return sorted(rows, key=lambda pair: order.index(pair[0].variant))


def run_plan(plan: Plan, out: Console | None = None) -> Run:
    """Run the cells of a plan that are not stored, and return its run, which is in its folder; see `carried_out`."""
    with carried_out(plan, out) as run:
        return run


@contextlib.contextmanager
def carried_out(plan: Plan, out: Console | None = None) -> Iterator[Run]:
    """Run the cells of a plan that are not stored, and give its run, whose folder is this command's until the block ends.

    Cells that fail are rows with a reason; the others are not lost by it.

    Parameters
    ----------
    out : Console or None
        Where to tell how it goes; None for errors only.

    Raises
    ------
    UsageError
        If the engine is unknown, the folder cannot be written, another command works at it that is no shard of the same plan, or
        what is to be left out does not exist.
    """
    out = out or Console(-1)
    check_engine(plan.engine)
    make_folder(plan.out)
    command = plan.command or "a plan made in Python"
    with working_at(plan.out, command, shared_name(plan), plan.heartbeat, out.error):
        yield _carry_out(plan, out)


def shared_name(plan: Plan) -> str:
    """Return what the shards of a plan have in common, "" for a plan that is no shard."""
    if plan.shard is None:
        return ""
    variants = [[v.method, v.label, in_order(v.config.model_dump()), v.conditions.changed] for v in plan.variants]
    asked = [plan.dataset.label, plan.dataset.root, plan.categories, plan.seeds, plan.exclude, plan.holdout, plan.device]
    return hashlib.sha256(to_json([variants, asked]).encode()).hexdigest()


def _carry_out(plan: Plan, out: Console) -> Run:
    run = new_run(plan)
    run.store.recover_all()
    decisions = decide(plan, run, out)
    rows = rows_of(plan, decisions)
    run.rows = [row for row, _ in rows]
    for row, decision in rows:
        if decision.damaged and decision.action == "run":
            aside = run.store.set_aside(row.method, row.key)
            out.error(f"{row.title}: {decision.damaged} It was set aside as '{aside}', and runs again.")
    if replaced := run.replaced():
        out.error(f"note: {replaced}")
    run.save()
    workers, threads = share_out(plan)
    by_decision = {id(decision): row for row, decision in rows}
    todo = [(by_decision[id(d)], d) for d in decisions if d.action == "run"]
    jobs = [(row, job_of(plan, run, row, decision, threads)) for row, decision in todo]
    for row in run.rows:
        if row.status == "cached":
            out.line(f"{row.title}: stored already")
    if jobs:
        setup = Setup(workers, plan.device, modules_of(decisions), plan.ray_address, plan.gpus_per_cell)
        engine = make_engine(plan.engine, setup)
        Execution(run, jobs, engine, Narrator(run, out, engine.slots), plan.timeout).go()
        run.save()
    return run


def show_plan(plan: Plan, out: Console) -> int:
    """Print what would be done about each cell, and how long it should take; runs nothing. Returns the exit code."""
    check_engine(plan.engine)
    run = new_run(plan)
    decisions = decide(plan, run, out)
    words = {"run": "to run", "take": "stored", "share": "to run", "leave": "skipped", "fail": "failed"}
    for _, decision in rows_of(plan, decisions):
        reason = f": {decision.reason}" if decision.reason else ""
        out.result(f"{decision.title:<50} {words[decision.action]}{reason}")
    todo = sum(decision.action == "run" for decision in decisions)
    ready = forecast(decisions, run.store, max(1, share_out(plan)[0]), plan.shifts)
    out.result(f"{todo} of {len(decisions)} cells to run: {ready}.")
    failed = sum(decision.action == "fail" for decision in decisions)
    if failed:
        out.error(f"error: {failed} of {len(decisions)} cells cannot run; the reasons stand above")
    return int(bool(failed))
