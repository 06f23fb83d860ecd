"""How sure the numbers of a run are: confidence intervals of each, and of differences between methods.

An interval stands for other test images like these (normal ones and each defect type resampled to their own numbers), for another
choice of the held-out images that deployable thresholds come from, and, where there are several seeds, for other trainings.
Categories are fixed: they are the benchmark. One seed says nothing of trainings.

Of each number of a cell there are two things: its values on resamples, which are the same for all methods and tell methods apart,
and draws of its confidence distribution (`anoseg_bench.metrics.confidence`), whose quantiles are the interval's ends. Means over
categories and seeds are means of either; seeds are resampled, too.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from anoseg_bench.metrics import confidence
from anoseg_bench.metrics.bootstrap import Choices, choices, draw, resampled, resampled_defects, strata_of
from anoseg_bench.metrics.catalogue import names_resampled
from anoseg_bench.metrics.confidence import Draws
from anoseg_bench.report.frame import RunCells, opened
from anoseg_bench.store.cells import CellResult

#: Resamples, and the share of them that an interval holds.
RESAMPLES, LEVEL = 2000, 0.95
#: What is kept of each number, (B,): values on resamples, and draws for the lower and the upper end.
LAYERS = ("values", "low", "high")


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval, NaN where undefined."""

    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether a difference of zero lies in it, or nothing is known of it."""
        return not (self.low > 0 or self.high < 0)


def _quantile(values: np.ndarray, share: float) -> float:
    return float(np.nanquantile(values, share)) if np.isfinite(values).any() else math.nan


def percentiles(values: np.ndarray, high: np.ndarray | None = None) -> Interval:
    """Return the interval of draws, (B,); of two kinds of them for its two ends, where there are."""
    tail = (1 - LEVEL) / 2
    return Interval(_quantile(values, tail), _quantile(values if high is None else high, 1 - tail))


def _seeded(text: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


@dataclass(frozen=True)
class Sample:
    """The resamples of a category, the same for all methods and seeds.

    Attributes
    ----------
    defects, positives : numpy.ndarray
        (M,): of each test image the defect type and the number of defective pixels.
    strata : list of numpy.ndarray
        Of each stratum the numbers of its images.
    weights : numpy.ndarray
        (B + 1, M): how often each test image is in each resample.
    quantiles : numpy.ndarray
        (B,): of rates and of the AUROC of images.
    text : str
        Begins the resamples of the held-out images.
    """

    defects: np.ndarray
    positives: np.ndarray
    strata: list[np.ndarray]
    weights: np.ndarray
    quantiles: np.ndarray
    text: str

    @cached_property
    def slopes(self) -> np.ndarray:
        """What turns values on resamples into influences of images, (B, M)."""
        return confidence.slopes_of(self.weights)

    @classmethod
    def of(cls, cell: CellResult, category: str, number: int) -> Sample:
        """Draw them for the test images of a cell."""
        text = f"{category} {cell.record.content}"
        defects = [defect for _, defect in cell.record.items]
        with opened(cell) as arrays:
            positives = arrays["positives"] if "positives" in arrays else np.zeros(len(defects))
        strata = strata_of(defects, positives)
        quantiles = confidence.shares(number, _seeded(f"{text} quantiles"))
        return cls(np.array(defects, object), positives, strata, draw(strata, number, _seeded(text)), quantiles, text)

    def members(self, defect: str = "") -> np.ndarray:
        """Return which images are defective, (M,) bool; of one type, where it is named."""
        return (self.positives > 0) & ((self.defects == defect) | (defect == ""))

    def rests_on(self, name: str, defective: np.ndarray) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Return the strata of a number of some defective images and all normal ones, and how much each image counts in it."""
        counted = defective | (self.positives == 0)
        strata = [some[counted[some]] for some in self.strata]
        pooled = not name.startswith(("image_", "aupro", "aupimo", "spro"))
        return [some for some in strata if len(some)], self.positives * defective if pooled else None

    def choices(self, cell: CellResult, arrays: dict[str, np.ndarray]) -> Choices:
        """Return the deployable thresholds of a cell on resamples of its held-out images."""
        held_out = cell.record.images.held_out
        rng = _seeded(f"{self.text} held out {cell.record.seed}")
        weights = draw([np.arange(held_out)] if held_out else [], len(self.weights) - 1, rng)
        return choices(arrays, cell.value("image_threshold_deployable"), weights)


