"""A run's grid before anything starts: what each row needs, what is stored already, what is left to run."""

from __future__ import annotations

import os
from argparse import Namespace
from collections import defaultdict
from statistics import median

from anoseg_bench.console import Console
from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Dataset
from anoseg_bench.errors import UsageError
from anoseg_bench.evaluation.inspection import Inspected
from anoseg_bench.execution.loop import log_of
from anoseg_bench.execution.worker import Job
from anoseg_bench.formatting import duration
from anoseg_bench.methods import METHODS
from anoseg_bench.plan import Cell, Variant, is_stale, source_hash
from anoseg_bench.store.cells import CellResult, DamagedError, Row, Run, Store

#: Jobs that run at once on a CPU, at most, where nobody says how many.
MOST_AT_ONCE = 4
RERUN = {
    "missing": "what has no result, failed ones too (default)",
    "failed": "only what failed before",
    "stale": "also what other code of its method made",
    "all": "everything",
}


def parse_shard(text: str | None) -> tuple[int, int]:
    """Return (i, n) of ``--shard i/n``, i from 1; (1, 1) for None.

    Raises
    ------
    UsageError
        If it is not of that form.
    """
    if text is None:
        return 1, 1
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise UsageError(f"Expected --shard i/n with i from 1 to n, e.g. 2/8, but got '{text}'.")
    return int(i), int(n)


