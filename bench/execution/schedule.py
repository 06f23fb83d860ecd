"""What is to be done about each cell of a plan, before anything starts, and how long it should take."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from anoseg_bench.datasets import DATASETS
from anoseg_bench.evaluation.inspection import Inspection
from anoseg_bench.execution.worker import Job
from anoseg_bench.formatting import duration
from anoseg_bench.methods import METHODS
from anoseg_bench.plan import Cell, Plan
from anoseg_bench.shifts import NUMBER
from anoseg_bench.store.cells import CellResult, DamagedError, Row, Run, Store
from anoseg_bench.variants import Variant, is_stale, source_hash

#: Cells that run at once on a CPU, at most, where nobody says how many.
MOST_AT_ONCE = 4


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_out(plan: Plan) -> tuple[int, int]:
    """Return how many cells run at once, and the threads of each; where nobody says, the cores divided among them.

    On this machine's CPU several run at once, as a small network does not fill all cores. All cells of the plan count, those
    that are stored already, too: a cell has as many threads after an interruption as before, and the same numbers.
    """
    workers = plan.workers
    if workers is None:
        cells = len(plan.variants) * len(plan.categories) * len(plan.seeds)
        several = plan.device == "cpu" and plan.engine == "local"
        workers = max(1, min(MOST_AT_ONCE, cores(), cells)) if several else 1
    return workers, plan.threads or max(1, cores() // max(1, workers))


@dataclass(frozen=True)
class Decision:
    """What is to be done about one cell.

    Attributes
    ----------
    category : str
    cell : Cell or None
        None where the images of the category could not be read.
    action : {"run", "take", "share", "leave", "fail"}
        Run it, take what is stored, share the result of the same cell of another variant, leave it to another command, or give
        it up.
    reason : str
        Why it is left or given up, or what is known of a cell that is to run.
    result : CellResult or None
        What is stored of it, also where that is not enough.
    replace : bool
        Whether it runs although something is stored.
    damaged : str
        Why what lies in its place cannot be read.
    stale : bool
        Whether other code of its method made what is stored.
    """

    variant: Variant
    category: str
    seed: int
    cell: Cell | None
    action: str
    reason: str = ""
    result: CellResult | None = None
    replace: bool = False
    damaged: str = ""
    stale: bool = False

    @property
    def title(self) -> str:
        """The cell in words."""
        return f"{self.category} {self.variant.label} seed {self.seed}"


def resolve(plan: Plan, inspected: Mapping[str, Inspection | str], store: Store) -> list[Decision]:
    """Return what is to be done about every cell of a plan, in the order in which they run; reads the store, changes nothing.

    Parameters
    ----------
    inspected : mapping of str to Inspection or str
        Each category of the plan, or why it cannot be read.
    """
    decisions: list[Decision] = []
    running: set[str] = set()
    shard, shards = plan.shard or (1, 1)
    grid = [(category, variant, seed) for category in inspected for variant in plan.variants for seed in plan.seeds]
    for number, (category, variant, seed) in enumerate(grid):
        inspection = inspected[category]
        if isinstance(inspection, str):
            decisions.append(Decision(variant, category, seed, None, "fail", inspection))
            continue
        cell = plan.cell(variant, category, seed, inspection.content)
        decision = _decide(plan, cell, store, number % shards == shard - 1)
        if decision.action == "run" and cell.key in running:  # a variant of the same configuration gets the same result
            decision = replace(decision, action="share", reason="the same cell under another name")
        elif decision.action == "run":
            running.add(cell.key)
        decisions.append(decision)
    return decisions


def _decide(plan: Plan, cell: Cell, store: Store, mine: bool) -> Decision:
    damaged = ""
    try:
        result = store.get(cell.variant.method, cell.key)
    except DamagedError as error:
        result, damaged = None, str(error)
    stale = result is not None and is_stale(cell.variant.method, result.record.source)
    failure = store.failure(store.name(cell.variant.method, cell.key))
    renew = {"all": True, "stale": stale, "failed": failure is not None}.get(plan.rerun, False)
    complete = result is not None and result.satisfies(plan.save_maps, plan.keep_models, plan.shifts)
    wanted = (renew or not complete) and (plan.rerun != "failed" or failure is not None)

    def decide(action: str, reason: str = "", replace: bool = False) -> Decision:
        return Decision(cell.variant, cell.category, cell.seed, cell, action, reason, result, replace, damaged, stale)

    if wanted and mine:
        known = damaged or (f"failed before: {failure}" if failure else "")
        lacking = result is not None and result.record.is_evaluated and not result.can_become(plan.keep_models, plan.shifts)
        return decide("run", known, renew or lacking)  # else, what is stored is evaluated again
    if result is not None and result.record.is_evaluated:
        return decide("take")
    if not mine:
        return decide("leave", f"left to another shard than {shard_name(plan)}")
    return decide("leave", "not run yet, and --rerun failed leaves that out")


def shard_name(plan: Plan) -> str:
    """Return the shard of a plan as it is typed: ``"2/8"``."""
    return "/".join(map(str, plan.shard or (1, 1)))


def job_of(plan: Plan, run: Run, row: Row, decision: Decision, threads: int) -> Job:
    """Return a cell that is to run, as plain data for a worker."""
    cell, entry = decision.cell, DATASETS[plan.dataset_name]
    assert cell is not None
    method = cell.variant.method
    return Job(
        title=row.title,
        key=cell.key,
        cell=Store.name(method, cell.key),
        source=source_hash(method),
        method=METHODS[method].spec or method,
        label=cell.variant.label,
        config=cell.variant.config.model_dump(),
        conditions=cell.variant.conditions.changed,
        dataset=entry.spec or entry.name,
        options=plan.dataset.config.model_dump(),
        root=str(plan.dataset.root.resolve()) if plan.dataset.root else None,
        category=cell.category,
        exclude=plan.exclude,
        seed=cell.seed,
        holdout=cell.holdout,
        device=cell.device,
        content=cell.content,
        store=str(run.store.root),
        log=str(run.log_of(row)),
        threads=threads,
        memory=plan.memory,
        replace=decision.replace,
        save_maps=plan.save_maps,
        keep_model=plan.keep_models,
        shifts=plan.shifts,
        beat=plan.heartbeat,
    )


def modules_of(decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Return the modules of the methods that are to run, where the registry names them by module."""
    targets = {METHODS[d.variant.method].target for d in decisions if d.action == "run"}
    return tuple(sorted(target.partition(":")[0] for target in targets if isinstance(target, str) and ".py:" not in target))