@dataclass(frozen=True)
class Part:
    """What a category adds to a number on the same resamples, (V, B) for all variants; whose images, and which number it is."""

    values: np.ndarray
    samples: Sequence[Sample | None]
    name: str
    defect: str

    @cached_property
    def _influences(self) -> list[tuple[list[np.ndarray], np.ndarray | None]]:
        """Of each variant the influences of the images of each stratum, and how much each image counts."""
        found: list[tuple[list[np.ndarray], np.ndarray | None]] = []
        for values, sample in zip(self.values, self.samples, strict=True):
            if sample is None or not np.isfinite(values).any():
                found.append(([], None))
                continue
            strata, sizes = sample.rests_on(self.name, sample.members(self.defect))
            found.append((confidence.influences_of(values, sample.slopes, strata), sizes))
        return found

    def uncertainty(self, variant: int, other: int) -> list[tuple[float, float]]:
        """Return the variance of the difference of two variants with its degrees of freedom; of each, where images differ."""
        (mine, sizes), (its, its_sizes) = self._influences[variant], self._influences[other]
        if self.samples[variant] is self.samples[other]:
            return [confidence.uncertainty([one - another for one, another in zip(mine, its, strict=True)], sizes)]
        return [confidence.uncertainty(mine, sizes), confidence.uncertainty(its, its_sizes)]


@dataclass(frozen=True)
class Resamples:
    """A number of all variants on the same resamples.

    Attributes
    ----------
    values : numpy.ndarray
        float64, (V, B), NaN where undefined.
    low, high : numpy.ndarray
        float64, (V, B): draws for the ends of intervals.
    parts : sequence of Part
        Of each category.
    seeds : numpy.ndarray
        (B + 1, S): how often each seed is in a resample.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    parts: Sequence[Part]
    seeds: np.ndarray

    def interval(self, variant: int) -> Interval:
        """Return the interval of a variant's number."""
        return percentiles(self.low[variant], self.high[variant])

    def difference(self, variant: int, other: int) -> Interval:
        """Return the interval of the difference of two variants, NaN where one of them has none."""
        if np.isnan(self.low[[variant, other]]).all(axis=1).any():
            return Interval(math.nan, math.nan)
        difference = self.values[variant] - self.values[other]
        if not np.isfinite(difference).any():
            return Interval(math.nan, math.nan)
        parts = [one for part in self.parts for one in part.uncertainty(variant, other)]
        count = self.seeds.shape[1]
        if count > 1:
            of_seeds = confidence.influences_of(difference, confidence.slopes_of(self.seeds), [np.arange(count)])
            parts.append(confidence.uncertainty(of_seeds, None))
        return Interval(*confidence.around_mean(difference, parts, LEVEL))

    def less(self, other: Resamples) -> Resamples:
        """Return this number less another one of the same categories."""
        parts = [replace(mine, values=mine.values - its.values) for mine, its in zip(self.parts, other.parts, strict=True)]
        values, low, high = self.values - other.values, self.low - other.high, self.high - other.low
        return Resamples(values, low, high, parts, self.seeds)

    def ties(self, means: Mapping[int, float]) -> set[int]:
        """Return the variants that cannot be told from the best one, by their means: the interval of the difference holds zero."""
        some = [v for v, mean in means.items() if math.isfinite(mean) and np.isfinite(self.values[v]).all()]
        if len(some) < 2:
            return set()
        best = max(some, key=means.__getitem__)
        return {v for v in some if v != best and self.difference(v, best).holds_zero}


#: The layers (3, B) of numbers, by name, or by defect type and name.
Resampled = dict[Any, np.ndarray]


