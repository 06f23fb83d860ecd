"""What a user sees while a command runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

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
        self.verbosity = verbosity
        self._bar: tqdm | None = None
        self._task = ""
        self._last = time.monotonic()

    def line(self, text: str = "") -> None:
        """Print a line unless quiet."""
        if self.verbosity >= 0:
            self.result(text)

    def result(self, text: str = "") -> None:
        """Print a line of the result, quiet or not."""
        self.close()
        print(text, flush=True)

    def error(self, text: str) -> None:
        """Print a line on standard error."""
        self.close()
        print(text, file=sys.stderr, flush=True)

    def progress(self, task: str, done: int, total: int, loss: float | None = None) -> None:
        """Show that `done` of `total` is done: a bar on a terminal, else a line every `INTERVAL` seconds."""
        if self.verbosity < 0:
            return
        if task != self._task:
            self.close()
            self._task, self._last = task, time.monotonic()
        suffix = {} if loss is None else {"loss": f"{loss:.4f}"}
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=total, desc=task, leave=False, dynamic_ncols=True)
            self._bar.set_postfix(suffix, refresh=False)
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._last >= INTERVAL:
            self._last = time.monotonic()
            print(f"  {task}: {done}/{total}" + "".join(f", {k} {v}" for k, v in suffix.items()), flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
