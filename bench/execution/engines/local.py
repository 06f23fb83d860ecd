"""The engine of one machine: each cell in a process of its own, forked from a server that has imported torch already."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from types import ModuleType
from typing import Any

from anoseg_bench import IMPORT_PATH
from anoseg_bench.datasets import DATASETS
from anoseg_bench.errors import describe
from anoseg_bench.execution.engines import MODULES, Setup, Task
from anoseg_bench.execution.worker import Job, Outcome, execute, execute_logged
from anoseg_bench.methods import METHODS
from anoseg_bench.store.cells import Store

_PR_SET_PDEATHSIG = 1
#: Seconds that a process has to end by itself once its result is there.
GRACE = 10.0
#: For glibc (where it is old, or another, nothing): large tensors lie in huge pages, of which the system gives a layer hundreds
#: at once. A backbone takes a third less time for batches of images of 256 px.
ALLOCATION = "glibc.malloc.hugetlb=1"


def _child(pipe: Connection, job: Job, gpu: int | None) -> None:
    """Run a job in this new process; it and all that it started end when the parent does."""
    os.setsid()  # Ctrl-C is the parent's business, and the whole group can be ended at once
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)

    def follow() -> None:
        with contextlib.suppress(EOFError, OSError):
            pipe.recv()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, name="follows the parent", daemon=True).start()
    me = os.getpid()
    try:
        outcome = execute_logged(job)
    except (OSError, ValueError) as error:  # the log, or the limit of memory
        outcome = Outcome("failed", describe(error))
    if os.getpid() == me:
        pipe.send(outcome)
        os._exit(0)  # whatever threads and exit handlers a method left behind


class _Process:
    """A task: one process."""

    def __init__(self, context: Any, job: Job, slots: list[int], gpu: int | None) -> None:
        self.job, self.slots, self.gpu = job, slots, gpu
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_child, args=(theirs, job, gpu), name=job.title)
        with _script_hidden(job):
            self.process.start()
        theirs.close()
        self._outcome: Outcome | None = None

    def outcome(self) -> Outcome | None:
        if self._outcome is None:
            ended = not self.process.is_alive()  # asked first: its last word is in the pipe then
            if self.pipe.poll():
                with contextlib.suppress(EOFError, OSError):
                    self._outcome = self.pipe.recv()
            if self._outcome is None and ended:
                self._outcome = Outcome("failed", _cause(self.process.exitcode))
            if self._outcome is not None:
                self.process.join(GRACE)
                self.kill()
        return self._outcome

    def kill(self) -> None:
        pid = self.process.pid
        assert pid is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # also what the method started
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()
        Store(Path(self.job.store)).abandon(self.job.cell, pid)
        if self.gpu is not None:
            self.slots.append(self.gpu)
            self.gpu = None


def _cause(code: int | None) -> str:
    """Return what an exit code says of a process that left no result."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory: give it fewer --workers" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with exit code {code} before it had a result"


@contextlib.contextmanager
def _script_hidden(job: Job) -> Iterator[None]:
    """Keep a new process from running the user's script again, which it would do first; only a class defined there needs that."""
    main = sys.modules["__main__"]
    entries = [registry[name] for registry, name in ((METHODS, job.method), (DATASETS, job.dataset)) if name in registry.names()]
    if any(entry.is_of_script for entry in entries):
        yield
        return
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Here:
    """A task that ran in this process, for a debugger; the working folder is as before."""

    def __init__(self, job: Job) -> None:
        folder = Path.cwd()
        try:
            self._outcome = execute(job)
        finally:
            os.chdir(folder)

    def outcome(self) -> Outcome:
        return self._outcome

    def kill(self) -> None:
        pass


class LocalEngine:
    """Runs each job in a process of its own on this machine."""

    queues = False

    def __init__(self, setup: Setup) -> None:
        self.slots = max(1, setup.workers)
        self.here = setup.workers == 0
        self.gpus: list[int] = []
        if setup.device == "cuda" and not self.here:
            import torch

            self.gpus = [slot % torch.cuda.device_count() for slot in range(self.slots)]
        if self.here:
            return
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self.context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._start_server(setup.modules)

    def _start_server(self, modules: tuple[str, ...]) -> None:
        """Start the server that workers are forked from, which imports their modules while the command still plans."""
        from multiprocessing import forkserver, resource_tracker

        resource_tracker.ensure_running()  # first, as it lets signals through again where it starts
        self.context.set_forkserver_preload(["anoseg_bench.execution.engines.preload"])
        before = {name: os.environ.get(name) for name in ("PYTHONPATH", MODULES, "GLIBC_TUNABLES")}
        path = os.pathsep.join(filter(None, [str(IMPORT_PATH), before["PYTHONPATH"]]))
        os.environ |= {"PYTHONPATH": path, MODULES: " ".join(modules)}
        os.environ.setdefault("GLIBC_TUNABLES", ALLOCATION)
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the server inherits it: Ctrl-C is not its business
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def start(self, job: Job) -> Task:
        """Start a job."""
        if self.here:
            return _Here(job)
        return _Process(self.context, job, self.gpus, self.gpus.pop(0) if self.gpus else None)

    def wait(self, tasks: list[Task], seconds: float) -> None:
        """Return when one of the tasks may have ended, at the latest after so many seconds."""
        pipes = [task.pipe for task in tasks if isinstance(task, _Process)]
        if pipes:
            wait_for([*pipes, *(task.process.sentinel for task in tasks if isinstance(task, _Process))], seconds)
        elif not tasks:
            time.sleep(seconds)

    def close(self) -> None:
        """Give everything back."""
