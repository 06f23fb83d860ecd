"""The cells of a run as arrays (V variants, C categories, S seeds) and as long frames.

Means are unweighted: over the categories for each seed, then over the seeds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from anoseg_bench.datasets.base import GOOD
from anoseg_bench.metrics import FPR_GRID, METRICS, RATE_CURVE, RECALL_GRID, VALUE_GRID
from anoseg_bench.metrics.bootstrap import RESAMPLED, RESAMPLED_DEFECT
from anoseg_bench.store.cells import CellResult, Row, Run, slug

if TYPE_CHECKING:
    from anoseg_bench.report.intervals import Intervals

TIMING = ["train_s", "predict_s", "images_per_s", "parameters", "multiply_adds", "train_peak_mib", "predict_peak_mib"]
GRIDS = {"iou": VALUE_GRID, "iou_fpr": RATE_CURVE, "roc": FPR_GRID, "pro": FPR_GRID, "precision": RECALL_GRID}


class Names:
    """Gives file names (without extension) that are safe and unique, also where case does not count."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        """Return `name` as a file name, with a number behind it where it is taken."""
        base = candidate = slug(name)[:80]
        number = 1
        while candidate.casefold() in self._taken:
            number += 1
            candidate = f"{base}_{number}"
        self._taken.add(candidate.casefold())
        return candidate


def plain(value: Any) -> str:
    """Return a name or message from outside as one line."""
    return " ".join(str(value).split())


def device_of(made: dict[str, Any]) -> str:
    """Return in words what a cell ran on, of its provenance: device, threads, cells at once."""
    threads, cells = made.get("threads", "?"), made.get("concurrency") or 1
    several = f", {cells} cells at once" if cells != 1 else ""
    return f"{plain(made.get('device_name', 'an unknown device'))}, {threads} {'thread' if threads == 1 else 'threads'}{several}"


def number_of(value: Any) -> float:
    """Return a number of a record, NaN for null and for what is missing."""
    return math.nan if value is None else float(value)


@contextlib.contextmanager
def opened(result: CellResult) -> Iterator[Mapping[str, np.ndarray]]:
    """Give the arrays of a cell, then close their file: a run has more cells than a process may hold open."""
    try:
        yield result.arrays
    finally:
        arrays: Any = vars(result).pop("arrays", None)
        if isinstance(arrays, np.lib.npyio.NpzFile):
            arrays.close()


@dataclass(frozen=True)
class Number:
    """A mean over `n` cells with a value, of `total` asked for.

    Attributes
    ----------
    low, high : float
        Its 95 % confidence interval, NaN where there is none.
    tie : bool
        Whether it cannot be told from the best one beside it.
    """

    mean: float
    n: int
    total: int
    low: float = math.nan
    high: float = math.nan
    tie: bool = False

    @property
    def half(self) -> float:
        """Half of the width of its interval."""
        return (self.high - self.low) / 2

    @property
    def complete(self) -> bool:
        """Whether every cell has a value."""
        return self.n == self.total > 0


def summarise(block: np.ndarray) -> Number:
    """Return the mean over categories and seeds.

    Parameters
    ----------
    block : numpy.ndarray
        float, (C, S), NaN where a cell has no value.

    Examples
    --------
    >>> summarise(np.array([[0.5, 0.7], [0.6, 0.8]])).n
    4
    """
    n = int(np.isfinite(block).sum())
    if n == 0:
        return Number(math.nan, 0, block.size)
    return Number(float(np.nanmean(block)), n, block.size)


class Results:
    """The rows of a run by variant, category and seed.

    Parameters
    ----------
    run : Run
        The run; rows that are missing count like failed ones.
    allow_partial : bool
        Whether a mean over some of the cells asked for is shown.
    """

    def __init__(self, run: Run, allow_partial: bool = False) -> None:
        self.run, self.allow_partial = run, allow_partial
        self.variants = list(dict.fromkeys(row.variant for row in run.rows))
        self.categories = list(dict.fromkeys(row.category for row in run.rows))
        self.seeds = list(dict.fromkeys(row.seed for row in run.rows))
        self._rows = {(row.variant, row.category, row.seed): row for row in run.rows}

    @property
    def done(self) -> list[tuple[Row, CellResult]]:
        """The rows that have a result, with it."""
        return [(row, row.result) for row in self.run.rows if row.result is not None]

    def get(self, variant: str, category: str, seed: int) -> CellResult | None:
        """Return the result of a cell, or None."""
        row = self._rows.get((variant, category, seed))
        return row.result if row else None

    def cube(self, read: Callable[[CellResult], Any], length: int = 0) -> np.ndarray:
        """Return ``read(result)`` of all cells, (V, C, S) or with `length` (V, C, S, length); NaN without a result."""
        shape = (len(self.variants), len(self.categories), len(self.seeds))
        values = np.full((*shape, length) if length else shape, np.nan)
        for index in np.ndindex(shape):
            result = self.get(self.variants[index[0]], self.categories[index[1]], self.seeds[index[2]])
            if result is not None:
                values[index] = read(result)
        return values

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """The numbers (V, C, S) of each metric, in the order of `METRICS`, NaN where undefined."""
        return {name: self.values(name) for name in METRICS}

    def values(self, name: str) -> np.ndarray:
        """Return a number of the evaluation, (V, C, S), NaN where undefined."""
        return self.cube(lambda result: result.value(name))

    @cached_property
    def intervals(self) -> Intervals:
        """How sure the numbers are."""
        from anoseg_bench.report.intervals import Intervals

        return Intervals(self)

    def numbers(self, name: str, categories: Sequence[int], defect: str = "") -> list[Number]:
        """Return a number of each variant, the mean over some categories and all seeds, with interval and ties.

        Parameters
        ----------
        name : str
            Of the evaluation's values or, for a `defect` type (of one category), of its numbers.
        """
        members = list(categories)

        def read(result: CellResult) -> float:
            return number_of((result.record.get("defects") or {}).get(defect, {}).get(name)) if defect else result.value(name)

        means = [summarise(block) for block in self.cube(read)[:, members]]
        sure = self.intervals.of(name, members, defect)
        if sure is None:
            return means
        ties = sure.ties([number.mean if number.complete else math.nan for number in means])
        intervals = [sure.interval(v) for v in range(len(means))]
        return [
            replace(number, low=interval.low, high=interval.high, tie=v in ties) if number.complete else number
            for v, (number, interval) in enumerate(zip(means, intervals, strict=True))
        ]

    @cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """The curves (V, C, S, points) on `GRIDS`, NaN where undefined."""
        length = sum(len(grid) for grid in GRIDS.values())
        values = self.cube(_curves, length)
        return dict(zip(GRIDS, np.split(values, np.cumsum([len(grid) for grid in GRIDS.values()])[:-1], axis=-1), strict=True))

    @cached_property
    def scaled(self) -> list[str]:
        """The variants whose threshold axis is scaled on the test set."""
        scaled = {row.variant for row, result in self.done if result.record.get("scaled")}
        return [variant for variant in self.variants if variant in scaled]

    def defects(self, category: str) -> dict[str, int]:
        """Return the defect types of a category and their numbers of images."""
        found: dict[str, int] = {}
        for row, result in self.done:
            if row.category == category:
                for defect, numbers in (result.record.get("defects") or {}).items():
                    found.setdefault(defect, numbers.get("images") or 0)
        return found

    def tested(self, category: str) -> tuple[int, int]:
        """Return how many test images of a category are defective and how many normal, (0, 0) where no cell is done."""
        items: list[tuple[str, str]] = next((result.record["items"] for row, result in self.done if row.category == category), [])
        normal = sum(defect == GOOD for _, defect in items)
        return len(items) - normal, normal

    def groups(self) -> dict[str, list[int]]:
        """Return the indices of the categories of each group; one unnamed group where none is known."""
        known = {row.category: result.record.get("group") for row, result in self.done}
        found: dict[str, list[int]] = {"textures": [], "objects": [], "other": []}
        for i, category in enumerate(self.categories):
            found.setdefault(known.get(category) or "other", []).append(i)
        found = {name: members for name, members in found.items() if members}
        return {"": list(range(len(self.categories)))} if list(found) == ["other"] else found


def _curves(result: CellResult) -> np.ndarray:
    with opened(result) as arrays:
        return np.concatenate([arrays[name] if name in arrays else np.full(len(grid), np.nan) for name, grid in GRIDS.items()])


def _long(run: Run, columns: list[str], entries: Callable[[Row], list[tuple]]) -> pd.DataFrame:
    head = ["method", "variant", "dataset", "category", "seed"]
    rows = [(r.method, r.variant, r.dataset, r.category, r.seed, *entry) for r in run.rows for entry in entries(r)]
    return pd.DataFrame(rows, columns=[*head, *columns])


def results_frame(run: Run) -> pd.DataFrame:
    """Return all numbers in long form, in 0..1; NaN where undefined, and for the metrics of failed cells."""

    def entries(row: Row) -> list[tuple]:
        if row.result is None:
            return [(name, math.nan) for name in METRICS]
        names = dict.fromkeys([*METRICS, *row.result.record["values"]])
        timing = row.result.record.get("timing") or {}
        return [(n, row.result.value(n)) for n in names] + [(n, number_of(timing.get(n))) for n in TIMING]

    return _long(run, ["metric", "value"], entries)


def intervals_frame(results: Results) -> pd.DataFrame:
    """Return every number with its 95 % confidence interval in long form, in 0..1: of each category, of the mean (no category).

    `n` of `total` cells (categories and seeds) have a value; there is no interval where some have none.
    """
    rows: list[tuple] = []

    def add(category: str, members: list[int], defect: str, name: str) -> None:
        for variant, number in zip(results.variants, results.numbers(name, members, defect), strict=True):
            rows.append((variant, category, defect, name, number.mean, number.low, number.high, number.n, number.total))

    for i, category in enumerate(results.categories):
        for name in RESAMPLED:
            add(category, [i], "", name)
        for defect in results.defects(category):
            for name in RESAMPLED_DEFECT:
                add(category, [i], defect, name)
    for name in RESAMPLED:
        add("", list(range(len(results.categories))), "", name)
    return pd.DataFrame(rows, columns=["variant", "category", "defect", "metric", "value", "low", "high", "n", "total"])


def defects_frame(run: Run) -> pd.DataFrame:
    """Return the numbers of each defect type in long form, in 0..1."""

    def entries(row: Row) -> list[tuple]:
        defects = row.result.record.get("defects") or {} if row.result else {}
        return [(defect, name, number_of(value)) for defect, numbers in defects.items() for name, value in numbers.items()]

    return _long(run, ["defect", "metric", "value"], entries)