def parse_duration(text: str | None) -> float | None:
    """Return seconds for ``90``, ``90s``, ``30m`` or ``2h``; None for None.

    Raises
    ------
    UsageError
        If it is not of that form, or not above 0.
    """
    if text is None:
        return None
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        seconds = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"Expected --timeout as seconds or like 90s, 30m, 2h, but got '{text}'.")
    return seconds


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_out(cells: int, arguments: Namespace, device: str) -> tuple[int, int]:
    """Return how many of a run's cells run at once, and the threads of each; where nobody says, the cores divided among them.

    On this machine's CPU several run at once, as a small network does not fill all cores. What is stored already counts too: a
    cell has as many threads after an interruption as before, and the same numbers.
    """
    workers = arguments.workers
    if workers is None:
        several = device == "cpu" and arguments.engine == "local"
        workers = max(1, min(MOST_AT_ONCE, cores(), cells)) if several else 1
    return workers, arguments.threads or max(1, cores() // max(1, workers))


def check_workers(arguments: Namespace) -> None:
    """Check how cells shall run.

    Raises
    ------
    UsageError
        If workers, threads or memory are out of range.
    """
    workers = 1 if arguments.workers is None else arguments.workers
    if workers < 0 or (arguments.threads is not None and arguments.threads < 1):
        raise UsageError("Expected --workers of at least 0 and --threads of at least 1.")
    if not 0.01 <= arguments.heartbeat < 1e6:
        raise UsageError(f"Expected --heartbeat of at least 0.01 s, but got {arguments.heartbeat}.")
    if workers == 0 and (arguments.timeout is not None or arguments.memory is not None):
        raise UsageError("--timeout and --memory need processes of their own: give --workers of at least 1.")
    if arguments.memory is not None and arguments.memory <= 0:
        raise UsageError(f"Expected --memory in GiB above 0, but got {arguments.memory}.")


def settle_stored(
    current: Run,
    variants: dict[str, Variant],
    dataset: Dataset,
    inspected: dict[str, Inspected | str],
    arguments: Namespace,
    out: Console,
) -> list[tuple[Row, Job]]:
    """Give each row its key, settle what is stored, skipped or cannot be read, and return what is left to run.

    What is damaged in the store is named and set aside.
    """
    info, store = current.info, current.store
    shard, shards = parse_shard(arguments.shard)
    jobs: list[tuple[Row, Job]] = []
    stale: list[Row] = []
    order = {category: n for n, category in enumerate(inspected)}
    for number, row in enumerate(sorted(current.rows, key=lambda row: order[row.category])):
        found = inspected[row.category]
        if isinstance(found, str):
            row.settle("failed", found)
            continue
        variant = variants[row.variant]
        cell = Cell(variant, row.dataset, row.category, row.seed, info["holdout"], info["device"], found.content)
        row.key = cell.key
        cell_name = store.name(row.method, row.key)
        result = stored(store, row, out, arguments.dry_run)
        if result is not None and is_stale(row.method, result.record):
            stale.append(row)
        enough = result is not None and result.is_enough(arguments.save_maps, arguments.keep_models)
        failed = store.failure(cell_name) is not None
        renew = {"all": True, "stale": row in stale, "failed": failed}.get(arguments.rerun, False)
        mine = number % shards == shard - 1
        wanted = (not enough or renew) and (arguments.rerun != "failed" or failed)
        if wanted and mine:
            again = renew or (result is not None and result.is_evaluated)  # else, other metrics evaluate what is kept
            if cell.key not in {job.key for _, job in jobs}:  # a variant of the same configuration gets the same result
                jobs.append((row, job_of(current, row, cell, dataset, arguments, again)))
        elif result is not None and result.is_evaluated:
            row.settle("cached", "", result)
        elif not mine:
            row.settle("skipped", f"left to another shard than {shard}/{shards}")
        else:
            row.settle("skipped", "not run yet, and --rerun failed leaves that out")
    if stale and arguments.rerun not in ("stale", "all"):
        names = ", ".join(sorted({row.variant for row in stale}))
        out.error(f"note: {len(stale)} stored cells were made by other code of {names} than it has now; --rerun stale renews them")
    return jobs


def stored(store: Store, row: Row, out: Console, dry: bool) -> CellResult | None:
    """Return a row's stored cell; what is damaged is named and set aside."""
    store.recover(store.name(row.method, row.key))
    try:
        return store.get(row.method, row.key)
    except DamagedError as error:
        told = "It will be set aside" if dry else f"It was set aside as '{store.set_aside(row.method, row.key)}'"
        out.error(f"{row.title}: {error} {told}, and runs again.")
        return None


def job_of(current: Run, row: Row, cell: Cell, dataset: Dataset, arguments: Namespace, anew: bool) -> Job:
    """Return a cell as plain data for a worker."""
    entry = DATASETS[DATASETS.match(arguments.dataset)[0]]
    return Job(
        title=row.title,
        key=cell.key,
        cell=Store.name(row.method, cell.key),
        source=source_hash(row.method),
        method=METHODS[row.method].spec or row.method,
        label=row.variant,
        config=cell.variant.config.model_dump(),
        dataset=entry.spec or entry.name,
        options=dataset.config.model_dump(),
        root=str(dataset.root.resolve()) if dataset.root else None,
        category=row.category,
        exclude=tuple(arguments.exclude),
        seed=row.seed,
        holdout=cell.holdout,
        device=cell.device,
        content=cell.content,
        store=str(current.store.root),
        log=str(log_of(current, row)),
        threads=arguments.threads,
        memory=arguments.memory,
        replace=anew,
        save_maps=arguments.save_maps,
        keep_model=arguments.keep_models,
        beat=arguments.heartbeat,
    )


def modules_of(jobs: list[tuple[Row, Job]]) -> tuple[str, ...]:
    """Return the modules of the methods that the jobs need, where the registry names them by module."""
    targets = {METHODS[row.method].target for row, _ in jobs}
    return tuple(sorted(target.partition(":")[0] for target in targets if isinstance(target, str) and ".py:" not in target))


def forecast(jobs: list[tuple[Row, Job]], store: Store, slots: int) -> str:
    """Return in words how long the jobs should take: the median of stored cells of the same method, configuration and device."""
    known: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for folder in store.root.glob("*-*"):
        method, _, key = folder.name.rpartition("-")
        try:
            result = store.get(method, key)
        except DamagedError:
            continue
        timing = result.record.get("timing") if result else None
        if result and timing:
            trained = result.record["identity"]["trained"]
            known[(trained["method"], str(sorted(trained["config"].items())), trained["device"])].append(
                timing["train_s"] + timing["predict_s"]
            )
    seconds, unknown = [], 0
    for row, job in jobs:
        config = METHODS[row.method].load_config()(**job.config).model_dump(mode="json")
        times = known.get((row.method, str(sorted(config.items())), job.device))
        if times:
            seconds.append(median(times))
        else:
            unknown += 1
    if not jobs:
        return "nothing is left to run"
    total = max(sum(seconds) / max(1, slots), max(seconds, default=0.0))
    words = f"about {duration(total)} with {slots} at once, as stored cells of the same configuration took" if seconds else ""
    blind = f"{unknown} of {len(jobs)} cells have no stored one of their configuration to learn from" if unknown else ""
    return "; ".join(part for part in (words, blind) if part)