def _alike(trained: Mapping[str, Any]) -> str:
    """Return what cells that should take as long as each other have in common."""
    return repr([trained["method"], sorted(trained["config"].items()), trained["device"], trained.get("conditions")])


def forecast(decisions: Sequence[Decision], store: Store, slots: int, shifts: bool = False) -> str:
    """Return in words how long what is to run should take: the median of stored cells of the same configuration and device.

    Parameters
    ----------
    shifts : bool
        Whether the test images are also predicted under shifts.
    """
    known: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for result in store.all():
        trained = result.record.identity.trained
        if result.record.timing and trained:
            known[_alike(trained)].append((result.record.timing.train_s, result.record.timing.predict_s))
    seconds, unknown = [], 0
    todo = [(d, d.cell) for d in decisions if d.action == "run" and d.cell]
    for decision, cell in todo:
        times = known.get(_alike(cell.trained))
        kept = decision.result is not None and not decision.replace and decision.result.can_become(False, False)
        if times:
            training, prediction = (median(each) for each in zip(*times, strict=True))
            seconds.append(training * (not kept) + prediction * (1 + NUMBER * shifts))
        else:
            unknown += 1
    if not todo:
        return "nothing to run"
    total = max(sum(seconds) / max(1, slots), max(seconds, default=0.0))
    words = f"about {duration(total)} with {slots} at once, as stored cells of the same configuration took" if seconds else ""
    blind = f"no estimate for {unknown} of {len(todo)}: no cell of the same configuration is stored yet" if unknown else ""
    return "; ".join(part for part in (words, blind) if part)
