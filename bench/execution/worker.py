"""What a worker does with one cell: claim it, run it, leave the result in the store. Engines call `execute`; imports no torch."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from anoseg_bench.conditions import Conditions
from anoseg_bench.datasets import DATASETS
from anoseg_bench.errors import DataError, describe
from anoseg_bench.evaluation.inspection import Inspection, inspect
from anoseg_bench.methods import METHODS
from anoseg_bench.plan import Cell
from anoseg_bench.store.cells import Store
from anoseg_bench.store.claims import BEAT, PATIENCE, Claim, FencedError, Watch, claimed_cells, is_gone, this_host
from anoseg_bench.streams import make_streams_safe
from anoseg_bench.variants import Variant, source_hash


@dataclass(frozen=True)
class Job:
    """A cell as plain data, from which a process on any machine that sees the same files can run it.

    Attributes
    ----------
    title : str
        The cell in words.
    key, cell : str
        Hash and name of the cell in the store, as the planner computed them.
    source : str
        Hash of the method's code at that time.
    method, dataset : str
        As the registries know them, or ``/path/file.py:Class``.
    config, options : dict
        The configurations of method and dataset, complete.
    conditions : dict
        What the harness does otherwise for the variant.
    root : str or None
        The dataset's folder.
    exclude : tuple of str
        Patterns of images to leave out.
    store, log : str
        The folder of the store; the file for the worker's output.
    threads : int
        For the numerical libraries.
    memory : float or None
        Limit of the worker's address space, GiB.
    replace : bool
        Whether a stored cell is run again.
    stale : str
        The state of a claim that the command found stale, see `anoseg_bench.store.claims.Claim.take`.
    """

    title: str
    key: str
    cell: str
    source: str
    method: str
    label: str
    config: dict[str, Any]
    dataset: str
    options: dict[str, Any]
    root: str | None
    category: str
    exclude: tuple[str, ...]
    seed: int
    holdout: float
    device: str
    content: str
    store: str
    log: str
    threads: int
    memory: float | None = None
    replace: bool = False
    save_maps: bool = False
    keep_model: bool = False
    shifts: bool = False
    beat: float = BEAT
    stale: str = ""
    conditions: dict[str, Any] = field(default_factory=dict)

    @property
    def watch(self) -> Watch:
        """A new observer of the store's claims."""
        return Watch(Store(Path(self.store)).claims, self.beat * PATIENCE)


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes
    ----------
    status : {"done", "cached", "failed", "claimed"}
        "cached": it was stored when the worker had claimed it; "claimed": another process runs it.
    error : str
        Why it failed, in one line.
    trace : str
        The traceback.
    """

    status: str
    error: str = ""
    trace: str = ""


def method_name(spec: str) -> str:
    """Return a method's name in the registry; what a file or module defines is registered."""
    return METHODS.match(spec)[0]


def rebuild(job: Job) -> tuple[Cell, Inspection]:
    """Return the cell and the category that a job means.

    Raises
    ------
    DataError
        If the images are no longer those that were planned with.
    """
    name = method_name(job.method)
    variant = Variant(name, job.label, METHODS[name].load_config()(**job.config), Conditions(**job.conditions))
    cls = DATASETS[DATASETS.match(job.dataset)[0]].load()
    dataset = cls(Path(job.root) if job.root else None, cls.Config(**job.options))
    inspection = inspect(dataset, job.category, Path(job.store) / "content", list(job.exclude))
    cell = Cell(variant, dataset.label, job.category, job.seed, job.holdout, job.device, inspection.content)
    if inspection.content != job.content:
        raise DataError(f"The images of '{job.category}' changed since the command began; run it again.")
    if cell.key != job.key or source_hash(name) != job.source:
        raise DataError(f"The method or a file of '{job.label}' changed since the command began; run it again.")
    return cell, inspection


def execute(job: Job) -> Outcome:
    """Run a job in this process, under a claim; what the method raises is an outcome."""
    store = Store(Path(job.store))
    claim = Claim.take(job.watch, job.cell, job.stale, job.beat)
    if claim is None:
        return Outcome("claimed")
    together = [1]

    def count() -> None:
        others = claimed_cells(store.claims).values()
        together[0] = max(together[0], sum(holder.host == this_host() and not is_gone(holder) for holder in others))

    count()
    me = os.getpid()
    with claim.beating(job.beat, count):
        try:
            return _run(job, store, claim, lambda: together[0])
        except FencedError:
            return Outcome("claimed")
        except (Exception, SystemExit) as error:  # the boundary of a cell: whatever a method does costs its cell only
            reason = f"it called sys.exit({error})" if isinstance(error, SystemExit) else describe(error)
            outcome = Outcome("failed", reason, traceback.format_exc())
            with contextlib.suppress(OSError):  # the disk may be what failed; the outcome says so
                store.note_failure(job.cell, reason)
            return outcome
        finally:
            if os.getpid() != me:  # a copy that a method forked off and let go on
                os._exit(1)


def _run(job: Job, store: Store, claim: Claim, concurrency: Callable[[], int]) -> Outcome:
    name = method_name(job.method)
    there = store.get(name, job.key)
    if there is not None and there.satisfies(job.save_maps, job.keep_model, job.shifts) and not job.replace:
        return Outcome("cached")
    store.note_failure(job.cell, None)
    claim.progress("loading", 0, 0)
    from threadpoolctl import threadpool_limits

    from anoseg_bench.evaluation.cell import Keep, evaluate_again, run_cell

    cell, inspection = rebuild(job)
    maps, model, shifts = (there.has_maps, there.has_model, there.has_shifts) if there else (False,) * 3  # other runs asked for it
    keep = Keep(job.save_maps or maps, job.keep_model or model, job.shifts or shifts, job.replace or there is not None, claim)
    with threads_of_torch(job.threads), threadpool_limits(job.threads):
        if job.replace or there is None or not evaluate_again(cell, inspection.category, store, there, claim.progress, keep):
            run_cell(cell, inspection.category, store, claim.progress, keep, concurrency)
    return Outcome("done")


@contextlib.contextmanager
def threads_of_torch(number: int) -> Iterator[None]:
    """Let torch use so many threads in the block; after it as many as before, where the process goes on."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def execute_logged(job: Job) -> Outcome:
    """Run a job in this process, which is the worker's own: its output goes to the job's log, its memory is limited."""
    make_streams_safe()
    with output_to(Path(job.log)):
        _log(f"{job.title}, process {os.getpid()}, {job.threads} threads")
        if job.memory is not None:
            import resource

            size = int(job.memory * 2**30)
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
        try:
            outcome = execute(job)
        except Exception as error:  # the boundary of a process: what cannot even begin is an outcome, too
            outcome = Outcome("failed", describe(error), traceback.format_exc())
        with contextlib.suppress(OSError):  # as in `_log`
            print(outcome.trace, end="", flush=True)
        _log(f"{outcome.status} {outcome.error}")
    return outcome


def _log(text: str) -> None:
    """Print a line with the time; where the log's disk is full it is lost, and with it nothing of the cell."""
    with contextlib.suppress(OSError):
        print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}", flush=True)


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send the process's standard output and error, as the system sees them, to a file during the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = {stream: os.dup(stream) for stream in (1, 2)}
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    try:
        for stream in saved:
            os.dup2(file, stream)
        yield
    finally:
        for python in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                python.flush()
        for stream, original in saved.items():
            os.dup2(original, stream)
            os.close(original)
        os.close(file)
