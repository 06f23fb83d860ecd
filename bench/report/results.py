"""The numbers of a run as reports show them: means with intervals and ties.

Means are unweighted: over the categories for each seed, then over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from anoseg_bench.metrics.catalogue import metric, names_resampled
from anoseg_bench.report.frame import RunCells
from anoseg_bench.report.intervals import Intervals
from anoseg_bench.store.cells import CellResult


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
    def reach(self) -> tuple[float, float]:
        """How far its interval reaches below and above it, 0 where there is none: what error bars show."""
        return (max(0.0, self.mean - self.low), max(0.0, self.high - self.mean)) if math.isfinite(self.low) else (0.0, 0.0)

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


class Results(RunCells):
    """The cells of a run, and their means with intervals; see `RunCells` for its parameters."""

    @cached_property
    def intervals(self) -> Intervals:
        """How sure the numbers are."""
        return Intervals(self)

    @cached_property
    def _numbers(self) -> dict[tuple[str, tuple[int, ...], str], list[Number]]:
        return {}

    def numbers(self, name: str, categories: Sequence[int], defect: str = "") -> list[Number]:
        """Return a number of each variant, the mean over some categories and all seeds, with interval and ties.

        Parameters
        ----------
        name : str
            Of the evaluation's values or, for a `defect` type (of one category), of its numbers.
        """
        key = (name, tuple(categories), defect)
        if key not in self._numbers:
            self._numbers[key] = self._made(name, list(categories), defect)
        return self._numbers[key]

    def _made(self, name: str, members: list[int], defect: str) -> list[Number]:
        def read(result: CellResult) -> float:
            return result.record.defects.get(defect, {}).get(name, math.nan) if defect else result.value(name)

        means = [summarise(block) for block in self.cube(read)[:, members]]
        resamples = self.intervals.of(name, members, defect)
        if resamples is None:
            return means
        ties = resamples.ties({v: number.mean if number.complete else math.nan for v, number in enumerate(means)})
        intervals = [resamples.interval(v) for v in range(len(means))]
        return [
            replace(number, low=interval.low, high=interval.high, tie=v in ties) if number.complete else number
            for v, (number, interval) in enumerate(zip(means, intervals, strict=True))
        ]


def intervals_frame(results: Results) -> pd.DataFrame:
    """Return every number with its 95 % confidence interval in long form, in 0..1: of each category, of the mean (no category).

    `n` of `total` cells (categories and seeds) have a value; there is no interval where some have none.
    """
    rows: list[tuple] = []

    def add(category: str, members: list[int], defect: str, name: str) -> None:
        if metric(name).optional and name not in results.metrics:
            return
        for variant, number in zip(results.variants, results.numbers(name, members, defect), strict=True):
            rows.append((variant, category, defect, name, number.mean, number.low, number.high, number.n, number.total))

    for i, category in enumerate(results.categories):
        for name in names_resampled():
            add(category, [i], "", name)
        for defect in results.defects(category):
            for name in names_resampled(by_defect=True):
                add(category, [i], defect, name)
    for name in names_resampled():
        add("", list(range(len(results.categories))), "", name)
    return pd.DataFrame(rows, columns=["variant", "category", "defect", "metric", "value", "low", "high", "n", "total"])
