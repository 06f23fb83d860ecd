"""What a user is told while the cells of a run go on."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean

from anoseg_bench.console import Console
from anoseg_bench.formatting import duration, shown_path
from anoseg_bench.store.cells import Row, Run
from anoseg_bench.store.claims import Holder


class Narrator:
    """Tells on the console how the cells of a run go, `slots` of them at once."""

    def __init__(self, current: Run, out: Console, slots: int = 1) -> None:
        self.current, self.out, self.slots = current, out, max(1, slots)
        self.reasons: set[str] = set()
        self.took: dict[str, list[float]] = defaultdict(list)
        self.number = {id(row): n for n, row in enumerate(sorted(current.rows, key=lambda row: row.category), 1)}

    def _title(self, row: Row) -> str:
        return f"[{self.number[id(row)]}/{len(self.number)}] {row.title}"

    def started(self, row: Row) -> None:
        """Tell that a cell runs."""
        self.out.line(self._title(row))

    def progress(self, row: Row, holder: Holder) -> None:
        """Tell how far it is."""
        self.out.progress(self._title(row), holder.stage, holder.done, holder.total, holder.loss)

    def claimed_by_another(self, row: Row, holder: Holder | None) -> None:
        """Tell that another command is at it."""
        who = f" (process {holder.pid} on {holder.host.split()[0]})" if holder else ""
        self.out.line(f"{self._title(row)}: another command is running it{who}; its result will be used")

    def ended(self, row: Row, seconds: float, trace: str) -> None:
        """Tell what came of it."""
        title = self._title(row)
        self.out.close(title)
        if row.result is None:
            self.out.error(f"{title}: failed{f': {row.error}' if row.error not in self.reasons else ', for a reason given above'}")
            self.reasons.add(row.error)
            if trace and self.out.verbosity > 0:
                self.out.error(trace)
            if (log := self.current.log_of(row)).exists():
                self.out.error(f"  log: {shown_path(log)}")
            return
        numbers = ", ".join(f"{n} {row.result.value(n):.3f}" for n in ("pixel_auroc", "iou_max", "image_auroc"))
        how = f"{seconds:.0f} s" if row.status == "done" else "by another command"
        if row.status == "done":
            self.took[row.variant].append(seconds)
        self.out.line(f"{title}: {numbers}; {how}{self._left()}")
        if (maps := row.result.folder / "maps").is_dir():
            self.out.line(f"  maps: {shown_path(maps)}")

    def _left(self) -> str:
        """Return in words how long the waiting cells should take, once one of each variant has been timed."""
        waiting = {row.key: self.took.get(row.variant) for row in self.current.rows if row.status == "waiting"}
        if not waiting or not all(waiting.values()):
            return ""
        seconds = [fmean(times or []) for times in waiting.values()]
        return f"; about {duration(max(sum(seconds) / self.slots, *seconds))} left"
