"""The loop that takes a run's waiting cells through an engine: what is stored, claimed by others, timed out, failed, done."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from anoseg_bench.errors import BenchError
from anoseg_bench.execution.engines import Engine, Task
from anoseg_bench.execution.worker import Job, Outcome
from anoseg_bench.store.cells import Row, Run
from anoseg_bench.store.claims import Holder, Watch, is_gone
from anoseg_bench.store.files import uninterrupted

#: Seconds between two looks at the running cells, and between two at those that another command runs.
LOOK, LOOK_AT_OTHERS = 0.5, 1.0


class Observer(Protocol):
    """What the loop tells while it goes on; the console's business."""

    def started(self, row: Row) -> None:
        """Tell that a cell runs."""

    def progress(self, row: Row, holder: Holder) -> None:
        """Tell how far it is."""

    def claimed_by_another(self, row: Row, holder: Holder | None) -> None:
        """Tell that another command is running it, whose result will be taken."""

    def ended(self, row: Row, seconds: float, trace: str) -> None:
        """Tell what came of it."""


@dataclass
class _Running:
    row: Row
    job: Job
    task: Task
    began: float


class Execution:
    """The cells of a run that are not stored, and what became of them.

    Parameters
    ----------
    run : Run
        Its manifest is written whenever a cell is settled.
    jobs : list of (Row, Job)
        What to run, in this order.
    timeout : float or None
        Seconds after which a running cell is ended.
    """

    def __init__(
        self,
        run: Run,
        jobs: list[tuple[Row, Job]],
        engine: Engine,
        observer: Observer,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run, self.engine, self.observer, self.timeout, self.clock = run, engine, observer, timeout, clock
        self.waiting = deque(jobs)
        self.running: list[_Running] = []
        self.claimed_by_others: list[tuple[Row, Job]] = []
        beat = jobs[0][1].watch.patience if jobs else 0.0
        self.watch = Watch(run.store.claims, beat)
        self._looked = 0.0

    def go(self) -> None:
        """Run everything; an exception, Ctrl-C among them, ends what runs and releases its claims."""
        try:
            while self.waiting or self.running or self.claimed_by_others:
                self._start_some()
                self.engine.wait([r.task for r in self.running], LOOK)
                for running in list(self.running):
                    self._look_at(running)
                self._look_at_others()
        finally:
            for running in self.running:
                running.task.kill()
                running.row.settle("waiting", "not run to its end: the command was stopped")
            for row, _ in self.claimed_by_others:
                row.settle("waiting", "not run to its end: the command was stopped")
            self.engine.close()
            if self.running or self.claimed_by_others:
                self.run.save()

    def _start_some(self) -> None:
        while self.waiting and len(self.running) < self.engine.slots:
            row, job = self.waiting.popleft()
            if not job.replace and self._take_stored(row, job):
                continue
            stale = self.watch.stale(job.cell)
            if stale is None:
                self._leave_to_another(row, job)
                continue
            row.settle("running", "it runs")
            self.observer.started(row)
            began = self.clock()
            with uninterrupted():  # what has started is known to the one that ends it
                self.running.append(_Running(row, job, self.engine.start(replace(job, stale=stale)), began))

    def _take_stored(self, row: Row, job: Job, status: str = "cached", seconds: float = 0.0) -> bool:
        """Settle a row whose cell is stored by now."""
        self.run.store.recover(job.cell)
        try:
            result = self.run.store.get(row.method, row.key)
        except BenchError:
            return False  # its worker names it
        if result is None or not result.satisfies(job.save_maps, job.keep_model, job.shifts):
            return False
        row.settle(status, "", result)
        self._settled(row, seconds)
        return True

    def _is_stored(self, row: Row) -> bool:
        """Return whether there is a cell of a row, which then lacks something that the run asks for."""
        return self.run.store.folder(row.method, row.key).is_dir()

    def _leave_to_another(self, row: Row, job: Job) -> None:
        row.settle("running", "another command is running it")
        self.observer.claimed_by_another(row, self.watch.holder(job.cell))
        self.claimed_by_others.append((row, job))

    def _look_at(self, running: _Running) -> None:
        outcome = running.task.outcome()
        holder = self.watch.holder(running.job.cell) if outcome is None else None
        if self.engine.queues and outcome is None and holder is None:
            running.began = self.clock()  # it waits for its turn in a cluster; its time has not begun
        seconds = self.clock() - running.began
        if outcome is None and self.timeout is not None and seconds > self.timeout:
            running.task.kill()
            outcome = Outcome("failed", f"it took longer than the {self.timeout:g} s of --timeout")
        if outcome is None:
            if holder is not None and holder.total and not is_gone(holder):
                self.observer.progress(running.row, holder)
            return
        self.running.remove(running)
        self._settle(running, outcome, seconds)

    def _settle(self, running: _Running, outcome: Outcome, seconds: float) -> None:
        row, job = running.row, running.job
        if outcome.status == "claimed":
            self._leave_to_another(row, job)
            return
        if outcome.status == "failed" and not outcome.trace and not job.replace and self._take_stored(row, job, "done", seconds):
            return  # it died after its last act
        if outcome.status == "failed":
            row.settle("failed", outcome.error)
            if not outcome.trace:  # it died without a word, so it could not note why
                with contextlib.suppress(OSError):  # the disk may be what failed; the row says so
                    self.run.store.note_failure(job.cell, outcome.error)
        else:
            try:
                row.settle(outcome.status, "", self.run.store.get(row.method, row.key))
            except BenchError as error:
                row.settle("failed", str(error))
            if row.result is None and row.status != "failed":
                row.settle("failed", f"its worker was done, but '{self.run.store.folder(row.method, row.key)}' is not there")
        self._settled(row, seconds, outcome.trace)

    def _settled(self, row: Row, seconds: float, trace: str = "") -> None:
        self.observer.ended(row, seconds, trace)
        for other in self.run.rows:  # another variant of the same configuration has the same cell
            if other.key == row.key and other.status == "waiting":
                other.settle(row.status, row.error, row.result)
        self.run.save()

    def _look_at_others(self) -> None:
        """Take what other commands have finished, and run what they left."""
        if not self.claimed_by_others or self.clock() - self._looked < LOOK_AT_OTHERS:
            return
        self._looked = self.clock()
        for row, job in list(self.claimed_by_others):
            if self.watch.is_claimed(job.cell):
                if (holder := self.watch.holder(job.cell)) is not None and holder.total:
                    self.observer.progress(row, holder)
                continue
            self.claimed_by_others.remove((row, job))
            if self._take_stored(row, job):
                continue
            if (error := self.run.store.failure(job.cell)) is not None:
                row.settle("failed", f"{error} (in another command)")
                self._settled(row, 0.0)
            else:
                self.waiting.append((row, replace(job, replace=job.replace or self._is_stored(row))))
