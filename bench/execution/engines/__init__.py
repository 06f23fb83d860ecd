"""Engines: how jobs become processes. One small interface; `anoseg_bench.execution.loop` does the rest for all of them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

from anoseg_bench.errors import UsageError
from anoseg_bench.execution.worker import Job, Outcome
from anoseg_bench.registry import nearest

#: The environment variable that tells the server of `anoseg_bench.execution.engines.local` which modules to import.
MODULES = "BENCH_PRELOAD"
ENGINES = {"local": "anoseg_bench.execution.engines.local:LocalEngine", "ray": "anoseg_bench.execution.engines.ray:RayEngine"}


@dataclass(frozen=True)
class Setup:
    """What a user chose for the engine.

    Attributes
    ----------
    workers : int
        How many cells run at once; 0 (local only): one after the other in the command's own process.
    device : str
        ``"cpu"``, ``"cuda"``, ``"mps"``.
    modules : tuple of str
        The modules that the cells will need, to be imported once where that can be shared.
    ray_address : str or None
        ``"auto"``, an address, or None for a Ray of the command's own.
    gpus : float
        Share of a GPU that each cell takes, where the device is ``"cuda"`` (Ray).
    """

    workers: int
    device: str = "cpu"
    modules: tuple[str, ...] = ()
    ray_address: str | None = None
    gpus: float = 1.0


class Task(Protocol):
    """A job that runs."""

    def outcome(self) -> Outcome | None:
        """Return what came of it; None while it runs. A process that died without a word is a failed outcome."""

    def kill(self) -> None:
        """End it and all its processes; returns when they are gone."""


class Engine(Protocol):
    """Runs jobs, each in a process of its own.

    Attributes
    ----------
    slots : int
        How many tasks may run at once.
    queues : bool
        Whether a started task may have to wait for its turn.
    """

    slots: int
    queues: bool

    def start(self, job: Job) -> Task:
        """Start a job."""

    def wait(self, tasks: list[Task], seconds: float) -> None:
        """Return when one of the tasks may have ended, at the latest after so many seconds."""

    def close(self) -> None:
        """Give everything back; no task runs any more."""


def check_engine(name: str) -> None:
    """Check that there is an engine of that name.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name not in ENGINES:
        raise UsageError(f"Unknown engine '{name}'. {nearest(name, ENGINES)}")


def make_engine(name: str, setup: Setup) -> Engine:
    """Return the engine that a user names.

    Raises
    ------
    UsageError
        If there is none of that name, or what it needs is not installed.
    """
    check_engine(name)
    module, _, cls = ENGINES[name].partition(":")
    return getattr(importlib.import_module(module), cls)(setup)