class Intervals:
    """Resampled numbers of a run.

    Parameters
    ----------
    results : RunCells
        The run's cells.
    """

    def __init__(self, results: RunCells) -> None:
        self.results, self.resamples = results, RESAMPLES
        self._samples: dict[str, Sample] = {}  # one for a category, but where methods had other images
        self._of_variants: dict[int, list[Sample | None]] = {}
        self._defects: dict[int, dict[str, dict[str, np.ndarray]]] = {}

    def _sample(self, cell: CellResult, category: str) -> Sample:
        with opened(cell) as arrays:
            known = "positives" in arrays
        key = f"{category} {cell.record.content}{'' if known else ' of which nothing was kept'}"
        if key not in self._samples:
            self._samples[key] = Sample.of(cell, category, self.resamples)
        return self._samples[key]

    @cached_property
    def _seeds(self) -> np.ndarray:
        """How often each seed is in a resample, (B + 1, S)."""
        return draw([np.arange(len(self.results.seeds))], self.resamples, _seeded("seeds"))

    def _cells(self, category: int, variant: str) -> list[CellResult]:
        """Return the cells of a variant, of each seed; none where one is missing."""
        name, seeds = self.results.categories[category], self.results.seeds
        done = [cell for seed in seeds if (cell := self.results.get(variant, name, seed)) is not None]
        return done if len(done) == len(seeds) else []

    def average(self, category: int, one: Callable[[CellResult, Sample], Resampled]) -> list[Resampled]:
        """Return what `one` gives for the cells of each variant, averaged over resampled seeds; {} where a cell is missing."""
        name, often = self.results.categories[category], self._seeds[1:].T / len(self.results.seeds)  # (S, B)
        averaged: list[Resampled] = []
        for variant in self.results.variants:
            per_seed = [one(cell, self._sample(cell, name)) for cell in self._cells(category, variant)]
            keys = per_seed[0] if per_seed else ()
            averaged.append({key: sum(share * of[key] for share, of in zip(often, per_seed, strict=True)) for key in keys})
        return averaged

    def _samples_of(self, category: int) -> list[Sample | None]:
        """Return the resamples that each variant's cells of a category have, None where it has none."""
        if category not in self._of_variants:
            every = [self._cells(category, variant) for variant in self.results.variants]
            name = self.results.categories[category]
            self._of_variants[category] = [self._sample(cells[0], name) if cells else None for cells in every]
        return self._of_variants[category]

    def _stacked(self, averaged: list[Resampled], names: Sequence[Any]) -> dict[Any, np.ndarray]:
        """Return the layers of each number, (V, 3, B)."""
        none = np.full((len(LAYERS), self.resamples), np.nan)
        return {name: np.stack([of.get(name, none) for of in averaged]) for name in names}

    @cached_property
    def _values(self) -> dict[str, np.ndarray]:
        """The layers of the numbers, (V, C, 3, B) by name, NaN where undefined."""
        columns = [self._stacked(self.average(c, _of_cell), names_resampled()) for c in range(len(self.results.categories))]
        none = np.empty((len(self.results.variants), 0, len(LAYERS), self.resamples))
        return {name: np.stack([column[name] for column in columns], axis=1) if columns else none for name in names_resampled()}

    def _of_defects(self, category: int) -> dict[str, dict[str, np.ndarray]]:
        """Return the layers of the numbers of each defect type of a category, (V, 3, B) by type and name."""
        if category not in self._defects:
            defects = list(self.results.defects(self.results.categories[category]))
            averaged = self.average(category, functools.partial(_of_defects, defects=defects))
            names = names_resampled(by_defect=True)
            stacked = self._stacked(averaged, [(defect, name) for defect in defects for name in names])
            self._defects[category] = {defect: {name: stacked[defect, name] for name in names} for defect in defects}
        return self._defects[category]

    def of(self, name: str, categories: Sequence[int], defect: str = "") -> Resamples | None:
        """Return the intervals of a number of all variants, the mean over some categories; None where none are made.

        Parameters
        ----------
        defect : str
            A defect type, of one category.
        """
        if defect:
            layers = self._of_defects(categories[0]).get(defect, {}).get(name)
            whole = None if layers is None else layers[:, None]
        else:
            whole = self._values[name][:, list(categories)] if name in names_resampled() else None
        if whole is None:
            return None
        share = len(categories)
        parts = [Part(whole[:, k, 0] / share, self._samples_of(c), name, defect) for k, c in enumerate(categories)]
        values, low, high = np.moveaxis(whole.mean(axis=1), 1, 0)
        return Resamples(values, low, high, parts, self._seeds)


