"""How sure the numbers of a run are: a bootstrap over test images and seeds, and what it says of methods side by side.

Resampled are the test images of a category, normal ones and each defect type to their own numbers, the same for all methods, and
where there are several, the seeds (hierarchical: a resample draws seeds, then averages over them). Categories are fixed: they are
the benchmark. Training and hold-out vary with the seed only, so one seed says nothing of them.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anoseg_bench.metrics.bootstrap import centred, draw, resampled, resampled_defect
from anoseg_bench.metrics.catalogue import names_resampled
from anoseg_bench.report.frame import RunCells, opened
from anoseg_bench.store.cells import CellResult

#: Resamples, and the share of them that an interval holds.
RESAMPLES, LEVEL = 2000, 0.95

Resampled = dict[str, np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval, NaN where undefined."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2

    @property
    def holds_zero(self) -> bool:
        """Whether a difference of zero lies in it."""
        return self.low <= 0 <= self.high


def percentiles(values: np.ndarray) -> Interval:
    """Return the percentile interval of resampled values, (B,)."""
    if not np.isfinite(values).any():
        return Interval(math.nan, math.nan)
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))


def _seeded(text: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


@dataclass(frozen=True)
class Resamples:
    """A number of all variants on the same resamples.

    Attributes
    ----------
    values : numpy.ndarray
        float64, (V, B), NaN where undefined.
    """

    values: np.ndarray

    def interval(self, variant: int) -> Interval:
        """Return the interval of a variant's number."""
        return percentiles(self.values[variant])

    def difference(self, variant: int, other: int) -> Interval:
        """Return the interval of the difference of two variants."""
        return percentiles(self.values[variant] - self.values[other])

    def ties(self, means: Sequence[float]) -> set[int]:
        """Return the variants that cannot be told from the best one: the interval of the difference holds zero."""
        some = [v for v, mean in enumerate(means) if math.isfinite(mean) and np.isfinite(self.values[v]).all()]
        if len(some) < 2:
            return set()
        best = max(some, key=lambda v: means[v])
        return {v for v in some if v != best and self.difference(v, best).holds_zero}


class Intervals:
    """Resampled numbers of a run.

    Parameters
    ----------
    results : RunCells
        The run's cells.
    resamples : int
        How many.
    """

    def __init__(self, results: RunCells, resamples: int = RESAMPLES) -> None:
        self.results, self.resamples = results, resamples
        self._defects: dict[tuple[int, str], dict[str, np.ndarray]] = {}

    def _average(self, category: int, one: Callable[[CellResult, np.ndarray], Resampled]) -> list[Resampled]:
        """Return what `one` gives for the cells of each variant, averaged over resampled seeds; {} where a cell is missing."""
        results, number = self.results, self.resamples
        name, seeds = results.categories[category], len(results.seeds)
        drawn = _seeded("seeds").integers(seeds, size=(number, seeds))
        often = np.stack([(drawn == s).mean(axis=1) for s in range(seeds)])  # (S, B)
        weights: dict[str, np.ndarray] = {}  # one set of test images, but where methods had others
        averaged: list[Resampled] = []
        for variant in results.variants:
            cells = [results.get(variant, name, seed) for seed in results.seeds]
            done = [cell for cell in cells if cell is not None]
            if len(done) < len(cells):
                averaged.append({})
                continue
            for cell in done:
                content = cell.record.content
                if content not in weights:
                    weights[content] = draw([d for _, d in cell.record.items], number, _seeded(f"{name} {content}"))
            per_seed = [one(cell, weights[cell.record.content]) for cell in done]
            averaged.append({key: sum(often[s] * per_seed[s][key] for s in range(seeds)) for key in per_seed[0]})
        return averaged

    def _stacked(self, averaged: list[Resampled], names: Sequence[str]) -> dict[str, np.ndarray]:
        none = np.full(self.resamples, np.nan)
        return {name: np.stack([of.get(name, none) for of in averaged]) for name in names}

    @cached_property
    def _values(self) -> dict[str, np.ndarray]:
        """The numbers on resamples, (V, C, B) by name, NaN where undefined."""
        columns = [self._stacked(self._average(c, _of_cell), names_resampled()) for c in range(len(self.results.categories))]
        none = np.empty((len(self.results.variants), 0, self.resamples))
        return {name: np.stack([column[name] for column in columns], axis=1) if columns else none for name in names_resampled()}

    def _of_defect(self, category: int, defect: str) -> dict[str, np.ndarray]:
        """Return the numbers of one defect type on resamples, (V, B) by name."""
        key = (category, defect)
        if key not in self._defects:
            one = functools.partial(_of_defect, defect=defect)
            self._defects[key] = self._stacked(self._average(category, one), names_resampled(by_defect=True))
        return self._defects[key]

    def of(self, name: str, categories: Sequence[int], defect: str = "") -> Resamples | None:
        """Return the intervals of a number of all variants, the mean over some categories; None where none are made.

        Parameters
        ----------
        defect : str
            A defect type, of one category.
        """
        if defect:
            samples = self._of_defect(categories[0], defect)
            return Resamples(samples[name]) if name in samples else None
        if name not in names_resampled():
            return None
        return Resamples(self._values[name][:, list(categories)].mean(axis=1))


def _per_image(cell: CellResult) -> dict[str, np.ndarray]:
    """Return what a cell keeps of its images; {} where another tool or an old version kept nothing."""
    with opened(cell) as arrays:
        return {name: arrays[name] for name in arrays if not name.startswith("map/")} if "positives" in arrays else {}


def _of_cell(cell: CellResult, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers of a cell on resamples, (B,), around its own."""
    per_image = _per_image(cell)
    if not per_image:
        return {name: np.full(len(weights) - 1, np.nan) for name in names_resampled()}
    thresholds = {name: cell.value(name) for name in ("threshold_deployable", "image_threshold_deployable")}
    values = resampled(per_image, weights, thresholds, not cell.record.scaled, [defect for _, defect in cell.record.items])
    return {name: centred(values[name], cell.value(name)) for name in names_resampled()}


def _of_defect(cell: CellResult, weights: np.ndarray, defect: str) -> dict[str, np.ndarray]:
    """Return the numbers of a defect type of a cell on resamples, (B,), around its own."""
    per_image, own = _per_image(cell), cell.record.defects.get(defect, {})
    if not per_image or not own:
        return {name: np.full(len(weights) - 1, np.nan) for name in names_resampled(by_defect=True)}
    members = np.array([d == defect for _, d in cell.record.items])
    names = [f"{prefix}threshold_{which}" for prefix in ("", "image_") for which in ("oracle", "deployable")]
    values = resampled_defect(per_image, weights, members, {name: cell.value(name) for name in names})
    return {name: centred(values[name], own.get(name, math.nan)) for name in names_resampled(by_defect=True)}
