"""What a user sees while a command runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tqdm import tqdm

from anoseg_bench.formatting import duration
from anoseg_bench.streams import make_streams_safe

#: Seconds between plain lines about work in progress.
INTERVAL = 20.0


class Console:
    """Lines and progress on the standard streams.

    Parameters
    ----------
    verbosity : int
        -1 quiet (results and errors only), 0 normal, 1 verbose (tracebacks of failed cells).
    """

    def __init__(self, verbosity: int = 0) -> None:
        make_streams_safe()
        self.verbosity = verbosity
        self._bars: dict[str, tqdm] = {}
        self._last: dict[str, float] = {}
        self._began: dict[tuple[str, str], tuple[float, int]] = {}

    def line(self, text: str = "") -> None:
        """Print a line unless quiet."""
        if self.verbosity >= 0:
            self.result(text)

    def result(self, text: str = "") -> None:
        """Print a line of the result, quiet or not."""
        self._print(text, sys.stdout)

    def error(self, text: str) -> None:
        """Print a line on standard error."""
        self._print(text, sys.stderr)

    def _print(self, text: str, stream: TextIO) -> None:
        """Print above the bars, if there are any."""
        for bar in self._bars.values():
            bar.clear()
        print(text, file=stream, flush=True)
        for bar in self._bars.values():
            bar.refresh()

    def progress(self, task: str, stage: str, done: int, total: int, loss: float | None = None) -> None:
        """Show what is done of a stage and the time left: a bar per task on a terminal, else a line every `INTERVAL` seconds."""
        if self.verbosity < 0:
            return
        suffix = {} if loss is None else {"loss": f"{loss:.4f}"}
        now = time.monotonic()
        began, before = self._began.setdefault((task, stage), (now, done))
        if sys.stderr is not None and sys.stderr.isatty():
            bar = self._bars.get(task)
            if bar is None or bar.total != total or bar.desc != f"{task} {stage}: ":
                self.close(task)
                bar = self._bars[task] = tqdm(desc=f"{task} {stage}", total=total, leave=False, dynamic_ncols=True)
            bar.set_postfix(suffix, refresh=False)
            bar.update(done - bar.n)
        elif now - self._last.setdefault(task, now) >= INTERVAL:
            self._last[task] = now
            if done > before:
                suffix["about"] = f"{duration((now - began) / (done - before) * (total - done))} left"
            print(f"  {task} {stage}: {done}/{total}" + "".join(f", {k} {v}" for k, v in suffix.items()), flush=True)

    def close(self, task: str | None = None) -> None:
        """Take a task's bar away, or all."""
        for name in [task] if task is not None else [*self._bars]:
            if (bar := self._bars.pop(name, None)) is not None:
                bar.close()
            self._last.pop(name, None)
        self._began = {key: value for key, value in self._began.items() if task not in (None, key[0])}