def _arrays(cell: CellResult) -> dict[str, np.ndarray]:
    """Return what a cell keeps of its images; {} where another tool or an old version kept nothing."""
    with opened(cell) as arrays:
        return {name: arrays[name] for name in arrays if not name.startswith(("map/", "shift/"))} if "positives" in arrays else {}


def _layers(values: np.ndarray, exact: float, draws: Draws) -> np.ndarray:
    return np.stack([np.clip(exact + (values[1:] - values[0]), 0, 1), draws.low, draws.high])


def _of_cell(cell: CellResult, sample: Sample) -> Resampled:
    """Return the layers of the numbers of a cell, (3, B)."""
    arrays = _arrays(cell)
    if not arrays:
        return {}
    defects = [defect for _, defect in cell.record.items]
    chosen = sample.choices(cell, arrays)
    values = resampled(arrays, sample.weights, chosen, not cell.record.scaled, defects)
    oracle = cell.value("image_threshold_oracle")
    exact = {name: cell.value(name) for name in names_resampled()}
    return {
        name: _layers(values[name], value, _draws(name, values[name], value, arrays, sample, chosen, sample.members(), oracle))
        for name, value in exact.items()
    }


def _of_defects(cell: CellResult, sample: Sample, defects: Sequence[str]) -> Resampled:
    """Return the layers of the numbers of the defect types of a cell, (3, B) by type and name."""
    arrays = _arrays(cell)
    if not arrays:
        return {}
    members = {defect: sample.members(defect) for defect in defects}
    oracle = {name: cell.value(name) for name in ("threshold_oracle", "image_threshold_oracle")}
    chosen, best = sample.choices(cell, arrays), oracle["image_threshold_oracle"]
    found = resampled_defects(arrays, sample.weights, members, oracle, chosen)
    layers: Resampled = {}
    for defect, own in members.items():
        for name, values in found[defect].items():
            exact = cell.record.defects.get(defect, {}).get(name, math.nan)
            layers[defect, name] = _layers(values, exact, _draws(name, values, exact, arrays, sample, chosen, own, best))
    return layers


def _draws(
    name: str,
    values: np.ndarray,
    exact: float,
    arrays: dict[str, np.ndarray],
    sample: Sample,
    chosen: Choices,
    members: np.ndarray,
    oracle: float,
) -> Draws:
    """Return draws of a number of a cell, of the defective images `members` and all normal ones; `oracle`: its image threshold."""
    normal = arrays["positives"] == 0
    scores = arrays["score"].astype(np.float64)
    if not math.isfinite(exact):
        return Draws.none(len(sample.quantiles))
    if name == "image_auroc":
        return confidence.of_auroc(scores[members], scores[normal], sample.quantiles)
    if name.rpartition("_")[0] in ("image_recall", "image_fpr", "image_precision"):
        thresholds = chosen.image[1:] if name.endswith("deployable") else np.full(len(sample.quantiles), oracle)
        hits, alarms = ((scores[which] >= thresholds[:, None]).sum(axis=1) for which in (members, normal))
        number = hits + alarms if "precision" in name else np.full(len(hits), (members if "recall" in name else normal).sum())
        return confidence.of_rate(alarms if "fpr" in name else hits, number, sample.quantiles)
    units = [int(members.sum()), int(normal.sum())]
    units = units[:1] if "recall" in name else units[1:] if "normal_fpr" in name else units
    if min(units) < 2:  # of one image nothing can be learnt about others like it
        return Draws.none(len(sample.quantiles))
    return confidence.of_resamples(values, exact, sample.slopes, *sample.rests_on(name, members), min(units))
